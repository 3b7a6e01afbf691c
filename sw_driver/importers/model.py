"""A model file to a graph, by the file's kind."""

from pathlib import Path

from shiftforge.errors import InputError, NotBuiltError
from shiftforge.graph import Graph
from sw_driver.importers.pt2 import read_pt2


def read_model(path: Path | str, weight_bits: int) -> Graph:
    """The network in a model file; errors as `read_pt2`, and `NotBuiltError` for ONNX files."""
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        raise NotBuiltError(f"model must be a .pt2 program in this version, not the ONNX file {str(path)!r}")
    if suffix != ".pt2":
        raise InputError(f"model must be a file whose name ends in .pt2, not {str(path)!r}")
    return read_pt2(path, weight_bits)
