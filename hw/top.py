"""Top: the core behind two AXI4-Streams and an AXI4-Lite register file."""

from amaranth.hdl import DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw import reset
from hw.core import Core
from hw.instance import Unit
from hw.registers import COUNTERS, Registers, axi_lite_members
from hw.streams import input_stream_members, output_stream_members
from shiftforge.config import Config

TOP_NAME = "shiftforge_top"


class Top(wiring.Component):
    """The accelerator. Ports ``clk``, ``rst`` (synchronous, active high), ``s_axis_*``, ``m_axis_*``, ``s_axil_*``.

    Parameters
    ----------
    config : Config
        `NotBuiltError` where the gateware does not build it.
    """

    def __init__(self, config: Config):
        self.config = config
        self.core = Core(config)
        self._reset = reset.ResetRegister()
        super().__init__(
            {
                **input_stream_members(config),
                **output_stream_members(config),
                **axi_lite_members(),
            }
        )

    @property
    def units(self) -> tuple[Unit, ...]:
        return (*self.core.units, self._reset)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.registers = registers = Registers(self.config)
        core = self.core
        reset.add_domains(m, self._reset, registers.soft_reset, (reset.CORE, *core.resets))
        m.submodules.core = DomainRenamer(reset.CORE)(core)
        for name, member in axi_lite_members().items():
            if member.flow == In:
                m.d.comb += getattr(registers, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(registers, name))
        for name in ("tdata", "tkeep", "tvalid", "tlast"):
            m.d.comb += getattr(core, f"s_axis_{name}").eq(getattr(self, f"s_axis_{name}"))
        for name in ("tdata", "tkeep", "tlast"):
            m.d.comb += getattr(self, f"m_axis_{name}").eq(getattr(core, f"m_axis_{name}"))
        resetting = ResetSignal(reset.CORE)  # the core is as it was, yet
        m.d.comb += [
            self.s_axis_tready.eq(core.s_axis_tready & ~resetting),
            self.m_axis_tvalid.eq(core.m_axis_tvalid & ~resetting),
            core.m_axis_tready.eq(self.m_axis_tready),
            core.enable.eq(registers.enable),
            core.clear_errors.eq(registers.clear_errors),
            core.clear_flags.eq(registers.clear_flags),
        ]
        for name in ("errors", "error_sequence", "flags", "status", *COUNTERS):
            m.d.comb += getattr(registers, name).eq(getattr(core, name))
        return m
