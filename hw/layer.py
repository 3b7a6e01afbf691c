"""The layer descriptor as the gateware holds it, and what the machine checks before it runs one."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed
from amaranth.lib import data

from shiftforge.activation import ACTIVATION_KINDS
from shiftforge.config import Config
from shiftforge.packets import LAYER_FIELD, LAYER_FIELDS, LAYER_WORDS, MAX_POOL_WORDS, Field, MemoryPort, memory_ports


def held_fields(config: Config) -> tuple[Field, ...]:
    """Fields with a register; the others must be 0 and are only checked."""
    return tuple(field for field in LAYER_FIELDS if not field.fixed(config))


def layer_layout(config: Config) -> data.StructLayout:
    """One member per held field, under its name in `shiftforge.packets`."""
    return data.StructLayout({f.name: signed(f.width) if f.signed else f.width for f in held_fields(config)})


def option(layer: data.View, name: str, config: Config) -> Value:
    """A one-bit field of `layer`, 0 on a machine that has no such option."""
    return Const(0, 1) if LAYER_FIELD[name].fixed(config) else Value.cast(layer[name])


def within_page(address: Value, start: Value, page_words: int) -> Value:
    """`address` in the page of `start`: a layer never leaves the page of a memory that it starts in."""
    low = page_words.bit_length() - 1
    return Value.cast(Cat(address[:low], start[low : len(address)]))


def page_of(address: Value, port: MemoryPort) -> Value:
    """The page of a memory that an address lies in."""
    return Value.cast(address[port.page.bit_length() - 1 : port.words.bit_length() - 1])


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
    a page that it reads would give results that depend on timing.
    """
    last_k = config.max_k - (config.max_k_words - 1) * config.rows
    pool, residual = option(layer, "pool_kind", config), option(layer, "residual", config)
    activations = memory_ports(config)[2]
    output = page_of(layer.output_address, activations)
    k = _between(layer.k_words, 1, config.max_k_words)
    k &= (layer.k_words != config.max_k_words) | (layer.k_tail <= last_k)
    checks = [
        layer.pixels != 0,
        Mux(pool, _between(layer.k_words, 1, MAX_POOL_WORDS), k),
        _between(layer.k_tail, 1, config.rows),
        layer.n_tiles != 0,
        _between(layer.n_tail, 1, config.cols),
        layer.output_bank < config.rows,
        layer.input_address < config.activation_words,
        layer.output_address < config.activation_words,
        layer.weight_address < config.weight_words,
        layer.parameter_address < config.parameter_words,
        layer.to_stream | (page_of(layer.input_address, activations) != output),
        ~layer.post | (layer.act_kind != ACTIVATION_KINDS.index("clamp")) | _bounds(layer.clamp_lo, layer.clamp_hi),
    ]
    if config.residual:
        checks += [
            layer.residual_bank < config.rows,
            layer.residual_address < config.activation_words,
            layer.to_stream | ~residual | (page_of(layer.residual_address, activations) != output),
            layer.post | ~residual,
        ]
    if config.max_pool:
        alone = ~layer.to_stream & ~layer.post & ~residual & (layer.output_bank == 0) & (layer.k_tail == config.rows)
        checks.append(~pool | alone)
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
