"""Counts of a design whose cells are known by construction, and every refusal."""

import pytest
from amaranth.back import verilog
from amaranth.hdl import Cat, Module, Signal, Value

from hw.delay import MOST_COPIES, copies, register
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from hw.verilog import write_unit
from shiftforge.errors import InputError, ToolError
from shiftforge.progress import Progress
from sim.route import Flow
from sim.synth import SynthResult, synthesize

XOR = "module x(input [{0}:0] a, output y); assign y = ^a; endmodule\n"


def test_known_design_is_counted_and_routed(design, work, capsys):
    result = synthesize([design], "known", seeds=(1, 2), work_dir=work, progress=Progress())
    assert (result.ff, result.ebr, result.dsp) == (8 + 8 + 16 + 24 + 4, 1, 1)
    assert result.lut == 2 * 12 + 6
    assert result.port_bits == 1 + 1 + 8 + 8 + 10 + 1 + 16 + 8 + 24 + 4
    routed = result.routed
    assert routed is not None
    assert routed.pins
    used, available = dict(routed.used), dict(routed.available)
    assert (used["TRELLIS_FF"], used["DP16KD"], used["MULT18X18D"], used["TRELLIS_IO"]) == (60, 1, 1, 81)
    assert (available["DP16KD"], available["MULT18X18D"]) == (208, 156)  # LFE5U-85
    (first, a), (second, b) = routed.fmax_by_seed
    assert (first, second) == (1, 2)
    assert a is not None
    assert b is not None
    assert a != b
    assert result.fmax_mhz == (a + b) / 2
    assert 50 < min(a, b) <= max(a, b) < 400
    err = capsys.readouterr().err
    assert "nextpnr: known on ECP5-85k, seed 2: " in err
    data = result.to_json()
    assert (data["lut"], data["target"], data["fmax_mhz"]) == (result.lut, "ecp5", result.fmax_mhz)


def test_without_multipliers_and_without_placing(design, work):
    result = synthesize([design], "known", dsp=False, place=False, work_dir=work)
    assert result.dsp == 0
    assert result.lut > 100  # an 8 x 8 multiplier in LUTs
    assert (result.routed, result.fmax_mhz) == (None, None)
    assert result.to_json()["routed"] is None


def test_combinational_design_has_no_frequency(tmp_path, work):
    (tmp_path / "x.v").write_text(XOR.format(15))
    result = synthesize([tmp_path / "x.v"], "x", flow=Flow("25k"), work_dir=work)
    assert result.lut == 5  # 16 inputs: four LUT4 and one above them
    assert result.routed is not None
    assert result.fmax_mhz is None


def test_more_ports_than_pins_is_placed_out_of_context(tmp_path, work):
    (tmp_path / "w.v").write_text(
        "module w(input clk, input [199:0] a, output reg y); reg [199:0] r;"
        " always @(posedge clk) begin r <= a; y <= ^r; end endmodule\n"
    )
    result = synthesize([tmp_path / "w.v"], "w", flow=Flow("25k"), work_dir=work)
    assert result.routed is not None
    assert not result.routed.pins
    assert dict(result.routed.used)["TRELLIS_FF"] == 201
    assert "TRELLIS_IO" not in dict(result.routed.used)
    assert result.fmax_mhz is not None


def test_lut_weights():
    cells = (("CCU2C", 5), ("DP16KD", 2), ("LUT4", 100), ("TRELLIS_DPR16X4", 3), ("TRELLIS_FF", 7))
    result = SynthResult("t", "85k", cells, 3)
    assert (result.lut, result.ff, result.ebr, result.dsp) == (100 + 10 + 18, 7, 2, 0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("module known(input a, output y); assign y = a;", "syntax error"),
        ("module known(input a, output y); wire n; assign y = a & n; endmodule", "Found 1 problems"),
        ("module known(input a, b, output y); assign y = a; assign y = b; endmodule", "Found 1 problems"),
        ("module known(input a, output y); other o(a, y); endmodule", "not part of the design"),
        ("module unknown(input a, output y); assign y = a; endmodule", "not found"),
    ],
)
def test_faulty_designs_are_one_sentence(tmp_path, work, source, reason):
    (tmp_path / "bad.v").write_text(source)
    with pytest.raises(ToolError, match=rf"^yosys failed: .*{reason}.*; its log is .*/yosys.log$"):
        synthesize([tmp_path / "bad.v"], "known", work_dir=work)


def test_a_design_that_does_not_fit_is_one_sentence(tmp_path, work):
    (tmp_path / "m.v").write_text(
        "module m(input clk, input [17:0] a, output reg [17:0] y); integer i; reg [17:0] r [0:29];"
        " always @(posedge clk) begin r[0] <= a * a; for (i = 1; i < 30; i = i + 1) r[i] <= r[i-1] * a; y <= r[29]; end"
        " endmodule\n"
    )
    with pytest.raises(ToolError, match="^nextpnr-ecp5 failed: .*MULT18X18D"):
        synthesize([tmp_path / "m.v"], "m", flow=Flow("25k"), work_dir=work)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": ()}, r"seeds must be one or more integers from 0 up, not \(\)"),
        ({"seeds": (1, -1)}, r"seeds must be one or more integers from 0 up, not \(1, -1\)"),
        ({"frequency_mhz": 0.0}, "frequency_mhz must be positive, not 0.0"),
        ({"top": "a; b"}, "top must be a plain module name, not 'a; b'"),
        ({"verilog": []}, "verilog must be at least one file, not none"),
    ],
)
def test_wrong_arguments(design, work, arguments, message):
    given = {"verilog": [design], "top": "known", "work_dir": work} | arguments
    with pytest.raises(InputError, match=f"^{message}$"):
        synthesize(given.pop("verilog"), given.pop("top"), **given)


