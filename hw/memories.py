"""The three on-chip memories: block RAM with an output register (`timing.MEMORY_READ`)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.instance import Ports
from shiftforge.config import Config


class WordMemory(wiring.Component):
    """One write port, one read port, whole words; `data` follows `address` by `timing.MEMORY_READ` cycles.

    Parameters
    ----------
    words, word_bits : int

    Members
    -------
    write, write_address, write_data : In
    address : In
    data : Out
    """

    def __init__(self, words: int, word_bits: int):
        self.words, self.word_bits = words, word_bits
        super().__init__(
            {
                "write": In(1),
                "write_address": In(range(words)),
                "write_data": In(word_bits),
                "address": In(range(words)),
                "data": Out(word_bits),
            }
        )

    @property
    def module_name(self) -> str:
        return f"sf_memory_{self.words}x{self.word_bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=self.word_bits, depth=self.words, init=[])
        store, fetch = words.write_port(), words.read_port()
        m.d.comb += [
            store.addr.eq(self.write_address),
            store.data.eq(self.write_data),
            store.en.eq(self.write),
            fetch.addr.eq(self.address),
        ]
        m.d.sync += self.data.eq(fetch.data)
        return m


class ActivationMemory(wiring.Component):
    """`rows` banks of one element each, so that a layer's results land element by element, wherever their channel falls.

    Reads give whole words of `rows` elements; writes have an address and an enable per bank.

    Attributes
    ----------
    bank : WordMemory
        Instantiated here, emitted once by `hw.verilog`.

    Members
    -------
    write_b, write_address_b, write_data_b : In, one of each per bank b
    address : In
    data : Out(activation_word_bits)
    """

    def __init__(self, config: Config):
        self.config = config
        self.bank = WordMemory(config.activation_words, config.activation.bits)
        address = range(config.activation_words)
        members: dict[str, wiring.Member] = {"address": In(address), "data": Out(config.activation_word_bits)}
        for b in range(config.rows):
            members[f"write_{b}"] = In(1)
            members[f"write_address_{b}"] = In(address)
            members[f"write_data_{b}"] = In(config.activation.bits)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements: list[Signal] = []
        for b in range(self.config.rows):
            bank = Ports(self.bank, f"bank_{b}")
            m.submodules[f"bank_{b}"] = bank.instance
            m.d.comb += [
                bank["write"].eq(getattr(self, f"write_{b}")),
                bank["write_address"].eq(getattr(self, f"write_address_{b}")),
                bank["write_data"].eq(getattr(self, f"write_data_{b}")),
                bank["address"].eq(self.address),
            ]
            elements.append(bank["data"])
        m.d.comb += self.data.eq(Cat(*elements))
        return m
