"""An adder of either sign behind a choice: the technology module of the aligned accumulator with 2-bit weights."""

from amaranth.hdl import Module, Signal, ValueLike

from hw.tech.adder import Adder


class AddSigned(Adder):
    """``sum = a + ((c & d) ^ negative)``, modulo ``2**width``; combinational.

    Precondition: where `negative` has a 1, so has ``c | d``. Other inputs give no meaningful sum.

    Where one of `c` and `d` is all ones, it adds the other one or its complement: a choice without a select signal, made by
    registers before it that are *set* when they do not count. Where nothing is to be added, c, d and negative are 0. Emitted once
    per width as a module of its own, in plain Verilog. `hw.tech.ecp5` has the same function in carry cells, where the AND and the
    XOR cost nothing, thanks to the precondition; `sim.synth` puts that one in the place of this one. SAT proves that both are
    equal, and that the precondition holds in `hw.pe`.

    Parameters
    ----------
    width : int
        At least 1.

    Members
    -------
    a, c, d : In(width)
    negative : In(width)
        A bit each, so that more than one register may drive a long chain.
    sum : Out(width)
    """

    def __init__(self, width: int):
        super().__init__(width, dict.fromkeys(("a", "c", "d", "negative"), width))

    @property
    def module_name(self) -> str:
        return f"sf_add_signed_{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.sum.eq(self.a + ((self.c & self.d) ^ self.negative))
        return m

    def add(self, m: Module, name: str, **ports: ValueLike) -> Signal:
        """As of `Adder`; the inputs are signals ``<name>_<port>``, for proofs to look at."""
        inputs = {port: Signal(self.width, name=f"{name}_{port}") for port in ports}
        m.d.comb += [inputs[port].eq(value) for port, value in ports.items()]
        return super().add(m, name, **inputs)
