"""`estimate`: what the profile and the area model say, as a table and as JSON, in less than a second."""

import json
import time
from pathlib import Path

import numpy as np

from shiftforge import area, manifest
from shiftforge import program as programs
from shiftforge.config import load
from sim.profile import profile
from sw_driver.compiler.pipeline import compile_graph
from tests.sw_driver.networks import network


def test_the_area_of_a_configuration(config, shiftforge):
    code, out, _ = shiftforge("estimate", "c.toml", "--json")
    assert code == 0
    told = json.loads(out)
    found = area.estimate(config)
    assert told["hash"] == f"{config.hash:#010x}"
    assert told["min_overlap_k"] == manifest.min_overlap_k(config)
    assert [told["area"][name] for name in ("lut", "ff", "ram", "dsp")] == [found.lut, found.ff, found.ram, found.dsp]
    assert told["area"]["error_percent"] == found.error_percent
    assert "program" not in told
    code, out, _ = shiftforge("estimate", "c.toml")
    assert code == 0
    assert f"{found.lut:,}" in out
    assert f"at most {found.error_percent:.1f} % off" in out


def test_the_cycles_of_a_program(config, program, shiftforge):
    for batch in (1, 7):
        code, out, _ = shiftforge("estimate", "c.toml", "p.sfp", "--batch", str(batch), "--json")
        assert code == 0
        told, expected = json.loads(out)["program"], profile(programs.load(program), batch)
        assert (told["batch"], told["cycles"]) == (batch, expected.cycles)
        assert [layer["layer"] for layer in told["layers"]] == ["fc0", "fc1"]
        for line, layer in zip(told["layers"], expected.layers, strict=True):
            parts = ("slots", "stall_drain", "stall_load", "rest")
            assert line["cycles"] == layer.cycles == sum(line[name] for name in parts)
            assert line["utilization"] == layer.utilization(config)
    code, out, _ = shiftforge("estimate", "c.toml", "p.sfp", "--batch", "7")
    assert code == 0
    assert f"{expected.cycles:,} cycles in all" in out


def test_the_cycles_are_those_of_a_run(program, shiftforge):
    told = json.loads(shiftforge("estimate", "c.toml", "p.sfp", "--batch", "7", "--json")[1])["program"]
    words = ("run", "p.sfp", "--input", "P.npy", "--out", "Y.npy", "--backend", "golden", "--json")
    assert told["cycles"] == json.loads(shiftforge(*words)[1])["cycles"]
    stalled = json.loads(shiftforge("estimate", "c.toml", "p.sfp", "--stalls", "4", "--json")[1])["program"]
    assert stalled["cycles"] == profile(programs.load(program), stalls=4).cycles


def test_a_machine_without_gateware_still_has_cycles(work, shiftforge):
    Path("b.toml").write_text(Path("c.toml").read_text().replace("max_k", 'accumulator = "banked"\nmax_k'))
    code, out, _ = shiftforge("estimate", "b.toml", "--json")
    assert code == 0
    assert json.loads(out)["area"] is None
    assert "no area: array.accumulator must be 'aligned'" in shiftforge("estimate", "b.toml")[1]


def test_wrong_input_is_refused(program, shiftforge):
    Path("d.toml").write_text(Path("c.toml").read_text().replace("max_k = 16", "max_k = 8"))
    mine, other = load("d.toml"), load("c.toml")
    code, _, message = shiftforge("estimate", "d.toml", "p.sfp")
    assert code == 2
    assert message == (
        f"the program must be compiled for this configuration (hash {mine.hash:#010x}), not for {other.hash:#010x}; "
        "compile the network again with this configuration"
    )
    assert shiftforge("estimate", "c.toml", "p.sfp", "--batch", "0")[2] == "the batch must be at least 1, not 0"
    assert shiftforge("estimate", "none.toml")[0] == 2


def test_eleven_million_products_take_less_than_a_second(work, shiftforge):
    text = Path("c.toml").read_text().replace("rows = 2", "rows = 16").replace("cols = 2", "cols = 16")
    Path("c.toml").write_text(text.replace("max_k = 16", "max_k = 2048"))
    graph = network(np.random.default_rng(1), [2048, 2048, 2048, 1300], bits=2)
    compile_graph(graph, load("c.toml"), name="large").save("large.sfp")
    shiftforge("estimate", "c.toml")  # imports
    started = time.process_time()
    code, out, _ = shiftforge("estimate", "c.toml", "large.sfp", "--json")
    assert time.process_time() - started < 1
    assert code == 0
    assert json.loads(out)["program"]["macs"] > 11_000_000
