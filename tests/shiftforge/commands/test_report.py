"""`report`: one page that parses, needs nothing else, and shows the numbers that the profile and the area model give."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shiftforge import area
from shiftforge import program as programs
from shiftforge.manifest import MANIFEST, describe
from sim.profile import profile

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that every tag is closed; keeps the text and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.counts: dict[str, int] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data.strip())


def page(path: str = "p.html") -> Page:
    text = Path(path).read_text()
    found = Page(text)
    assert found.fetched == []
    assert "@import" not in text
    assert "url(" not in text
    return found


def test_a_program(config, program, shiftforge):
    code, out, _ = shiftforge("report", "p.sfp", "--out", "p.html", "--batch", "7")
    assert code == 0
    assert out == "p.html: 1 programs, 1 machines\n"
    found, told = page(), profile(programs.load(program), 7)
    assert f"{told.cycles:,}" in found.text
    for layer in told.layers:
        assert f"{layer.cycles:,}" in found.text
        assert f"{100 * layer.utilization(config):.1f} %" in found.text
    assert f"{area.estimate(config).lut:,}" in found.text
    assert "min overlap K" in found.text
    assert found.counts["svg"] == 6
    assert found.counts["circle"] == len(told.layers)


def test_the_golden_models_accuracy(program, shiftforge):
    x = np.load("P.npy")
    shiftforge("run", "p.sfp", "--input", "P.npy", "--out", "Y.npy", "--backend", "golden")
    labels = np.load("Y.npy").argmax(axis=1)
    labels[:2] = (labels[:2] + 1) % 3
    np.savez("P.npz", x=x, y=labels)
    assert shiftforge("report", "p.sfp", "--out", "p.html", "--input", "P.npz")[0] == 0
    assert "right of 7, golden model" in page().text
    assert f"{100 * 5 / 7:.2f} %" in page().text


def test_a_folder_with_a_machine_and_what_synth_measured(config, program, shiftforge):
    folder = Path("all")
    folder.mkdir()
    shutil.move("p.sfp", folder / "<b>.sfp")
    (folder / MANIFEST).write_text(describe(config, {}, {}))
    measured = {"lut": 12345, "ff": 6789, "ebr": 11, "dsp": 3, "fmax_mhz": 98.7}
    (folder / "synth.json").write_text(json.dumps(measured))
    code, out, _ = shiftforge("report", "all", "--out", "p.html")
    assert (code, out) == (0, "p.html: 1 programs, 1 machines\n")
    found = page()
    assert {"12,345", "6,789", "98.7 MHz"} <= set(found.text)


def test_a_folder_with_a_manifest_alone(config, work, shiftforge):
    Path("rtl").mkdir()
    Path("rtl", MANIFEST).write_text(describe(config, {}, {}))
    assert shiftforge("report", "rtl", "--out", "p.html")[1] == "p.html: 0 programs, 1 machines\n"
    assert f"{config.hash:#010x}" in page().text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.sfp",), "program must be a readable file, not 'none.sfp' (no such file or directory)"),
        ((".", "--input", "P.npz"), "--input must be given with one program, not with 0 in '.'"),
        (
            ("empty",),
            "the folder must hold programs (*.sfp) or a manifest, and 'empty' holds neither; compile or generate first",
        ),
        (("p.sfp", "--batch", "0"), "the batch must be at least 1, not 0"),
        (
            ("p.sfp", "--input", "P.npy"),
            "--input must be an archive with x and labels y for each, as `train` writes it, not 'P.npy'",
        ),
        (("damaged",), "synth.json must be as `synth --out` wrote it, and 'damaged/synth.json' is not"),
    ],
)
def test_wrong_input_is_refused(words, message, config, program, shiftforge):
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged", "synth.json").write_text("{}")
    if words[0] == ".":
        Path("p.sfp").unlink()
        Path(MANIFEST).write_text(describe(config, {}, {}))
    assert shiftforge("report", *words, "--out", "p.html") == (2, "", message)
    assert not Path("p.html").exists()
