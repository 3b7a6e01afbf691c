"""Compiled graphs in a file: nodes as JSON, their arrays in one blob of bytes. Used by :mod:`shiftforge.program`."""

from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.graph.layers import Conv, Layer, Linear
from shiftforge.graph.network import Node
from shiftforge.graph.nodes import Concat, Input, MaxPool, Reshape, Unfold
from shiftforge.graph.window import Window

Described: TypeAlias = "dict[str, Any]"
"""A JSON object of a file; `from_bytes` turns what is missing or of another kind into one sentence."""
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class Blob:
    """Bytes that grow; gives the place of each addition."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, part: bytes) -> Json:
        place = len(self.data)
        self.data += part
        return [place, len(part)]


def cut(blob: bytes, place: list[int]) -> bytes:
    """A section of the blob; `ValueError` where it has none there."""
    offset, length = place
    if not 0 <= offset <= offset + length <= len(blob):
        raise ValueError(f"a section at {offset} of {length} bytes reaches beyond the blob")
    return blob[offset : offset + length]


def node_to_json(node: Node, blob: Blob) -> Json:
    """A compiled node, its arrays in the blob; `InputError` for one that is not compiled."""
    if isinstance(node, Input):
        image: Json = None if node.image is None else list(node.image)
        return {
            "kind": "input",
            "name": node.name,
            "shape": list(node.shape),
            "scale": node.scale,
            "image": image,
            "channels_first": node.channels_first,
        }
    if isinstance(node, MaxPool):
        return {"kind": "max_pool", "name": node.name, "source": node.source, "window": _window_to_json(node.window)}
    if isinstance(node, Unfold):
        return {"kind": "unfold", "name": node.name, "source": node.source, "window": _window_to_json(node.window)}
    if isinstance(node, Concat):
        return {"kind": "concat", "name": node.name, "sources": list(node.sources)}
    if isinstance(node, Reshape):
        return {"kind": "reshape", "name": node.name, "source": node.source, "shape": list(node.shape)}
    if not isinstance(node, Layer) or not node.compiled:
        raise InputError(f"node {node.name!r} must be a compiled layer to be part of a program")
    described: dict[str, Json] = {
        "kind": "linear",
        "name": node.name,
        "source": node.source,
        "shape": list(node.codes.shape),
        "codes": blob.add(node.codes.tobytes()),
        "weight_bits": node.weight_bits,
        "exponent_bias": node.exponent_bias,
        "scale": blob.add(node.scale.astype("<f4").tobytes()),
        "bias": blob.add(node.bias.astype("<f4").tobytes()),
        "activation": asdict(node.activation),
        "output_scale": node.output_scale,
        "terms": node.terms,
        "mask": None if node.mask is None else blob.add(np.packbits(node.mask).tobytes()),
        "residual": node.residual,
        "residual_scale": node.residual_scale,
        "real": None if node.real is None else blob.add(node.real.astype("<f4").tobytes()),
    }
    if node.k_bias is not None:
        described["k_bias"] = blob.add(node.k_bias.tobytes())
    if isinstance(node, Conv):
        described |= {"kind": "conv", "window": _window_to_json(node.window), "groups": node.groups}
    return described


def _window_to_json(window: Window) -> Json:
    padding: Json = [[before, after] for before, after in window.padding]
    return {
        "kernel": list(window.kernel),
        "stride": list(window.stride),
        "padding": padding,
        "dilation": list(window.dilation),
    }


def _window_from_json(described: Described) -> Window:
    padding = tuple((before, after) for before, after in described["padding"])
    return Window(tuple(described["kernel"]), tuple(described["stride"]), padding, tuple(described["dilation"]))


def node_from_json(described: Described, blob: bytes) -> Node:
    """The node; KeyError, TypeError or ValueError (ours included) where the file describes none."""
    kind, name = described["kind"], described["name"]
    if kind == "input":
        image = None if described["image"] is None else tuple(described["image"])
        return Input(name, tuple(described["shape"]), described["scale"], image, described["channels_first"])
    if kind == "max_pool":
        return MaxPool(name, described["source"], _window_from_json(described["window"]))
    if kind == "unfold":
        return Unfold(name, described["source"], _window_from_json(described["window"]))
    if kind == "concat":
        return Concat(name, tuple(described["sources"]))
    if kind == "reshape":
        return Reshape(name, described["source"], tuple(described["shape"]))
    if kind not in ("linear", "conv"):
        raise ValueError(f"unknown node kind {kind!r}")
    shape = tuple(described["shape"])
    mask = None
    if described["mask"] is not None:
        packed = np.frombuffer(cut(blob, described["mask"]), "u1")
        mask = np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(np.bool_)
    real = None
    if described["real"] is not None:
        real = np.frombuffer(cut(blob, described["real"]), "<f4").reshape(shape)
    given: Described = {
        "name": name,
        "source": described["source"],
        "codes": np.frombuffer(cut(blob, described["codes"]), "u1").reshape(shape),
        "weight_bits": described["weight_bits"],
        "exponent_bias": described["exponent_bias"],
        "scale": np.frombuffer(cut(blob, described["scale"]), "<f4"),
        "bias": np.frombuffer(cut(blob, described["bias"]), "<f4"),
        "activation": Activation(**described["activation"]),
        "output_scale": described["output_scale"],
        "terms": described["terms"],
        "mask": mask,
        "residual": described["residual"],
        "residual_scale": described["residual_scale"],
        "real": real,
        "k_bias": np.frombuffer(cut(blob, described["k_bias"]), "i1") if "k_bias" in described else None,
    }
    if kind == "linear":
        return Linear(**given)
    return Conv(**given, window=_window_from_json(described["window"]), groups=described["groups"])
