"""Processing elements to compare with, written for this comparison: multipliers, zero-containing codes, and a rounding adder.

Each stands behind the ports of `hw.pe.PE` (activation and token to the right, weight down, capture), so that the same
`hw.array.Array` takes it. `bench.baselines.catalogue` names them all; `tests/bench/baselines` simulates them against exact sums.
"""
