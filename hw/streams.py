"""The ports of both AXI4-Streams, under their names in the generated Verilog (AMBA AXI4-Stream specification, 2.1)."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from shiftforge.config import Config


def input_stream_members(config: Config) -> dict[str, wiring.Member]:
    """The stream of packets into the machine."""
    return {
        "s_axis_tdata": In(config.stream_bits),
        "s_axis_tkeep": In(config.stream_bits // 8),
        "s_axis_tvalid": In(1),
        "s_axis_tready": Out(1),
        "s_axis_tlast": In(1),
    }


def output_stream_members(config: Config) -> dict[str, wiring.Member]:
    """The stream of results out of it."""
    return {
        "m_axis_tdata": Out(config.stream_bits),
        "m_axis_tkeep": Out(config.stream_bits // 8),
        "m_axis_tvalid": Out(1),
        "m_axis_tready": In(1),
        "m_axis_tlast": Out(1),
    }
