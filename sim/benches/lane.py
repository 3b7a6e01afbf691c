"""Bench of `hw.lane.Lane`: batches with random constants against `golden.rounding` and `golden.post`, codes and flags, ``==``.

Parameters: ``config`` (as `Config.to_dict`), ``seed``, ``batches``, ``size`` (results per batch).
"""

from dataclasses import dataclass

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import FallingEdge

from golden.post import post_process
from golden.rounding import Flags, Overflow, round_sums
from golden.sums import Sums
from shiftforge import timing
from shiftforge.activation import ACTIVATION_KINDS, Activation, fp32_order
from shiftforge.config import Config, from_dict
from shiftforge.formats import FP32, Format
from sim.clock import start_clock
from sim.runner import bench_parameters

FLAGS_CHECKED_ONE_BY_ONE = 24
"""Results of a batch whose own flags are compared; of the others only their disjunction."""

_EDGES = (0x0000_0000, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x0000_0001, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF,
          0xFF7F_FFFF, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Results that share the per-layer constants; `sums` in accumulator units, `seen` the lane's `flags`, fp32 patterns."""

    sums: npt.NDArray[np.object_]
    seen: npt.NDArray[np.int64]
    scale: npt.NDArray[np.uint32]
    bias: npt.NDArray[np.uint32]
    exponent_bias: int
    post: bool
    saturate: bool
    to_activation: bool
    activation: Activation
    residual: npt.NDArray[np.uint32]
    """Codes of the activation format; they count with `add_residual` alone."""
    residual_scale: int
    add_residual: bool

    def destination(self, config: Config) -> Format:
        return config.activation if self.to_activation else config.output

    def expected(self, config: Config, part: slice) -> tuple[npt.NDArray[np.uint32], Flags]:
        """Codes and flags of a part of the batch, by the golden model."""
        seen = self.seen[part]
        exact = Sums.from_integers(
            self.sums[part],
            config.activation.lsb_exponent,
            nan=(seen & 1) != 0,
            pos_inf=(seen & 2) != 0,
            neg_inf=(seen & 4) != 0,
        )
        to = self.destination(config)
        overflow: Overflow = "saturate" if self.saturate else "inf"
        if not self.post:
            codes, flags = round_sums(exact, to, exponent_bias=self.exponent_bias, overflow=overflow)
        else:
            scale, bias = self.scale[part].view(np.float32), self.bias[part].view(np.float32)
            codes, flags = post_process(
                exact,
                scale,
                bias,
                exponent_bias=self.exponent_bias,
                activation=self.activation,
                output=to,
                overflow=overflow,
                residual=self.residual[part] if self.add_residual else None,
                residual_format=config.activation,
                residual_scale=float(np.array(self.residual_scale, np.uint32).view(np.float32)),
            )
        return codes.astype(np.uint32), flags


def _patterns(rng: np.random.Generator, size: int, low: int, high: int) -> npt.NDArray[np.uint32]:
    """Random fp32 patterns with exponent fields in low..high, sparse fractions among them, some edge cases."""
    fraction = rng.integers(0, 1 << 23, size) & -(1 << rng.integers(0, 24, size))
    bits = (rng.integers(0, 2, size) << 31) | (rng.integers(low, high + 1, size) << 23) | fraction
    edge = rng.random(size) < 0.06
    return np.where(edge, rng.choice(_EDGES, size), bits).astype(np.uint32)


def _top(to: Format) -> int:
    """Exponent of a format's largest value."""
    return to.max_exponent if to.is_float else to.bits - 2


def _ends(to: Format) -> tuple[int, ...]:
    """Exponents about the ends of a format's range: the largest, the least normal, the last place, half of it."""
    return tuple(end + d for end in (_top(to), to.min_exponent, to.lsb_exponent - 1) for d in (-1, 0, 1))


def _sums(
    rng: np.random.Generator, config: Config, to: Format, exponent_bias: int, size: int
) -> npt.NDArray[np.object_]:
    """Sums of any length: a significand of about the destination's precision on top, so that ties and near ties abound.

    Some are all ones, and some end where the destination's range does.
    """
    width = config.accumulator_bits - 1
    precision = rng.choice((to.precision, to.precision + 1, to.precision + 2, 25, width), size)
    precision = np.minimum(precision, min(width, 62))
    ones = rng.random(size) < 0.2
    significand = np.where(ones, (1 << 62) - 1, rng.integers(0, 1 << 62, size)) >> (62 - precision)
    significand |= rng.integers(0, 2, size)
    shift = rng.integers(0, 1 << 20, size) % (width - precision + 1)
    aimed = rng.choice(_ends(to), size) - config.activation.lsb_exponent - exponent_bias + 1 - precision
    shift = np.where((rng.random(size) < 0.5) & (aimed >= 0) & (aimed <= width - precision), aimed, shift)
    value = significand.astype(object) << shift.astype(object)
    value = value >> (rng.integers(0, width, size) * (rng.random(size) < 0.2)).astype(object)
    value = value + (rng.integers(-1, 2, size) * (rng.random(size) < 0.5)).astype(object)
    value = np.minimum(np.maximum(value, 0), (1 << width) - 1)
    return np.where(rng.random(size) < 0.5, -value, value)


def _activation(rng: np.random.Generator) -> Activation:
    kind = str(rng.choice(ACTIVATION_KINDS))
    if kind == "leaky":
        return Activation.leaky(int(rng.integers(0, 16)))
    if kind == "clamp":
        finite = [int(b) for b in _patterns(rng, 8, 0, 254) if b & 0x7FFF_FFFF <= 0x7F80_0000]
        lo, hi = sorted(finite[:2], key=fp32_order)
        return Activation("clamp", lo, hi)
    return Activation(kind)


def make_batch(rng: np.random.Generator, config: Config, size: int) -> Batch:
    """A random batch: half of them with exponents where the destination's range ends, a few with specials."""
    to_activation, post = bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
    to = config.activation if to_activation else config.output
    # The last one brings the largest sums to the end of the destination's range.
    largest = config.activation.lsb_exponent + config.accumulator_bits - 2
    biases = [0, int(rng.integers(-8, 9)), int(rng.integers(-128, 128)), int(rng.choice((-128, 127)))]
    biases.append(min(max(_top(to) - largest + int(rng.integers(0, 3)), -128), 127))
    exponent_bias = int(rng.choice(biases))
    sums = _sums(rng, config, to, exponent_bias, size)
    seen = np.zeros(size, np.int64)
    if config.activation.flag_bits:
        special = rng.random(size) < 0.05
        seen = np.where(special, rng.integers(0, 1 << config.activation.flag_bits, size), 0)
    scale = _patterns(rng, size, 0, 254)
    with np.errstate(all="ignore"):
        first = round_sums(Sums.from_integers(sums, config.activation.lsb_exponent), FP32, exponent_bias=exponent_bias)[
            0
        ].view(np.float32)
        if rng.random() < 0.7:  # aim the product at the destination's range
            anywhere = rng.integers(to.min_exponent - 26, max(to.max_exponent, to.bits) + 2, size)
            aim = np.where(rng.random(size) < 0.5, rng.choice(_ends(to), size), anywhere)
            field = aim + 127 - ((first.view(np.uint32) >> 23) & 0xFF).astype(np.int64) + 127
            scale = np.where(rng.random(size) < 0.4, scale & 0xFF80_0000, scale)
            scale = (scale & 0x807F_FFFF) | (np.clip(field, 0, 254) << 23).astype(np.uint32)
        product = (first * scale.view(np.float32)).view(np.uint32)
    # Biases: any, zero, of the product's size or at the edge of its precision, or its negative a few places off.
    gap = np.where(
        rng.random(size) < 0.5, rng.integers(-3, 4, size), rng.integers(20, 29, size) * rng.choice((-1, 1), size)
    )
    near = product.astype(np.int64) + rng.integers(-3, 4, size)
    near = (near & 0x807F_FFFF) | (np.clip(((near >> 23) & 0xFF) + gap, 0, 254) << 23)
    near ^= rng.integers(0, 2, size) << 31
    cancel = product.astype(np.int64) + rng.integers(-2, 3, size) ^ (1 << 31)
    choice = rng.integers(0, 4, size)
    residual, residual_scale, add_residual = _residual(rng, config, size) if config.residual else _NO_RESIDUAL
    bias = np.choose(choice, (_patterns(rng, size, 0, 254).astype(np.int64), np.zeros(size, np.int64), near, cancel))
    return Batch(
        sums=sums,
        seen=seen,
        scale=scale.astype(np.uint32),
        bias=(bias & 0xFFFF_FFFF).astype(np.uint32),
        exponent_bias=exponent_bias,
        post=post,
        saturate=bool(rng.integers(0, 2)),
        to_activation=to_activation,
        activation=_activation(rng),
        residual=residual,
        residual_scale=residual_scale,
        add_residual=add_residual,
    )


_NO_RESIDUAL = (np.zeros(0, np.uint32), 0, False)


def _residual(rng: np.random.Generator, config: Config, size: int) -> tuple[npt.NDArray[np.uint32], int, bool]:
    """Codes of any kind, many subnormal or special, a factor of about 1 or of any size, and whether they count."""
    fmt = config.activation
    codes = rng.integers(0, 1 << fmt.bits, size).astype(np.uint32)
    ends = [0, fmt.sign_bit, 1, fmt.sign_bit | 1, fmt.lowest, fmt.max_finite, (1 << fmt.fraction_bits) - 1]
    if fmt.is_float:
        ends += [fmt.nan, fmt.sign_bit | fmt.nan]
        small = codes & np.uint32(fmt.sign_bit | ((1 << fmt.fraction_bits) - 1))
        codes = np.where(rng.random(size) < 0.2, small, codes).astype(np.uint32)
    codes = np.where(rng.random(size) < 0.1, rng.choice(np.array(ends, np.uint32), size), codes).astype(np.uint32)
    low, high = (120, 133) if rng.random() < 0.7 else (0, 254)
    return codes, int(_patterns(rng, 1, low, high)[0]), bool(rng.random() < 0.8)


async def _stream(dut, config: Config, batch: Batch) -> npt.NDArray[np.uint32]:
    """Stream a batch through the lane, one result per cycle; rows (code, nv, of, nx)."""
    size, latency, offset = len(batch.sums), timing.lane(config), timing.lane_parameters(config)
    dut.exponent_bias.value = batch.exponent_bias
    dut.post.value = batch.post
    dut.saturate.value = batch.saturate
    dut.to_activation.value = batch.to_activation
    dut.act_kind.value = ACTIVATION_KINDS.index(batch.activation.kind)
    dut.act_shift.value = batch.activation.shift
    dut.clamp_lo.value = batch.activation.lo
    dut.clamp_hi.value = batch.activation.hi
    if config.residual:
        dut.residual_scale.value = batch.residual_scale
        dut.add_residual.value = batch.add_residual
    residual, residual_offset = batch.residual.tolist(), timing.lane_residual(config) if config.residual else 0
    # The exponent's constant part has a register of its own: constants precede the first sum by a cycle.
    await FallingEdge(dut.clk)
    has_flags = config.activation.flag_bits > 0
    sums, seen, scale, bias = (array.tolist() for array in (batch.sums, batch.seen, batch.scale, batch.bias))
    outputs = dut.code, dut.nv, dut.of, dut.nx
    found = np.zeros((size, 4), np.uint32)
    for cycle in range(size + latency):
        if cycle < size:
            dut.sum.value = sums[cycle]
            if has_flags:
                dut.flags.value = seen[cycle]
        if 0 <= cycle - offset < size:
            dut.scale.value = scale[cycle - offset]
            dut.bias.value = bias[cycle - offset]
        elif cycle - offset == size:  # a lane that samples them late would see the last ones twice
            dut.scale.value = dut.bias.value = 0x7FC0_0000
        if (
            config.residual and 0 <= cycle - residual_offset <= size
        ):  # a lane that samples them late would see the last twice
            last = cycle - residual_offset == size
            dut.residual.value = config.activation.lowest if last else residual[cycle - residual_offset]
        if cycle >= latency:
            found[cycle - latency] = [int(port.value) for port in outputs]
        await FallingEdge(dut.clk)
    return found


@cocotb.test()
async def equals_the_golden_model(dut) -> None:
    """Every code, and the flags, one by one for the first results of each batch and as a whole for the others."""
    parameters = bench_parameters()
    table = parameters["config"]
    assert isinstance(table, dict)
    config = from_dict(table)
    rng = np.random.default_rng(int(str(parameters["seed"])))
    await start_clock(dut)
    for number in range(int(str(parameters["batches"]))):
        batch = make_batch(rng, config, int(str(parameters["size"])))
        found = await _stream(dut, config, batch)
        codes, _ = batch.expected(config, slice(None))
        different = np.flatnonzero(found[:, 0] != codes)
        if different.size:
            i = int(different[0])
            raise AssertionError(
                f"code {i} of batch {number} must be {codes[i]:#x}, not {found[i, 0]:#x} ({different.size} differ): "
                f"sum {batch.sums[i]}, seen {batch.seen[i]}, scale {batch.scale[i]:#x}, bias {batch.bias[i]:#x}, "
                f"{batch.exponent_bias=}, {batch.post=}, {batch.saturate=}, to {batch.destination(config).name}, "
                f"{batch.activation}"
                + (f", residual {batch.residual[i]:#x} * {batch.residual_scale:#x}" if batch.add_residual else "")
            )
        parts = [slice(i, i + 1) for i in range(FLAGS_CHECKED_ONE_BY_ONE)] + [slice(FLAGS_CHECKED_ONE_BY_ONE, None)]
        for part in parts:
            raised = tuple(bool(found[part, i].any()) for i in (1, 2, 3))
            _, flags = batch.expected(config, part)
            assert raised == (flags.nv, flags.of, flags.nx), (
                f"flags (nv, of, nx) of {part} of batch {number} must be {flags}, not {raised}: sums {batch.sums[part][:4]}, "
                f"{batch.exponent_bias=}, {batch.post=}, {batch.saturate=}, to {batch.destination(config).name}, "
                f"{batch.activation}"
            )
