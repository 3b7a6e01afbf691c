"""Latencies in clock cycles: the gateware is built to them and the cycle model reads them. Pure Python.

A latency of n means: a value that a unit samples at rising edge t is visible at its output after edge t + n - 1, so that the next
unit samples it at edge t + n.
"""

from shiftforge.config import Config

MEMORY_READ = 2
"""Block RAM with its output register."""
WORD_MASK = 1
"""The register after zero padding of an activation word."""
ROW_FEED = 1
"""Parallel-in serial-out register of a row."""
ROW_EDGE = 2
"""Activation code to fixed point, all formats."""
FEED = MEMORY_READ + WORD_MASK + ROW_FEED + ROW_EDGE
"""From an activation read's address to the first PE of its row."""
PE = 3
"""From a PE's inputs to its capture register (aligned accumulator)."""
COLUMN = 1
"""Column reader: subtract the previous reading, write the drain buffer."""


def read_out(config: Config) -> int:
    """Registered OR tree of radix 4 over the rows of a column: ceil(log4(rows)) levels, at least one."""
    levels, covered = 1, 4
    while covered < config.rows:
        levels, covered = levels + 1, covered * 4
    return levels


def last_slot_to_first_write(config: Config) -> int:
    """From issuing a tile's last slot to the write of PE (0, 0)'s sum into its drain buffer."""
    return FEED + PE + read_out(config) + COLUMN
