"""The cycle-true array against exact sums, its own latencies, and one PE worked out by hand."""

import numpy as np
import pytest

from golden.array import Array, ArrayInput
from golden.gemm import exact_sums
from golden.pe import (
    FLAG_NAN,
    FLAG_NEG_INF,
    FLAG_POS_INF,
    PE,
    TALLY_LAST,
    TALLY_NEGATIVE,
    TALLY_READ,
    TOKEN_HOLD,
    TOKEN_LAST,
    TOKEN_VALID,
    PEInput,
)
from golden.row_edge import SPECIAL_INF, SPECIAL_NAN, SPECIAL_NEGATIVE, row_edge
from shiftforge import timing
from shiftforge.config import ALIGNED_FORMATS, Config, from_dict
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS

SHAPES = [(1, 1), (2, 3), (4, 4), (3, 2), (1, 5), (17, 1)]


def config(rows: int, cols: int, activation: str = "fp16", weight_bits: int = 3, max_k: int = 32) -> Config:
    return from_dict(
        {
            "array": {
                "rows": rows,
                "cols": cols,
                "activation": activation,
                "accumulator": "aligned",
                "output": "fp32",
                "weight_bits": weight_bits,
                "max_k": max_k,
            }
        }
    )


def random_tiles(cfg: Config, rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tiles of random K, the shortest and the longest among them, with any codes, specials included."""
    words = [1, 1, cfg.max_k_words, *rng.integers(1, cfg.max_k_words + 1, count - 3)]
    depths = [int(n) * cfg.rows for n in words]
    return [
        (
            rng.integers(0, 1 << cfg.activation.bits, (cfg.rows, k)).astype(np.uint32),
            rng.integers(0, 1 << cfg.weights.bits, (k, cfg.cols)).astype(np.uint8),
        )
        for k in depths
    ]


@pytest.mark.parametrize("name", ALIGNED_FORMATS)
def test_row_edge_of_every_code(name: str) -> None:
    fmt = FORMATS[name]
    codes = np.arange(1 << fmt.bits, dtype=np.uint32)
    x, special = row_edge(fmt, codes)
    if not fmt.is_float:
        assert np.array_equal(x, codes.astype(f"u{fmt.bytes}").view(f"i{fmt.bytes}"))
        assert not special.any()
        return
    sign = codes >> (fmt.bits - 1)
    field = (codes >> fmt.fraction_bits) & ((1 << fmt.exponent_bits) - 1)
    fraction = codes & ((1 << fmt.fraction_bits) - 1)
    magnitude = codes & ~np.uint32(fmt.sign_bit)
    for code in codes.tolist():
        hidden = 1 << fmt.fraction_bits if field[code] else 0
        value = (hidden + int(fraction[code])) << max(0, int(field[code]) - 1)
        finite = magnitude[code] <= fmt.max_finite
        assert x[code] == ((-value if sign[code] else value) if finite else 0)
    infinite = magnitude == (fmt.inf if fmt.has_inf else -1)
    nan = (magnitude > fmt.max_finite) & ~infinite
    assert np.array_equal(special & SPECIAL_NAN != 0, nan)
    assert np.array_equal(special & SPECIAL_INF != 0, infinite)
    assert np.array_equal(special & SPECIAL_NEGATIVE != 0, (sign == 1) & fmt.has_inf)


@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("name", ALIGNED_FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_cycles(shape: tuple[int, int], name: str, weight_bits: int) -> None:
    cfg = config(*shape, activation=name, weight_bits=weight_bits)
    rng = np.random.default_rng([*shape, weight_bits, *map(ord, name)])
    array = Array(cfg)
    tiles = random_tiles(cfg, rng, 4)
    bubbles = rng.random(60) < rng.choice([0.0, 0.3])
    given = array.schedule(tiles, bubbles)
    columns = array.readings(array.trace(given))
    ends = np.flatnonzero(given.token[:, 0] & TOKEN_LAST)
    assert len(ends) == len(tiles)
    for c, readings in enumerate(columns):
        assert [(r.tile, r.row) for r in readings] == [(t, r) for t in range(len(tiles)) for r in range(cfg.rows)]
        for reading in readings:
            x, w = tiles[reading.tile]
            sums = exact_sums(x[reading.row : reading.row + 1], w[:, c : c + 1], cfg.activation, cfg.weights)
            assert reading.value == int(sums.integers()[0, 0])
            expected = (
                (FLAG_NAN if sums.nan[0, 0] else 0)
                | (FLAG_POS_INF if sums.pos_inf[0, 0] else 0)
                | (FLAG_NEG_INF if sums.neg_inf[0, 0] else 0)
            )
            assert reading.flags == expected
            assert reading.cycle == ends[reading.tile] + timing.pe(cfg) + timing.read_out(cfg) + reading.row + c


def test_one_pe_by_hand() -> None:
    """Rows of two: 3 * 4, -(5 * 2), a bubble, then a block of -1 * 1 and -(7 * 8), a tile's last: the registers edge by edge."""
    pe = PE(config(2, 1, "int8"))
    inside, ends, last = TOKEN_VALID | TOKEN_HOLD, TOKEN_VALID, TOKEN_VALID | TOKEN_LAST
    idle = (0, TOKEN_HOLD, 0)
    inputs = [(3, inside, 0b010), (5, ends, 0b101), (77, TOKEN_HOLD, 0b111), (-1, inside, 0b000), (7, last, 0b111)]
    acc, captures = [], []
    for x, token, w in [*inputs, *[idle] * 4]:
        given = PEInput(np.array(x), np.array(0, np.uint8), np.array(token, np.uint8), np.array(w, np.uint8))
        state = pe.step(given)
        assert (int(state.x_out), int(state.token_out), int(state.w_out)) == (x, token, w)
        acc.append(int(state.acc))
        captures.append((int(state.tally), int(state.capture_reading)))
    # Products have 11 bits, blocks of two 12; a negative one comes 1 too small: 12, 12 - 11, 1 - 1, 0 - 57.
    assert acc == [0, 12, 1, 1, 0, 4039, 4039, 4039, 4039]
    assert captures[3:] == [
        (TALLY_NEGATIVE | TALLY_READ, 1),
        (0, 0),
        (0, 0),
        (TALLY_NEGATIVE | TALLY_READ | TALLY_LAST, 4039),
        (0, 0),
        (0, 0),
    ]


def test_the_accumulator_wraps_without_harm() -> None:
    """Many tiles of one sign wrap the free-running accumulator; the differences stay exact."""
    cfg = config(1, 1, "int8", weight_bits=2, max_k=4)
    array = Array(cfg)
    tile = (np.full((1, 4), 0x80, np.uint32), np.full((4, 1), 0b01, np.uint8))
    readings = array.readings(array.trace(array.schedule([tile] * 20)))[0]
    assert [r.value for r in readings] == [-128 * 2 * 4] * 20
    assert 1 << cfg.accumulator_bits < 20 * 128 * 2 * 4


def test_wrong_shapes_are_named() -> None:
    array = Array(config(2, 3))
    with pytest.raises(InputError, match="K of a tile must be a multiple of rows = 2, not 3"):
        array.schedule([(np.zeros((2, 3), np.uint32), np.zeros((3, 3), np.uint8))])
    none = np.zeros((5, 2), np.uint8)
    with pytest.raises(InputError, match=r"w of the array must be of shape \(5, 3\), not \(5, 2\)"):
        array.trace(ArrayInput(none.astype(np.int64), none, none, none))