def test_a_missing_source(tmp_path, work):
    with pytest.raises(InputError, match="^verilog source must be a readable file, not '.*none.v'"):
        synthesize([tmp_path / "none.v"], "t", work_dir=work)


def test_equal_names_from_two_folders_stay_apart(tmp_path, work):
    for folder, text in [("p", "module t(input a, output y); u u(a, y); endmodule"), ("q", XOR.format(0))]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.v").write_text(text.replace("module x", "module u").replace("[0:0] ", ""))
    result = synthesize([tmp_path / "p" / "t.v", tmp_path / "q" / "t.v"], "t", place=False, work_dir=work)
    assert (result.lut, result.port_bits) == (0, 2)
    assert result.cells == ()  # yosys's notes on the flattened module are no cells
    assert sorted(path.name for path in (work / "sources").iterdir()) == ["1_t.v", "t.v"]


def test_a_technology_module_is_replaced_by_carry_cells(tmp_path, work):
    """Two registered operands of 9 bits and a multiplexer: 10 bits of carry chain and no LUT beside it."""
    path = write_unit(AddSelect(9, 1), "sf_add_select_9_1", tmp_path)
    (tmp_path / "top.v").write_text("""
module top(input clk, input [8:0] c, input [8:0] d, input select, input carry, output reg [8:0] s);
  wire [8:0] sum;
  sf_add_select_9_1 adder(.a(s), .c(c), .d(d), .select({9{select}}), .carry(carry), .sum(sum));
  always @(posedge clk) s <= sum;
endmodule
""")
    result = synthesize([path, tmp_path / "top.v"], "top", place=False, work_dir=work)
    assert dict(result.cells) == {"CCU2C": 5, "TRELLIS_FF": 9}
    assert "CCU2C" not in path.read_text(), "what is delivered and simulated is plain Verilog"


def test_the_choice_of_registers_that_are_set_and_the_sign_cost_no_lut(tmp_path, work):
    """What a processing element with 2-bit weights does: 16 registers of x, each half with a set of its own."""
    path = write_unit(AddSigned(10), "sf_add_signed_10", tmp_path)
    (tmp_path / "top.v").write_text("""
module top(input clk, input [7:0] x, input up, input down, input sign, output reg [9:0] s);
  reg [7:0] direct = 8'hfe, raised = 8'hff;
  reg negate;
  wire [9:0] sum;
  sf_add_signed_10 adder(.a(s), .c({{2{direct[7]}}, direct}), .d({raised[7], raised, 1'b1}), .negative({10{negate}}), .sum(sum));
  always @(posedge clk) begin
    direct <= up ? 8'hfe : x; raised <= down ? 8'hff : x; negate <= sign;
    s <= sum;
  end
endmodule
""")
    result = synthesize([path, tmp_path / "top.v"], "top", place=False, work_dir=work)
    assert dict(result.cells) == {"CCU2C": 5, "TRELLIS_FF": 8 + 8 + 1 + 10}
    assert "CCU2C" not in path.read_text(), "what is delivered and simulated is plain Verilog"


def test_copies_of_a_register_stay_apart(tmp_path, work):
    """Yosys merges equal flip-flops; `copies` are not equal to one another, nor to a plain register."""

    m = Module()
    i, x, o = Signal(name="i"), Signal(MOST_COPIES + 1, name="x"), Signal(MOST_COPIES + 1, name="o")
    held = [*copies(m, i, MOST_COPIES, "copy"), register(m, Value.cast(i), "held"), register(m, Value.cast(i), "same")]
    m.d.comb += o.eq(Cat(held[:-1]) ^ x & held[-1].replicate(MOST_COPIES + 1))
    path = tmp_path / "top.v"
    path.write_text(verilog.convert(m, name="top", ports=[i, x, o], emit_src=False))
    result = synthesize([path], "top", place=False, work_dir=work)
    assert dict(result.cells)["TRELLIS_FF"] == MOST_COPIES + 1  # the two plain ones are one


def test_a_module_with_a_file_of_its_own_is_mapped_by_itself(tmp_path, work):
    """Equal registers of two of its instances stay two; what has no reader is dropped all the same."""
    unit = "module unit(input clk, input a, output reg y, output reg z); always @(posedge clk) {y, z} <= {a, ~y}; endmodule\n"
    top = (
        "module top(input clk, input a, output [2:0] y); unit p(clk, a, y[0], y[1]); unit q(.clk(clk), .a(a), .y(y[2]));"
        " endmodule\n"
    )
    (tmp_path / "unit.v").write_text(unit)
    (tmp_path / "top.v").write_text(top)
    (tmp_path / "flat.v").write_text(unit + top.replace("module top", "module flat"))
    flat = synthesize([tmp_path / "flat.v"], "flat", place=False, work_dir=work)
    apart = synthesize([tmp_path / "unit.v", tmp_path / "top.v"], "top", place=False, work_dir=work)
    assert (flat.ff, apart.ff) == (2, 3)
    assert apart.lut == flat.lut == 1
