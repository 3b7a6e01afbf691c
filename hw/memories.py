"""The three on-chip memories: block RAM with an output register (`timing.MEMORY_READ`)."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.instance import Ports
from shiftforge.config import Config

_FREE = {"no_rw_check": 1}
"""What is read from a word while it is written is free, for it is never used: a layer may not write a page that it reads
(`hw.layer.in_range`), nor a packet one in use (`hw.decoder`). Without this, synthesis keeps what is written in flip-flops."""


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
        m.submodules.words = words = memory.Memory(shape=self.word_bits, depth=self.words, init=[], attrs=_FREE)
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

    Reads and writes have an address per bank. A machine with residuals has every bank twice, written together, for a second read.

    Attributes
    ----------
    bank : WordMemory
        Instantiated here, emitted once by `hw.verilog`.

    Members
    -------
    write_b, write_address_b, write_data_b : In, one of each per bank b
    address_b : In, one per bank b ; data : Out(activation_word_bits)
    residual_address_b : In, one per bank b ; residual_data : Out(activation_word_bits), absent without `residual`
    """

    def __init__(self, config: Config):
        self.config = config
        self.bank = WordMemory(config.activation_words, config.activation.bits)
        address = range(config.activation_words)
        members: dict[str, wiring.Member] = {"data": Out(config.activation_word_bits)}
        for b in range(config.rows):
            members[f"write_{b}"] = In(1)
            members[f"write_address_{b}"] = In(address)
            members[f"write_data_{b}"] = In(config.activation.bits)
            members[f"address_{b}"] = In(address)
            if config.residual:
                members[f"residual_address_{b}"] = In(address)
        if config.residual:
            members["residual_data"] = Out(config.activation_word_bits)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._banks(m, "bank", "address", self.data)
        if self.config.residual:
            self._banks(m, "residual_bank", "residual_address", self.residual_data)
        return m

    def _banks(self, m: Module, name: str, address: str, data: Signal) -> None:
        """One copy of the banks, each read at its own port ``<address>_b``."""
        elements: list[Signal] = []
        for b in range(self.config.rows):
            bank = Ports(self.bank, f"{name}_{b}")
            m.submodules[f"{name}_{b}"] = bank.instance
            m.d.comb += [
                bank["write"].eq(getattr(self, f"write_{b}")),
                bank["write_address"].eq(getattr(self, f"write_address_{b}")),
                bank["write_data"].eq(getattr(self, f"write_data_{b}")),
                bank["address"].eq(getattr(self, f"{address}_{b}")),
            ]
            elements.append(bank["data"])
        m.d.comb += data.eq(Cat(*elements))
