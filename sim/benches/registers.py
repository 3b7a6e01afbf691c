"""Registers over AXI4-Lite: every address, strobes, write 1 to clear, refused accesses, enable and soft reset."""

from typing import cast

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, with_timeout
from cocotbext.axi import AxiLiteMasterRead, AxiLiteReadBus
from cocotbext.axi.axil_channels import (
    AxiLiteAWBus,
    AxiLiteAWSource,
    AxiLiteBBus,
    AxiLiteBSink,
    AxiLiteWBus,
    AxiLiteWSource,
)
from cocotbext.axi.axil_master import AxiLiteReadResp

from shiftforge import timing
from shiftforge.config import Config
from shiftforge.formats import FORMATS
from shiftforge.registers import ADDRESS_BITS, ID_VALUE, REGISTERS, VERSION_VALUE, Address, Control, Error
from sim.benches.lockstep import bench_setup, bits, chance
from sim.clock import start_clock

OKAY, SLVERR = 0, 2
INPUTS = {Address.STATUS: 2, Address.ERRORS: len(Error), Address.FLAGS: 3, Address.ERROR_SEQUENCE: 16}
"""Widths of the inputs behind the registers; all others have 32 bits."""
TIMEOUT_US = 20


def constants(config: Config) -> dict[Address, int]:
    """What the machine says of itself."""
    formats = [*FORMATS].index(config.activation.name) | [*FORMATS].index(config.output.name) << 8
    options = {2: 0, 4: 1, 8: 2, 16: 3}[config.activation_pages] + 4 * config.residual + 8 * config.max_pool
    return {
        Address.ID: ID_VALUE,
        Address.VERSION: VERSION_VALUE,
        Address.CONFIG_HASH: config.hash,
        Address.SHAPE: config.rows | config.cols << 16,
        Address.FORMATS: (
            formats | config.weights.bits << 16 | options << 19 | config.weights.mask << 23 | config.lanes << 24
        ),
        Address.MAX_K: config.max_k,
    }


