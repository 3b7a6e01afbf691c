"""Latencies in clock cycles: the gateware is built to them and the cycle model reads them. Pure Python.

A latency of n means: a value that a unit samples at rising edge t is visible at its output after edge t + n - 1, so that the next
unit samples it at edge t + n.
"""

from shiftforge.banks import WORDS
from shiftforge.config import Config, ceil_div, power_of_two_at_least
from shiftforge.formats import FP32, Format

MEMORY_READ = 2
"""Block RAM with its output register."""
ROW_FEED = 2
"""From an element at its bank to the row's code: one of four banks, one of those or zero."""
ROW_EDGE = 4
"""Activation code to fixed point, all formats."""
COLUMN = 4
"""Column reader (aligned): from the capture of a tile's last block to the tile's sum in the drain buffer. Reading before;
difference; correction; the blocks before, and write."""
BANKED_EDGE = 3
"""Activation code and token to shifted significand, bank and what to do with it (banked accumulators)."""
BANKED_PE = 2
"""From a PE's inputs in a drain slot to the lower half of the word in its capture register (banked accumulators)."""
BANKED_COLUMN = 3
"""Column reader of banked accumulators: from the capture of a word's lower half to its sum with the banks below, in the drain
buffer."""
BANK_SETTLE = 2
"""Least distance of slots that may use the same word other than product after product: a product and the drain slot after it, or a
drain slot and the product after it."""
WIPED = WORDS
"""The first cycle after a reset in which a product may be issued with banked accumulators: all words are cleared before, one per
cycle."""
DRAIN_READ = 3
"""From a drain step's buffer address, which each column has a register of, to the lanes' sum input."""
CREDIT = 2
"""From the cycle in which a step leaves a full output FIFO to the one in which the drain issues another."""

HEADER_CHECK = 2
"""From a header's last beat to the cycle that decides what becomes of the packet."""
LAYER_CHECK = 2
"""From a descriptor's last beat to the cycle that starts the layer or refuses it."""
DRAIN_SETS = 2
"""Tiles that a column's drain buffer holds: one drains while the next is written."""


def read_out_ends(config: Config) -> int:
    """Parts of a column's rows that are read out side by side: the adder of a banked column has an OR for two of them."""
    return 2 if config.banked else 1


def or_levels(rows: int) -> int:
    """Registered OR tree of radix 4 over that many rows: ceil(log4(rows)) levels, at least one."""
    levels, covered = 1, 4
    while covered < rows:
        levels, covered = levels + 1, covered * 4
    return levels


def read_out(config: Config) -> int:
    """Levels of the OR trees, one over each of the `read_out_ends` of a column's rows."""
    return or_levels(ceil_div(config.rows, read_out_ends(config)))


def drain_spacing(config: Config) -> int:
    """Least distance of drain slots: the rows' words must not meet in a column, nor a row's next word its unfinished sum there."""
    return max(config.rows, BANKED_COLUMN)


def row_edge(config: Config) -> int:
    """Row edge of the configuration's accumulator."""
    return BANKED_EDGE if config.banked else ROW_EDGE


def pe(config: Config) -> int:
    """From the inputs of a PE of the configuration's accumulator to its capture register.

    Aligned: shift by the lower exponent bits, add, capture. Two lower bits, as 4-bit weights have them, take a register each; the
    upper bit's shift is part of the adder.
    """
    return BANKED_PE if config.banked else 3 + max(0, config.weights.exponent_bits - 2)


def reset(config: Config) -> int:
    """Cycles of a machine's reset after its pin's, or as a soft one. The PEs have none of their own, but for aligned accumulators:
    what is in the array leaves it meanwhile, and the columns' readers, which reset for as long, take none of it."""
    return config.cols + pe(config) + read_out(config) + 1


def column(config: Config) -> int:
    """From a capture to its sum in the column's drain buffer: a tile's, or with banked accumulators its last bank's."""
    return BANKED_COLUMN if config.banked else COLUMN


def feed(config: Config) -> int:
    """From an activation read's address to the first PE of its row."""
    return MEMORY_READ + ROW_FEED + row_edge(config)


