"""AXI4-Lite slave over the register map of `shiftforge.registers`."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from shiftforge import timing
from shiftforge.config import Config
from shiftforge.formats import FORMATS
from shiftforge.registers import ADDRESS_BITS, ID_VALUE, REGISTERS, VERSION_VALUE, Address, Control, Error, Status

OKAY, SLVERR = 0b00, 0b10
"""AMBA AXI4 specification, table A3-4."""

COUNTERS = ("cycles", "busy_cycles", "slots", "stall_drain", "stall_input", "stall_output", "packets")


def axi_lite_members() -> dict[str, wiring.Member]:
    """The slave's ports, under their names in the generated Verilog."""
    return {
        "s_axil_awaddr": In(ADDRESS_BITS),
        "s_axil_awprot": In(3),
        "s_axil_awvalid": In(1),
        "s_axil_awready": Out(1),
        "s_axil_wdata": In(32),
        "s_axil_wstrb": In(4),
        "s_axil_wvalid": In(1),
        "s_axil_wready": Out(1),
        "s_axil_bresp": Out(2),
        "s_axil_bvalid": Out(1),
        "s_axil_bready": In(1),
        "s_axil_araddr": In(ADDRESS_BITS),
        "s_axil_arprot": In(3),
        "s_axil_arvalid": In(1),
        "s_axil_arready": Out(1),
        "s_axil_rdata": Out(32),
        "s_axil_rresp": Out(2),
        "s_axil_rvalid": Out(1),
        "s_axil_rready": In(1),
    }


class Registers(wiring.Component):
    """Reads answer one cycle after the address, writes one cycle after address and data (which may come in any order).

    An address that is not in the map, and a write to a read-only register, answers SLVERR and changes nothing. A write acts on the
    byte lanes that wstrb names; the two lowest address bits are not looked at.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axil_* : the bus
    errors, error_sequence, flags, status, <counter> : In
    clear_errors, clear_flags : Out
        Bits to clear, for one cycle.
    enable : Out(1)
    soft_reset : Out(1)
        For `timing.reset` cycles, after ``rst`` as well: what waits for the array to run empty.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                **axi_lite_members(),
                "errors": In(len(Error)),
                "error_sequence": In(16),
                "flags": In(3),
                "status": In(len(Status)),
                **{name: In(32) for name in COUNTERS},
                "clear_errors": Out(len(Error)),
                "clear_flags": Out(3),
                "enable": Out(1, init=1),
                "soft_reset": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        names = list(FORMATS)
        formats = names.index(config.activation.name) | names.index(config.output.name) << 8
        options = (config.activation_pages.bit_length() - 2) | config.residual << 2 | config.max_pool << 3
        values = {
            Address.ID: Const(ID_VALUE, 32),
            Address.VERSION: Const(VERSION_VALUE, 32),
            Address.CONFIG_HASH: Const(config.hash, 32),
            Address.SHAPE: Const(config.rows | config.cols << 16, 32),
            Address.FORMATS: Const(
                formats | config.weights.bits << 16 | options << 19 | config.weights.mask << 23 | config.lanes << 24, 32
            ),
            Address.MAX_K: Const(config.max_k, 32),
            Address.CONTROL: Cat(self.enable, self.soft_reset),
            Address.STATUS: self.status,
            Address.ERRORS: self.errors,
            Address.FLAGS: self.flags,
            Address.ERROR_SEQUENCE: self.error_sequence,
            **{Address[name.upper()]: getattr(self, name) for name in COUNTERS},
        }
        assert set(values) == {register.address for register in REGISTERS}

        # Read channel: one at a time.
        m.d.comb += self.s_axil_arready.eq(~self.s_axil_rvalid)
        with m.If(self.s_axil_arvalid & self.s_axil_arready):
            m.d.sync += [self.s_axil_rvalid.eq(1), self.s_axil_rdata.eq(0), self.s_axil_rresp.eq(SLVERR)]
            with m.Switch(self.s_axil_araddr[2:]):
                for address, value in values.items():
                    with m.Case(int(address) >> 2):
                        m.d.sync += [self.s_axil_rdata.eq(value), self.s_axil_rresp.eq(OKAY)]
        with m.Elif(self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)

        # Write channels: address and data are taken as they come, then the write acts.
        address, data, strobe = Signal(ADDRESS_BITS), Signal(32), Signal(4)
        has_address, has_data = Signal(), Signal()
        m.d.comb += [
            self.s_axil_awready.eq(~has_address & ~self.s_axil_bvalid),
            self.s_axil_wready.eq(~has_data & ~self.s_axil_bvalid),
        ]
        with m.If(self.s_axil_awvalid & self.s_axil_awready):
            m.d.sync += [has_address.eq(1), address.eq(self.s_axil_awaddr)]
        with m.If(self.s_axil_wvalid & self.s_axil_wready):
            m.d.sync += [has_data.eq(1), data.eq(self.s_axil_wdata), strobe.eq(self.s_axil_wstrb)]
        with m.If(self.s_axil_bvalid & self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)

        most = timing.reset(self.config)
        resetting = Signal(range(most + 1), init=most)
        m.d.comb += self.soft_reset.eq(resetting != 0)
        with m.If(resetting != 0):
            m.d.sync += resetting.eq(resetting - 1)
        written = data & Cat(bit.replicate(8) for bit in strobe)
        with m.If(has_address & has_data):
            m.d.sync += [has_address.eq(0), has_data.eq(0), self.s_axil_bvalid.eq(1), self.s_axil_bresp.eq(SLVERR)]
            with m.Switch(address[2:]):
                with m.Case(int(Address.CONTROL) >> 2):
                    m.d.sync += self.s_axil_bresp.eq(OKAY)
                    with m.If(strobe[0]):
                        m.d.sync += self.enable.eq(written[0])
                        with m.If(written & int(Control.SOFT_RESET)):
                            m.d.sync += resetting.eq(most)
                with m.Case(int(Address.ERRORS) >> 2):
                    m.d.sync += self.s_axil_bresp.eq(OKAY)
                    m.d.comb += self.clear_errors.eq(written)
                with m.Case(int(Address.FLAGS) >> 2):
                    m.d.sync += self.s_axil_bresp.eq(OKAY)
                    m.d.comb += self.clear_flags.eq(written)
        return m
