"""cocotb test modules, one per unit; run by sim.runner."""