def last_slot_to_first_write(config: Config) -> int:
    """From issuing a tile's last slot (banked: its last drain slot) to the write of PE (0, 0)'s sum into its drain buffer."""
    return feed(config) + pe(config) + read_out(config) + column(config)


# ---- post-processing lane (hw/lane.py): registers from one unit's input to its output

NORMALIZE_PAIRED_LEVELS = 4
"""Shifts by 1, 2, 4 and 8 share a register in pairs; each longer shift has a register of its own."""


def normalize(levels: int) -> int:
    """Left-shifting normaliser (`hw.normalize.Normalize`) of that many levels: shifts by 1, 2, .. 2**(levels - 1)."""
    paired = min(levels, NORMALIZE_PAIRED_LEVELS)
    return levels - paired + ceil_div(paired, 2)


PACK = 2
"""Round up or not, then overflow and specials (`hw.rounding.Pack`)."""
ROUND = 3 + PACK
"""Exponent to shift, long shifts, short shifts, then pack (`hw.rounding.Round`)."""
FP32_LEVELS = 5
"""Normaliser levels of the binary32 product (after which at most 24 leading zeros matter) and of the sum."""
FP32_MULTIPLY = 4 + normalize(FP32_LEVELS) + ROUND
"""Decode, partial products, their middle sum, product; normalise; round."""
FP32_ADD = 5 + normalize(FP32_LEVELS) + PACK
"""Compare, swap, align twice, add; normalise (exact below the normal range, so nothing is shifted back); pack."""
ACTIVATION = 2
"""Compare, select."""
RESIDUAL_READ = MEMORY_READ + 1
"""From a drain step's address to the elements of its residual, one per lane (`hw.residual.Residual`)."""

POOL = MEMORY_READ + 3
"""From the read of a window's last word to the write of its maximum (`hw.pool.Pool`): keys, maximum, code."""


def resolve_levels(config: Config) -> int:
    """Levels of the normaliser of an accumulator."""
    return max(1, (config.accumulator_bits - 1).bit_length())


def lane_resolve(config: Config) -> int:
    """From the sum to its magnitude, normalised."""
    return 1 + normalize(resolve_levels(config))


def lane_parameters(config: Config) -> int:
    """From a lane's `sum` to the cycle in which it samples that result's `scale` and `bias`: the sum is now binary32."""
    return lane_resolve(config) + ROUND


def lane_rounds_activation(config: Config) -> bool:
    """True when a destination can hold values below 2**-126, so that a leaky slope's product is rounded to binary32 on its own.

    For all others such a value becomes zero and inexact, rounded once or twice.
    """
    return any(f.is_float and f.lsb_exponent <= FP32.min_exponent for f in (config.activation, config.output))


def widen_levels(fmt: Format) -> int:
    """Levels of the normaliser that a format's magnitudes pass on the way to binary32; 0 for formats with its exponents."""
    if fmt.exponent_bits == FP32.exponent_bits:
        return 0
    return ((fmt.precision if fmt.is_float else fmt.bits) - 1).bit_length()


def widen(fmt: Format) -> int:
    """A code to binary32 (`hw.widen.Widen`): magnitude, then normalise."""
    return 1 + normalize(widen_levels(fmt))


def lane_residual(config: Config) -> int:
    """From a lane's `sum` to the cycle in which it samples that result's `residual`: its product meets the sum with the bias."""
    return lane_parameters(config) + FP32_ADD - widen(config.activation)


def lane(config: Config) -> int:
    """From a lane's `sum` to its `code`."""
    leaky = ROUND if lane_rounds_activation(config) else 0
    additions = 2 if config.residual else 1
    return lane_parameters(config) + FP32_MULTIPLY + additions * FP32_ADD + ACTIVATION + leaky + ROUND


def fifo_steps(config: Config) -> int:
    """Depth of the output FIFO in drain steps: what the lanes hold in flight, and some more so that it never limits the rate."""
    return power_of_two_at_least(DRAIN_READ + lane(config) + 16)
