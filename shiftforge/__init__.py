"""ShiftForge: exact accelerators for networks whose weights are zero-free powers of two."""
