"""Models to .safetensors and back: weight codes instead of weights, everything else as it is, and what it all means as metadata.

The file runs no code and any tool reads it. A layer NAME of shifts has these tensors, in place of ``NAME.weight``:

``NAME.codes``
    uint8 (T, *shape of the weight), one weight element per byte as :func:`golden.codec.encode_weights` makes it: exponent lowest,
    then the sign, then the mask bit of a zero.
``NAME.scale``
    (N,), per output channel. float64 where it is part of the weight ("weights"): ``weight = float32(scale * sum)``. float32 where
    it is a multiplication of its own after the layer ("sums").
``NAME.k_bias``
    int8 (G, K), only for "sums" that have it: an exponent per K index, for each of G equal groups of channels.

The metadata (texts by name) hold ``shiftforge`` (the version of this format), ``layers`` (JSON: per layer ``kind``, ``bits``,
``exponent_bias``), and whatever the writer added.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.codec import decode_weights, encode_weights
from golden.train.convert import freeze, replaced
from golden.train.geometry import ShiftLayer
from golden.train.post_training import TermSumLayer
from golden.train.term_sums import TermSum
from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_bytes, write_atomically
from shiftforge.formats import WEIGHT_BITS
from shiftforge.graph import MAX_EXPONENT_BIAS, MIN_EXPONENT_BIAS
from shiftforge.graph.weights import ShiftWeights, shift_weights

VERSION = "1"
OWN = ("shiftforge", "layers")
"""Names of the metadata that belong to the format."""

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d)


class _Layer(TypedDict):
    kind: Literal["weights", "sums"]
    bits: int
    exponent_bias: int


def save_safetensors(model: nn.Module, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model: trained by any method, frozen, or ``convert_pretrained``.

    Plain layers whose weights are powers of two (zeros among them or not) are written as codes too, of the fewest bits that hold
    them; other plain layers as they are.

    Parameters
    ----------
    metadata : mapping of str to str
        What else is to be said of the model: its task, its accuracy.

    Raises
    ------
    InputError
        For metadata that are no texts or have a name of the format, INQ weights that are not yet fixed, or a place that is not
        writable.
    ToolError
        When the package safetensors is not installed.
    """
    given = dict(metadata or {})
    for name, text in given.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"metadata must be texts by name, not {text!r} by {name!r}")
        if name in OWN:
            raise InputError(f"metadata must not be named {' or '.join(OWN)}, which the format uses")
    # Clones: the library refuses tensors that share their memory, as tied weights do.
    tensors = {name: value.detach().cpu().clone() for name, value in freeze(model).state_dict().items()}
    layers: dict[str, _Layer] = {}
    inner = {id(module.layer) for module in model.modules() if isinstance(module, TermSumLayer)}
    for name, module in model.named_modules(remove_duplicate=False):
        stem = f"{name}." if name else ""
        if isinstance(module, TermSumLayer):
            del tensors[f"{stem}layer.weight"]
            shape = (module.fit.terms, *module.layer.weight.shape)
            tensors[f"{stem}codes"] = torch.from_numpy(module.fit.codes.reshape(shape))
            if module.fit.k_bias is not None:
                tensors[f"{stem}k_bias"] = torch.from_numpy(module.fit.k_bias)
            layers[name] = {"kind": "sums", "bits": module.fit.bits, "exponent_bias": 0}
        elif id(module) not in inner and (isinstance(module, ShiftLayer) or type(module) in PLAIN):
            weight = tensors[f"{stem}weight"]
            found = _coded(name, weight, module.bits if isinstance(module, ShiftLayer) else None)
            if found is None:
                continue
            bits, shifts = found
            del tensors[f"{stem}weight"]
            tensors[f"{stem}codes"] = torch.from_numpy(_elements(shifts, bits, weight.shape))
            tensors[f"{stem}scale"] = torch.from_numpy(shifts.scale)
            layers[name] = {"kind": "weights", "bits": bits, "exponent_bias": shifts.exponent_bias}
    own = dict(zip(OWN, (VERSION, json.dumps(layers)), strict=True))
    packed = {name: value.contiguous() for name, value in tensors.items()}
    write_atomically(path, _library().torch.save(packed, {**given, **own}))


def read_metadata(path: Path | str) -> dict[str, str]:
    """The metadata that the writer added; ``InputError`` for a file that ``save_safetensors`` did not write."""
    metadata, _, _ = _read(path)
    return metadata


