"""Models in .safetensors files: the same codes, the same logits, and what is no such file."""

import json
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from golden.codec import decode_weights
from golden.train.baselines import advance
from golden.train.convert import convert, freeze
from golden.train.exact import exact_network, run_torch
from golden.train.methods import METHODS
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.tensors import load_safetensors, read_metadata, save_safetensors
from shiftforge.errors import InputError, ToolError
from tests.limits import files_of_at_most

SHAPE = (2, 6, 5)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 4, (3, 2), stride=2), nn.Flatten()),
        nn.Linear(16, 3),
    )


def assert_same_network(one, two):
    """The same codes, scales and biases of every layer, and the same logits bit for bit."""
    first, second = (exact_network(model, shape=SHAPE, mask=True) for model in (one, two))
    for mine, other in zip(first.graph.layers(), second.graph.layers(), strict=True):
        assert np.array_equal(mine.codes, other.codes)
        if mine.mask is None or other.mask is None:
            assert mine.mask is other.mask
        else:
            assert np.array_equal(mine.mask, other.mask)
        assert (mine.weight_bits, mine.exponent_bias, mine.terms) == (
            other.weight_bits,
            other.exponent_bias,
            other.terms,
        )
        for values, same in ((mine.scale, other.scale), (mine.bias, other.bias)):
            assert np.array_equal(values.view(np.uint32), same.view(np.uint32))
    x = torch.randn(9, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run_torch(first, x), run_torch(second, x))
    with torch.no_grad():
        assert torch.equal(one(x), two(x))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_a_trained_network_comes_back_with_the_same_codes(method, bits, tmp_path):
    model = convert(network(), bits, method=method).train()
    model(torch.randn(8, *SHAPE))  # statistics of the BatchNorm
    advance(model, 1.0)
    model.eval()
    save_safetensors(model, tmp_path / "m.safetensors", {"task": "none", "accuracy": "0.5"})
    assert read_metadata(tmp_path / "m.safetensors") == {"task": "none", "accuracy": "0.5"}
    back = load_safetensors(tmp_path / "m.safetensors", network(7))
    assert not back.training
    with torch.no_grad():
        for name in ("0", "3.0", "4"):
            effective = model.get_submodule(name).weight
            assert isinstance(effective, torch.Tensor)
            assert torch.equal(back.get_parameter(f"{name}.weight"), effective)
    x = torch.randn(9, *SHAPE)
    with torch.no_grad():
        assert torch.equal(model(x), back(x))
    assert_same_network(freeze(model), back)
    # Anyone can read the codes: nothing but NumPy and the header's JSON.
    raw = (tmp_path / "m.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    layer = json.loads(header["__metadata__"]["layers"])["4"]
    tensors = safetensors.torch.load(raw)
    codes = decode_weights(tensors["4.codes"].numpy(), layer["bits"], layer["exponent_bias"], mask=True).sum(0)
    values = (codes * tensors["4.scale"].double().numpy()[:, None]).astype(np.float32)
    assert np.array_equal(values, back.get_parameter("4.weight").detach().numpy())
    assert "4.weight" not in tensors


@pytest.mark.parametrize(
    "terms, k_bias_bits, calibrated",
    [(1, 0, False), (2, 0, True), (3, 0, False), ({"0": 3, "3.0": 1}, 0, False), (1, 3, False), (2, 2, True)],
)
def test_sums_come_back_with_the_same_codes(terms, k_bias_bits, calibrated, tmp_path):
    plain = network().eval()
    keep = () if isinstance(terms, int) else ("4",)
    x = torch.randn(20, *SHAPE) if calibrated else None
    model = convert_pretrained(plain, 3, terms, keep=keep, k_bias_bits=k_bias_bits, calibration=x)
    path = tmp_path / "m.safetensors"
    save_safetensors(model, path)
    back = load_safetensors(path, network(7))
    x = torch.randn(9, *SHAPE)
    with torch.no_grad():
        assert torch.equal(model(x), back(x))
    for one, two in zip(model.modules(), back.modules(), strict=True):
        assert type(one) is type(two)
        if isinstance(one, TermSumLayer) and isinstance(two, TermSumLayer):
            assert np.array_equal(one.fit.codes, two.fit.codes)
            assert np.array_equal(one.fit.scale, two.fit.scale)
            assert one.fit.bits == two.fit.bits
            assert (one.fit.k_bias is None) == (two.fit.k_bias is None) == (k_bias_bits == 0)
            assert np.array_equal(one.fit.sums(), two.fit.sums())
    if isinstance(terms, int):
        assert_same_network(model, back)
    save_safetensors(back, tmp_path / "again.safetensors")
    first, second = (safetensors.torch.load_file(tmp_path / name) for name in ("m.safetensors", "again.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_layer_used_twice_and_a_bare_layer(tmp_path):
    layer = nn.Linear(5, 5)
    plain = nn.Sequential(layer, nn.ReLU(), layer)
    model = convert(plain, 3).eval()
    x = torch.randn(4, 5)
    save_safetensors(model, tmp_path / "a")
    back = load_safetensors(tmp_path / "a", plain)
    assert back.get_submodule("0") is back.get_submodule("2")
    with torch.no_grad():
        assert torch.equal(back(x), model(x))
    for bare in (convert(layer, 2), convert_pretrained(layer, 3, 2)):
        save_safetensors(bare, tmp_path / "b")
        with torch.no_grad():
            assert torch.equal(load_safetensors(tmp_path / "b", layer)(x), bare(x))


def test_a_frozen_network_is_written_as_codes_too(tmp_path):
    model = convert(network(), 3).eval()
    save_safetensors(model, tmp_path / "a")
    save_safetensors(load_safetensors(tmp_path / "a", network()), tmp_path / "b")
    first, second = (safetensors.torch.load_file(tmp_path / name) for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: t.pop("4.codes"), "must hold the tensor '4.codes', and does not"),
        (lambda t, m: t.pop("1.weight"), "must be of this network, and '1.weight' is in it alone"),
        (lambda t, m: t.update(odd=torch.zeros(1)), "must be of this network, and 'odd' is in the file alone"),
        (
            lambda t, m: t.update({"4.codes": t["4.codes"].int()}),
            "4.codes in {} must be uint8 (terms, 3, 16) for this network, not int32 of shape (1, 3, 16)",
        ),
        (
            lambda t, m: t.update({"4.scale": torch.ones(2)}),
            "4.scale in {} must be a float for each of 3 channels for this network, not float32 of shape (2,)",
        ),
        (
            lambda t, m: t.update({"4.bias": torch.ones(2)}),
            "4.bias in {} must be of shape (3,) for this network, not float32 of shape (2,)",
        ),
        (
            lambda t, m: m.update(layers='{"9": {"kind": "weights", "bits": 3, "exponent_bias": 0}}'),
            "must be of this network, and layer '9' of the file is none of its layers",
        ),
        (lambda t, m: m.update(shiftforge="2"), "must be a .safetensors file of version 1 that"),
        (lambda t, m: m.pop("layers"), "must be a .safetensors file of version 1 that"),
        (lambda t, m: m.update(layers="[]"), "must be a .safetensors file of version 1 that"),
        (lambda t, m: m.update(layers='{"4": {"kind": "weights", "bits": 5, "exponent_bias": 0}}'), "version 1 that"),
        (lambda t, m: m.update(layers='{"4": {"kind": "weights", "bits": 3, "exponent_bias": 128}}'), "version 1 that"),
    ],
)
def test_other_files_are_refused(change, message, tmp_path):
    path = tmp_path / "m.safetensors"
    save_safetensors(convert(network(), 3), path)
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    tensors = safetensors.torch.load(raw)
    change(tensors, metadata)
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_safetensors(path, model)
    assert message.replace("{}", str(path)) in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "value", [torch.zeros(1, 16), torch.zeros(1, 15, dtype=torch.int8), torch.zeros(2, 16, dtype=torch.int8)]
)
def test_exponents_per_k_index_of_another_shape_are_refused(value, tmp_path):
    path = tmp_path / "m"
    save_safetensors(convert_pretrained(network(), 3, 1, k_bias_bits=2), path)
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    path.write_bytes(safetensors.torch.save({**safetensors.torch.load(raw), "4.k_bias": value}, metadata))
    with pytest.raises(InputError, match=r"^4.k_bias in .*m must be int8 \(groups, 16\) for this network, not "):
        load_safetensors(path, network())


@pytest.mark.parametrize("content", [b"", b"PK", b"\xff" * 40, b"\x02" + bytes(7) + b"{}"])
def test_a_file_of_something_else(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=r"m must be a .safetensors file of version 1 that .* wrote, and is not$"):
        read_metadata(tmp_path / "m")


def test_what_is_refused_when_writing(tmp_path, monkeypatch):
    model = convert(network(), 3)
    with pytest.raises(InputError, match=r"^metadata must be texts by name, not 0.5 by 'accuracy'$"):
        save_safetensors(model, tmp_path / "m", {"accuracy": 0.5})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"^metadata must not be named shiftforge or layers, which the format uses$"):
        save_safetensors(model, tmp_path / "m", {"layers": ""})
    with pytest.raises(InputError, match=r"^all weights of an INQ layer must be fixed before it is frozen"):
        save_safetensors(convert(network(), 3, method="inq"), tmp_path / "m")
    with files_of_at_most(100), pytest.raises(InputError, match=r"must be writable, not '.*m' \(file too large\)$"):
        save_safetensors(model, tmp_path / "m")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ToolError, match=r"^safetensors must be installed .*: pip install 'shiftforge\[safetensors\]'$"):
        save_safetensors(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())
