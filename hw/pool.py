"""The maximum over windows: words of the activation memory in, the largest of each window's out, one word per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain, delayed, register
from hw.layer import layer_layout
from shiftforge import timing
from shiftforge.config import Config
from shiftforge.formats import Format

READING = data.StructLayout({"first": 1, "outside": 1, "write": 1, "pass_end": 1, "layer_end": 1})
"""Goes with a word that is read: it is its window's first; lies outside the image; is its window's last, of a valid pixel; the
last of its channel word; the last of the layer. All but `first` and `outside` are 0 where no word is read."""


def order_key(fmt: Format, code: Value) -> Value:
    """An unsigned number, as wide as the code, in the order of the values: -0 just below +0, every NaN on top and the same."""
    sign = code[-1]
    if not fmt.is_float:
        return Value.cast(Cat(code[:-1], ~sign))
    magnitude = code[:-1]
    largest = fmt.inf if fmt.has_inf else fmt.max_finite
    key = Cat(magnitude ^ sign.replicate(len(magnitude)), ~sign)
    return Mux(magnitude > largest, fmt.nan | fmt.sign_bit, key)


def code_of_key(fmt: Format, key: Value) -> Value:
    """The code with that key."""
    if not fmt.is_float:
        return Value.cast(Cat(key[:-1], ~key[-1]))
    return Value.cast(Cat(key[:-1] ^ (~key[-1]).replicate(len(key) - 1), ~key[-1]))


def lowest_key(fmt: Format) -> int:
    """The key of `Format.lowest`, which no key is below."""
    return fmt.lowest ^ ((1 << fmt.bits) - 1) if fmt.is_float else 0


class Pool(wiring.Component):
    """Element by element the largest of the words of each window, written where the layer's results belong.

    ::

        data --(key; the lowest outside)--[reg]--> max --[reg best]--+--(code)--[reg]--> write_data
                                                    ^                |
                                                    +---- rows - 1 --+      (a word of the same pixel comes every `rows` cycles)

    Words come as `Engine` reads them: block by block, of each of the tile's pixels in turn, without a pause within a tile. A word
    that is read in cycle t is at `data` in cycle t + ``timing.MEMORY_READ``; the window that it ends is written in cycle
    t + ``timing.POOL``, and the pulse of `layer_written` comes one cycle later.
    Source: docs/numbers.md; `golden.pool` is the same in software.

    Parameters
    ----------
    config : Config

    Members
    -------
    layer, start : In
    reading : In(READING)
        Of the word read in this cycle.
    data : In(activation_word_bits)
    writing : Out(1), write_address, write_data : Out
        A whole word.
    layer_written : Out(1)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "reading": In(READING),
                "data": In(config.activation_word_bits),
                "writing": Out(1),
                "write_address": Out(range(config.activation_words)),
                "write_data": Out(config.activation_word_bits),
                "layer_written": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer, fmt = self.config, self.layer, self.config.activation
        rows, width = config.rows, fmt.bits
        arrived = chain(m, self.reading.as_value(), timing.MEMORY_READ, "arrived")
        compared = data.View(READING, chain(m, arrived, 1, "compared"))
        found = data.View(READING, chain(m, compared.as_value(), 1, "found"))
        outside = data.View(READING, arrived).outside
        first = compared.first

        results: list[Value] = []
        for i in range(rows):
            key = order_key(fmt, self.data.word_select(i, width))
            key = register(m, Mux(outside, Const(lowest_key(fmt), width), key), f"key_{i}")
            best = Signal(width, name=f"best_{i}", reset_less=True)
            before = delayed(m, best, rows - 1, f"before_{i}")
            m.d.sync += best.eq(Mux(first | (key > before), key, before))
            results.append(code_of_key(fmt, best))

        word, channel_word = Signal(range(config.activation_words)), Signal(range(config.activation_words))
        with m.If(self.start):
            m.d.sync += [word.eq(layer.output_address), channel_word.eq(layer.output_address)]
        with m.Elif(found.pass_end):
            m.d.sync += [word.eq(channel_word + 1), channel_word.eq(channel_word + 1)]
        with m.Elif(found.write):
            m.d.sync += word.eq(word + layer.output_stride)
        ending = Signal()
        m.d.sync += [
            self.writing.eq(found.write),
            self.write_address.eq(word),
            self.write_data.eq(Cat(*results)),
            ending.eq(found.layer_end),
            self.layer_written.eq(ending),
        ]
        return m
