"""The layer descriptor as the gateware holds it, and what the machine checks before it runs one."""

from amaranth.hdl import Cat, Const, Signal, Value, signed
from amaranth.lib import data

from shiftforge.activation import ACTIVATION_KINDS
from shiftforge.config import Config
from shiftforge.packets import LAYER_FIELDS, LAYER_WORDS, Field


def held_fields(config: Config) -> tuple[Field, ...]:
    """Fields with a register; the others must be 0 and are only checked."""
    return tuple(field for field in LAYER_FIELDS if not field.fixed(config))


def layer_layout(config: Config) -> data.StructLayout:
    """One member per held field, under its name in `shiftforge.packets`."""
    return data.StructLayout({f.name: signed(f.width) if f.signed else f.width for f in held_fields(config)})


def fixed_bits(config: Config, index: int) -> int:
    """Mask of the bits of descriptor word `index` that must be 0."""
    assert 0 <= index < LAYER_WORDS
    mask = 0
    for field in LAYER_FIELDS:
        if field.word == index and field.fixed(config):
            mask |= ((1 << field.width) - 1) << field.low
    return mask


def _between(value: Value, low: int, high: int) -> Value:
    return (value >= low) & (value <= high)


def _bounds(low: Value, high: Value) -> Value:
    """1 where both binary32 patterns are numbers and low <= high, -0 below +0."""

    def order(bits: Value) -> Value:
        return Value.cast(bits ^ Cat(bits[31].replicate(31), Const(0, 1))).as_signed()

    infinity = 0x7F80_0000
    return (low[:31] <= infinity) & (high[:31] <= infinity) & (order(low) <= order(high))


def in_range(layer: data.View, config: Config) -> Value:
    """1 where every field of `layer` is one that the machine can run; refused as DESCRIPTOR otherwise.

    K up to `max_k` is what keeps the accumulators from wrapping, so it is checked here, not trusted; and a layer that overwrote
    the half that it reads would give results that depend on timing.
    """
    last_k = config.max_k - (config.max_k_words - 1) * config.rows
    half = (config.activation_words // 2).bit_length() - 1
    checks = [
        layer.pixels != 0,
        _between(layer.k_words, 1, config.max_k_words),
        _between(layer.k_tail, 1, config.rows),
        (layer.k_words != config.max_k_words) | (layer.k_tail <= last_k),
        layer.n_tiles != 0,
        _between(layer.n_tail, 1, config.cols),
        layer.output_bank < config.rows,
        layer.input_address < config.activation_words,
        layer.output_address < config.activation_words,
        layer.weight_address < config.weight_words,
        layer.parameter_address < config.parameter_words,
        layer.to_stream | (layer.input_address[half] != layer.output_address[half]),
        ~layer.post | (layer.act_kind != ACTIVATION_KINDS.index("clamp")) | _bounds(layer.clamp_lo, layer.clamp_hi),
    ]
    good: Value = Const(1, 1)
    for check in checks:
        good = good & check
    return good


def store_word(config: Config, layer: Signal, index: int, word: Value) -> list[object]:
    """Statements that take descriptor word `index` into the held fields."""
    statements: list[object] = []
    for field in held_fields(config):
        if field.word == index:
            statements.append(layer[field.name].eq(word[field.low : field.low + field.width]))
    return statements
