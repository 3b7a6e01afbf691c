"""Proofs of the gateware: one miter per unit and format, each with seeded faults that it must refute (`python -m sim.prove`)."""