class Lite:
    """The bus: reads by the library's master, writes channel by channel, so that any strobes come with an aligned address."""

    def __init__(self, dut) -> None:  # the design has attributes only at run time
        self.reader = AxiLiteMasterRead(AxiLiteReadBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.aw = AxiLiteAWSource(AxiLiteAWBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.w = AxiLiteWSource(AxiLiteWBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.b = AxiLiteBSink(AxiLiteBBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)

    @property
    def channels(self):  # noqa: ANN201  # the library's classes are made at run time
        """All five, for their pauses."""
        return self.aw, self.w, self.b, self.reader.ar_channel, self.reader.r_channel

    async def read(self, address: int) -> tuple[int, int]:
        """(response, data)."""
        answer = cast("AxiLiteReadResp", await with_timeout(self.reader.read(address, 4), TIMEOUT_US, "us"))
        return int(answer.resp), int.from_bytes(answer.data, "little")

    async def write(self, address: int, data: int, strobe: int = 0b1111, *, data_first: bool = False) -> int:
        """The response. With `data_first` the data comes some cycles before the address."""
        of_address = self.aw._transaction_obj(awaddr=address, awprot=0)
        of_data = self.w._transaction_obj(wdata=data, wstrb=strobe)
        first, second = ((self.w, of_data), (self.aw, of_address))[:: 1 if data_first else -1]
        await first[0].send(first[1])
        if data_first:
            await ClockCycles(self.aw.clock, 3)
        await second[0].send(second[1])
        answer = await with_timeout(self.b.recv(), TIMEOUT_US, "us")
        return int(answer.bresp)


class Watch:
    """Counts, for each cycle with the lines up, what the clear lines and the soft reset did."""

    def __init__(self, dut) -> None:  # the design has attributes only at run time
        self.dut = dut
        self.pulses: list[tuple[str, int]] = []
        self.resets: list[int] = []
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        length = 0
        while True:
            await FallingEdge(self.dut.clk)
            for name in ("clear_errors", "clear_flags"):
                value = int(getattr(self.dut, name).value)
                if value:
                    self.pulses.append((name, value))
            if int(self.dut.soft_reset.value):
                length += 1
            elif length:
                self.resets.append(length)
                length = 0

    def take(self) -> list[tuple[str, int]]:
        """The pulses since the last call."""
        found, self.pulses = self.pulses, []
        return found


async def _start(dut, paused: bool):  # noqa: ANN202
    config, rng = bench_setup()
    inputs = {
        r.name.lower(): INPUTS.get(Address[r.name], 32) for r in REGISTERS if Address[r.name] not in constants(config)
    }
    del inputs["control"]
    values = {name: bits(rng, width) for name, width in inputs.items()}
    for name, value in values.items():
        getattr(dut, name).value = value
    for name in (
        "awprot",
        "arprot",
        "wdata",
        "wstrb",
        "awaddr",
        "araddr",
    ):  # the library leaves them open until it has some
        getattr(dut, f"s_axil_{name}").value = 0
    lite = Lite(dut)
    await start_clock(dut)
    watch = Watch(dut)
    await ClockCycles(dut.clk, timing.reset(config) + 2)
    assert watch.resets == [timing.reset(config)], f"the core must reset for as long, not {watch.resets} cycles"
    watch.resets.clear()
    if paused:
        for channel in lite.channels:
            channel.set_pause_generator(iter(lambda: bool(chance(rng, 0.6)), None))
    expected = {**constants(config), Address.CONTROL: int(Control.ENABLE)}
    expected |= {Address[name.upper()]: value for name, value in values.items()}
    return lite, expected, rng, watch


async def _check_all(lite: Lite, expected: dict[Address, int]) -> None:
    for address, value in expected.items():
        found = await lite.read(address)
        assert found == (OKAY, value), f"{address.name} must read {(OKAY, value)}, not {found}"


@cocotb.test()
async def reads(dut) -> None:
    """Every register; every other word address answers SLVERR and zero."""
    lite, expected, _, _ = await _start(dut, paused=False)
    await _check_all(lite, expected)
    for address in (*range(0, 0x80, 4), 0x80, 0x100, 0x220, (1 << ADDRESS_BITS) - 4):
        if address not in expected:
            found = await lite.read(address)
            assert found == (SLVERR, 0), f"address {address:#x} must read {(SLVERR, 0)}, not {found}"


@cocotb.test()
async def writes(dut) -> None:
    """With pauses on all channels: strobes, write 1 to clear, refusals that change nothing, enable."""
    lite, expected, rng, watch = await _start(dut, paused=True)
    for register in REGISTERS:
        if register.access == "ro":
            found = await lite.write(register.address, 0xFFFF_FFFF)
            assert found == SLVERR, f"a write to {register.name} must answer {SLVERR}, not {found}"
    for address in (0x18, 0x30, 0x60, 0x228, 0x820):
        found = await lite.write(address, 0xFFFF_FFFF)
        assert found == SLVERR, f"a write to {address:#x} must answer {SLVERR}, not {found}"
    await _check_all(lite, expected)
    assert not watch.take(), "refused writes must clear nothing"
    clears = ((Address.ERRORS, "clear_errors", len(Error)), (Address.FLAGS, "clear_flags", 3))
    for number in range(20):
        address, name, width = clears[number % 2]
        data, strobe = bits(rng, 32), (number * 7 + 5) % 16
        mask = sum(0xFF << (8 * i) for i in range(4) if strobe >> i & 1)
        written = data & mask & ((1 << width) - 1)
        found = await lite.write(address, data, strobe, data_first=bool(chance(rng, 0.5)))
        assert found == OKAY, f"a write to {address.name} must answer {OKAY}, not {found}"
        pulses, wanted = watch.take(), [(name, written)] if written else []
        assert pulses == wanted, f"writing {data:#x} with strobes {strobe:04b} must clear {wanted}, not {pulses}"
    for value in (0, 1, 0, 0xFD, 0xFC):
        assert await lite.write(Address.CONTROL, value, 0b0001) == OKAY
        assert int(dut.enable.value) == value & 1, f"enable must be {value & 1} after writing {value:#x}"
        await _check_all(lite, {Address.CONTROL: value & 1})
        # Bytes whose strobe is low change nothing.
        assert await lite.write(Address.CONTROL, value ^ 1, 0b1110) == OKAY
        assert int(dut.enable.value) == value & 1, "enable must not change without its strobe"
    assert not watch.resets, "soft_reset must stay 0 until it is asked for"


@cocotb.test()
async def soft_reset(dut) -> None:
    """Bit 1 of CONTROL resets for some cycles, once, keeps enable as written, and clears itself."""
    lite, expected, _, watch = await _start(dut, paused=False)
    config, _ = bench_setup()
    await lite.write(Address.CONTROL, int(Control.SOFT_RESET), 0b1110)
    await ClockCycles(dut.clk, 10)
    assert not watch.resets, "soft_reset must stay 0 while the strobe of its byte is low"
    for number, enable in enumerate((1, 0)):
        assert await lite.write(Address.CONTROL, int(Control.SOFT_RESET) | enable) == OKAY
        await ClockCycles(dut.clk, timing.reset(config) + 6)
        wanted = [timing.reset(config)] * (number + 1)
        assert watch.resets == wanted, f"soft_reset must be up for {wanted} cycles, not {watch.resets}"
        await _check_all(lite, {**expected, Address.CONTROL: enable})
