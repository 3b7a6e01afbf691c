"""The generated maps: what is committed is what the tables give, and every form of them says the same."""

import json
import re
import subprocess
from pathlib import Path

from shiftforge import maps
from shiftforge.config import from_dict
from shiftforge.packets import HEADER_BYTES, LAYER_FIELDS, Header, Opcode, encode_layer
from shiftforge.registers import REGISTERS, Error

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONFIG = from_dict(
    {"array": {"rows": 3, "cols": 5, "activation": "int8", "output": "int16", "weight_bits": 2, "max_k": 16}}
)


def test_the_committed_documents_are_the_generated_ones():
    assert (DOCS / "packets.md").read_text() == maps.packets_markdown()
    assert (DOCS / "registers.md").read_text() == maps.registers_markdown()
    assert (DOCS / "configuration.md").read_text() == maps.configuration_markdown()


def test_main_writes_them(tmp_path):
    maps.main([str(tmp_path)])
    assert (tmp_path / "packets.md").read_text() == maps.packets_markdown()
    assert (tmp_path / "registers.md").read_text() == maps.registers_markdown()
    assert (tmp_path / "configuration.md").read_text() == maps.configuration_markdown()


def test_the_header_table_is_the_encoding():
    values = {"opcode": 0x81, "flags": 1, "sequence": 0x1234, "address": 0xCAFE_0123, "length": 0x0BAD_4567}
    data = Header(**values).encode()
    covered = 0
    for name, at, size, _ in maps.HEADER_FIELDS:
        found = int.from_bytes(data[at : at + size], "little")
        expected = {"magic": 0x4653, "reserved": 0, **values}[name]
        assert (at, found) == (covered, expected)
        covered += size
    assert covered == HEADER_BYTES


def test_json_describes_a_descriptor_that_can_be_built_from_it():
    described = json.loads(maps.packets_json())
    values = {field.name: 1 for field in LAYER_FIELDS if field.needs == "nothing"}
    words = [0] * (described["layer_bytes"] // 4)
    for field in described["layer"]:
        value = values.get(field["name"], 0)
        words[field["word"]] |= value << field["low"]
    assert b"".join(word.to_bytes(4, "little") for word in words) == encode_layer(values)
    assert {op["name"]: op["value"] for op in described["opcodes"]} == {op.name: int(op) for op in Opcode}


def test_json_names_every_register_and_error():
    described = json.loads(maps.registers_json())
    assert [(r["name"], r["address"]) for r in described["registers"]] == [(r.name, r.address) for r in REGISTERS]
    assert {e["name"]: 1 << e["bit"] for e in described["errors"]} == {e.name: int(e) for e in Error}


def test_the_c_header_compiles_and_its_macros_have_the_tables_values(tmp_path):
    header = maps.c_header(CONFIG)
    (tmp_path / "shiftforge.h").write_text(header)
    checks = [
        ("SF_CONFIG_HASH_VALUE", CONFIG.hash),
        ("SF_ROWS", 3),
        ("SF_WEIGHT_WORD_BITS", CONFIG.weight_word_bits),
        ("SF_OPCODE_STATUS_REPLY", 0x86),
        ("SF_HEADER_LENGTH_BYTE", 12),
        ("SF_STATUS_REPLY_FLAGS_BYTE", 12),
        *((f"SF_REG_{r.name}", int(r.address)) for r in REGISTERS),
        *((f"SF_ERROR_{e.name}", int(e)) for e in Error),
        *((f"SF_LAYER_{f.name.upper()}_LOW", f.low) for f in LAYER_FIELDS),
    ]
    lines = [f'static_assert({name} == {value}u, "{name}");' for name, value in checks]
    source = tmp_path / "check.cpp"
    source.write_text("\n".join(['#include "shiftforge.h"', '#include "shiftforge.h"', *lines, ""]))
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^#define (\w+)", header, re.MULTILINE)
    assert len(names) == len(set(names))
