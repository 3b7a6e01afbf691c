"""The program container: a round trip, and every kind of damage refused with one sentence."""

import hashlib
import json
import struct

import numpy as np
import pytest

from shiftforge import program as container
from shiftforge.errors import InputError
from shiftforge.graph import Graph, Linear
from shiftforge.program import Program
from sw_driver.compiler.pipeline import assemble
from tests.sw_driver.networks import config_of, network

HEAD = struct.Struct("<8sIIQQ")


@pytest.fixture
def program() -> Program:
    rng = np.random.default_rng(0)
    return assemble(network(rng, [20, 12, 9, 4]), config_of(4, 3), name="net", overflow="inf")


def resealed(data: bytes, text: bytes | None = None, **head: int) -> bytes:
    """The file with another JSON text or other numbers in its head, and a checksum that fits."""
    magic, version, config_hash, text_bytes, blob_bytes = HEAD.unpack_from(data)
    blob = data[HEAD.size + text_bytes : -32]
    text = data[HEAD.size : HEAD.size + text_bytes] if text is None else text
    body = HEAD.pack(magic, head.get("version", version), head.get("config_hash", config_hash), len(text), blob_bytes)
    body += text + blob
    return body + hashlib.sha256(body).digest()


def test_a_program_survives_its_file(tmp_path, program):
    path = tmp_path / "net.sfp"
    program.save(path)
    loaded = container.load(path)
    assert (loaded.name, loaded.config, loaded.overflow) == ("net", program.config, "inf")
    assert loaded.recipe == program.recipe
    assert loaded.report == program.report
    assert (loaded.input_shape, loaded.input_scale, loaded.output_scale) == ((20,), 1.0, 1.0)
    for mine, theirs in zip(loaded.graph.layers(), program.graph.layers(), strict=True):
        for name in ("codes", "scale", "bias"):
            array = getattr(mine, name)
            assert array.dtype == getattr(theirs, name).dtype
            np.testing.assert_array_equal(array, getattr(theirs, name))
        assert (mine.name, mine.source, mine.activation) == (theirs.name, theirs.source, theirs.activation)
        assert (mine.exponent_bias, mine.weight_bits) == (theirs.exponent_bias, theirs.weight_bits)
    assert loaded.to_bytes() == path.read_bytes()


def test_streamed_weights_survive_too():
    config = config_of(4, 3, weight_words=128)
    program = assemble(network(np.random.default_rng(0), [40, 40, 9]), config)
    assert not program.recipe.phases[0].constants
    assert container.from_bytes(program.to_bytes()).recipe == program.recipe


def test_every_cut_and_every_flipped_bit_is_found(program):
    data = program.to_bytes()
    rng = np.random.default_rng(1)
    for length in [0, 7, 8, HEAD.size - 1, HEAD.size, len(data) // 2, len(data) - 1]:
        with pytest.raises(InputError):
            container.from_bytes(data[:length])
    for position in [*range(HEAD.size), *rng.integers(0, len(data), 200)]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(InputError):
            container.from_bytes(bytes(damaged))


def test_the_refusals_in_full(tmp_path, program):
    data = program.to_bytes()
    path = tmp_path / "net.sfp"
    other = program.hash ^ 1
    text = json.loads(data[HEAD.size : HEAD.size + HEAD.unpack_from(data)[3]])
    unknown = {**text, "config": {**text["config"], "array": {**text["config"]["array"], "rowz": 4}}}
    beyond = json.loads(json.dumps(text))
    beyond["recipe"]["parts"][0]["constants"][0]["payload"] = [0, 1 << 40]
    kind = json.loads(json.dumps(text))
    kind["graph"][1]["kind"] = "lstm"
    for contents, message in [
        (b"", "must be a compiled program, and it does not begin like one"),
        (b"PK\x03\x04" + data, "must be a compiled program, and it does not begin like one"),
        (data[:-1], f"must be {len(data)} bytes long, not {len(data) - 1}: the file is truncated"),
        (data + b"x", f"must be {len(data)} bytes long, not {len(data) + 1}: the file is too long"),
        (data[:-1] + bytes([data[-1] ^ 1]), "must match its checksum, and does not: the file is damaged"),
        (resealed(data, version=1), "must be a program of version 4, not 1; compile the network again"),
        (
            resealed(data, config_hash=other),
            (
                f"must carry the hash of its own configuration, {program.hash:#010x}, not {other:#010x}; "
                "compile the network again with this version"
            ),
        ),
        (resealed(data, b"{}"), "must be a well-formed program, and is not ('recipe')"),
        (
            resealed(data, json.dumps(unknown).encode()),
            "must be a well-formed program, and is not (key array.rowz is unknown; did you mean 'rows'?)",
        ),
        (
            resealed(data, json.dumps(beyond).encode()),
            "must be a well-formed program, and is not (a section at 0 of 1099511627776 bytes reaches beyond the blob)",
        ),
        (
            resealed(data, json.dumps(kind).encode()),
            "must be a well-formed program, and is not (unknown node kind 'lstm')",
        ),
    ]:
        path.write_bytes(contents)
        with pytest.raises(InputError) as caught:
            container.load(path)
        assert str(caught.value) == f"{path} {message}"
    with pytest.raises(
        InputError, match=r"^program must be a readable file, not 'nowhere' \(no such file or directory\)$"
    ):
        container.load("nowhere")


def test_nothing_is_left_half_written(tmp_path, program):
    with pytest.raises(InputError, match="^output file must be writable, not "):
        program.save(tmp_path / "missing" / "net.sfp")
    assert list(tmp_path.iterdir()) == []


def test_a_program_for_another_configuration_is_refused(program):
    container.require_config(program, program.config)
    other = config_of(4, 4)
    message = (
        rf"^the program must be compiled for this configuration \(hash {other.hash:#010x}\), not for {program.hash:#010x}; "
        "compile the network again with this configuration$"
    )
    with pytest.raises(InputError, match=message):
        container.require_config(program, other)


def test_programs_hold_compiled_graphs_of_the_recipe_s_shape(program):
    layer = program.graph.layers()[0]
    wide = Linear(layer.name, "x", layer.codes, 3, 0, layer.scale.astype(np.float64), layer.bias.astype(np.float64))
    with pytest.raises(InputError, match="^graph and recipe of a program must have the same inputs and outputs"):
        Program("net", program.config, "inf", program.graph.up_to("fc0"), program.recipe, ())
    uncompiled = Graph((program.graph.input, wide, *program.graph.nodes[2:]))
    with pytest.raises(InputError, match=r"^node 'fc0' must be a compiled layer to be part of a program$"):
        Program("net", program.config, "inf", uncompiled, program.recipe, ()).to_bytes()
    with pytest.raises(InputError, match=r"^overflow of a program must be 'inf' or 'saturate', not 'wrap'$"):
        Program("net", program.config, "wrap", program.graph, program.recipe, ())  # type: ignore[arg-type]