def load_safetensors(path: Path | str, model: nn.Module) -> nn.Module:
    """A copy of a plain model, in eval mode, with the weights of a file: plain layers, and a ``TermSumLayer`` for each of sums.

    Parameters
    ----------
    model : nn.Module
        The network as it was before ``convert`` or ``convert_pretrained``; its weights do not matter.

    Raises
    ------
    InputError
        For a file that ``save_safetensors`` did not write, or one of another network.
    ToolError
        When the package safetensors is not installed.
    """
    _, layers, tensors = _read(path)
    modules = dict(model.named_modules(remove_duplicate=False))
    sums: dict[int, TermSumLayer] = {}
    for name, layer in layers.items():
        stem, module = f"{name}." if name else "", modules.get(name)
        if not isinstance(module, PLAIN):
            raise InputError(f"{path} must be of this network, and layer {name!r} of the file is none of its layers")
        codes, scale = (_taken(path, tensors, f"{stem}{part}") for part in ("codes", "scale"))
        if codes.dtype != torch.uint8 or codes.shape[1:] != module.weight.shape or not len(codes):
            raise _other(path, f"{stem}codes", codes, f"uint8 (terms, {', '.join(map(str, module.weight.shape))})")
        if scale.shape != module.weight.shape[:1] or not scale.is_floating_point():
            raise _other(path, f"{stem}scale", scale, f"a float for each of {len(module.weight)} channels")
        if layer["kind"] == "sums":
            flat, k_bias = codes.flatten(2).numpy(), tensors.pop(f"{stem}k_bias", None)
            if k_bias is not None and (
                k_bias.dtype != torch.int8
                or k_bias.shape[1:] != flat.shape[2:]
                or k_bias.shape[0] not in (1, getattr(module, "groups", 1))
            ):
                raise _other(path, f"{stem}k_bias", k_bias, f"int8 (groups, {flat.shape[2]})")
            fit = TermSum(flat, scale.float().numpy(), layer["bits"], None if k_bias is None else k_bias.numpy())
            plain = copy.deepcopy(module)
            plain.register_parameter("bias", None)
            sums[id(module)] = TermSumLayer(plain, fit, _taken(path, tensors, f"{stem}bias"))
            for part, value in sums[id(module)].state_dict().items():
                tensors[f"{stem}{part}"] = value
        else:
            values = decode_weights(codes.numpy(), layer["bits"], layer["exponent_bias"], mask=True).sum(0)
            spread = scale.double().numpy().reshape(-1, *[1] * (values.ndim - 1))
            tensors[f"{stem}weight"] = torch.from_numpy(values * spread).to(module.weight.dtype)
    made = replaced(model, lambda module: sums.get(id(module))).eval()
    held = made.state_dict()
    for name in [*held, *tensors]:
        if name not in tensors or name not in held:
            raise InputError(
                f"{path} must be of this network, and {name!r} is in {'it' if name in held else 'the file'} alone"
            )
        if tensors[name].shape != held[name].shape:
            raise _other(path, name, tensors[name], f"of shape {tuple(held[name].shape)}")
    made.load_state_dict(tensors)
    return made


def _coded(name: str, weight: Tensor, bits: int | None) -> tuple[int, ShiftWeights] | None:
    """Codes and their bits; None for a plain layer whose weights are no powers of two."""
    values = weight.double().numpy()
    if bits is not None:
        return bits, shift_weights(name, values, bits, mask=True)
    for fewest in WEIGHT_BITS:
        try:
            shifts = shift_weights(name, values, fewest, mask=True)
        except InputError:
            continue
        if shifts.terms == 1:
            return fewest, shifts
    return None


def _elements(shifts: ShiftWeights, bits: int, shape: torch.Size) -> NDArray[np.uint8]:
    """Weight elements (T, *shape) from codes (T * K, N) and their mask."""
    values = decode_weights(shifts.codes, bits)
    if shifts.mask is not None:
        values = np.where(shifts.mask, values, 0.0)
    by_term = encode_weights(values, bits, mask=True).reshape(shifts.terms, -1, shape[0])
    return np.ascontiguousarray(by_term.transpose(0, 2, 1)).reshape(shifts.terms, *shape)


def _library():  # noqa: ANN202 - the module
    try:
        import safetensors.torch
    except ImportError:
        raise ToolError(
            "safetensors must be installed for .safetensors models: pip install 'shiftforge[safetensors]'"
        ) from None
    return safetensors


def _read(path: Path | str) -> tuple[dict[str, str], dict[str, _Layer], dict[str, Tensor]]:
    """The added metadata, the layers and the tensors of a file, both checked for what the metadata must be."""
    contents, safetensors = read_bytes(path, "model"), _library()
    try:
        tensors = safetensors.torch.load(contents)
        # The library reads metadata of files alone; the header is JSON behind its length (the format's definition).
        header = json.loads(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
        metadata = dict(header.get("__metadata__", {}))
        version, layers = metadata.pop(OWN[0]), json.loads(metadata.pop(OWN[1]))
        good = all(
            layer["kind"] in ("weights", "sums")
            and layer["bits"] in WEIGHT_BITS
            and layer["exponent_bias"] in range(MIN_EXPONENT_BIAS, MAX_EXPONENT_BIAS + 1)
            for layer in layers.values()
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        version, layers, metadata, tensors, good = None, {}, {}, {}, False
    if not good or version != VERSION:
        raise InputError(
            f"{path} must be a .safetensors file of version {VERSION} that golden.train.tensors wrote, and is not"
        )
    return metadata, layers, tensors


def _taken(path: Path | str, tensors: dict[str, Tensor], name: str) -> Tensor:
    try:
        return tensors.pop(name)
    except KeyError:
        raise InputError(f"{path} must hold the tensor {name!r}, and does not") from None


def _other(path: Path | str, name: str, value: Tensor, rule: str) -> InputError:
    return InputError(
        f"{name} in {path} must be {rule} for this network, not {str(value.dtype)[6:]} of shape {tuple(value.shape)}"
    )
