"""The bit-accurate model of every unit, and the cycle model. NumPy only; torch lives in golden.train alone."""
