"""The gateware, in Amaranth: one unit per file, under the same word as in the golden model."""
