"""Area of one processing element on ECP5, without DSP, counted by yosys: what a product and its exact accumulation cost.

    python bench/pe_area.py [--max-k 1024] [--formats fp16 int8 ...] [--bits 2 3 4] [--json]

LUT4 counts LUT4 cells, 2 per carry pair (CCU2C) and 6 per LUT RAM cell. The baseline in the same run is an int8 x int8 multiplier
with the same registers, as ``*`` and an adder.
"""

import argparse
import json
import tempfile
from pathlib import Path

from amaranth.back import verilog

from hw.pe import PE
from shiftforge.config import HARDWARE_FORMATS, from_dict
from shiftforge.formats import WEIGHT_BITS
from sim.synth import SynthResult, synthesize

BASELINE = """\
module multiplier(input clk, input signed [7:0] x, input signed [7:0] w, input valid, output reg signed [7:0] x_out,
                  output reg signed [7:0] w_out, output reg signed [{top}:0] sum);
  reg signed [15:0] product; reg valid_1;
  always @(posedge clk) begin
    x_out <= x; w_out <= w; product <= x * w; valid_1 <= valid;
    if (valid_1) sum <= sum + product;
  end
endmodule
"""


def count(modules: dict[str, str], top: str) -> SynthResult:
    """Synthesize modules, named by what they are called."""
    with tempfile.TemporaryDirectory(prefix="pe-area-") as name:
        folder = Path(name)
        for module, text in modules.items():
            (folder / f"{module}.v").write_text(text, encoding="utf-8")
        work = folder / "work"
        work.mkdir()
        sources = [folder / f"{module}.v" for module in modules]
        return synthesize(sources, top, dsp=False, place=False, work_dir=work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-k", type=int, default=1024, help="longest dot product: the accumulator's width")
    parser.add_argument("--formats", nargs="+", choices=HARDWARE_FORMATS, default=["int8", "fp8_e4m3", "fp16"])
    parser.add_argument("--bits", nargs="+", type=int, choices=WEIGHT_BITS, default=list(WEIGHT_BITS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    width = 14 + options.max_k.bit_length() + 1
    rows = [("int8 x int8, `*`", width, count({"multiplier": BASELINE.format(top=width - 1)}, "multiplier"))]
    for name in options.formats:
        for bits in options.bits:
            array = {
                "rows": 1,
                "cols": 1,
                "activation": name,
                "output": name,
                "weight_bits": bits,
                "max_k": options.max_k,
            }
            config = from_dict({"array": array})
            pe = PE(config)
            modules = {
                unit.module_name: verilog.convert(
                    unit, name=unit.module_name, emit_src=False, strip_internal_attrs=True
                )
                for unit in (*pe.units, pe)
            }
            rows.append((f"{name} x {bits}-bit", config.accumulator_bits, count(modules, pe.module_name)))
    if options.json:
        print(json.dumps([{"unit": n, "accumulator_bits": w, "lut4": r.lut, "ff": r.ff} for n, w, r in rows], indent=2))
        return
    print(f"{'unit':>20} {'accumulator':>12} {'LUT4':>6} {'FF':>6}")
    for name, bits, result in rows:
        print(f"{name:>20} {bits:>12} {result.lut:>6} {result.ff:>6}")


if __name__ == "__main__":
    main()
