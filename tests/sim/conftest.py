"""What the simulation tests share."""

import os
from pathlib import Path

import pytest

# 8 + 8 flip-flops before the multiplier and 16 behind it; one block memory of 1024 x 8 with its own output register is a
# DP16KD; a 16 x 4 memory with a register behind its asynchronous read is one TRELLIS_DPR16X4; 24 flip-flops and 12 carry
# cells (two bits each) are the accumulator. q and d take flip-flops only where the memory has none of its own.
DESIGN = """
module {top}(input clk, input rst, input [7:0] a, input [7:0] b, input [9:0] addr, input we,
             output reg [15:0] p, output reg [7:0] q, output reg [23:0] s, output reg [3:0] d);
  reg [7:0] ra, rb;
  reg [7:0] big [0:1023];
  reg [3:0] small [0:15];
  always @(posedge clk) begin
    ra <= a; rb <= b; p <= ra * rb;
    if (we) big[addr] <= a;
    q <= big[addr];
    if (we) small[addr[3:0]] <= b[3:0];
    d <= small[addr[7:4]];
    if (rst) s <= 0; else s <= s + p;
  end
endmodule
"""
"""See `design`."""


@pytest.fixture(scope="session")
def rtl_cache(tmp_path_factory):
    """An empty folder for compiled designs, so that nothing is taken from the user's own cache; one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rtl-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def design(tmp_path) -> Path:
    """The file of `DESIGN`, whose cells are known by construction; its top is ``known``."""
    path = tmp_path / "design.v"
    path.write_text(DESIGN.format(top="known"))
    return path


@pytest.fixture
def work(tmp_path) -> Path:
    """An empty folder for the tools."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"
