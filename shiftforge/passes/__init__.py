"""Passes on graphs, one job each: from a network as it was written to one whose every bit is defined. NumPy only.

lower (average pools become layers), fold (Affine into scale and bias), orient and fuse (additions and activations into their
layer), quantise (tensor scales; scale and bias rounded to fp32). The compiler (`sw_driver.compiler`) goes on from there; bit-true
evaluation of models in training (`golden.train.exact`) stops there. Values of a graph in real numbers: `reference`.
"""

from shiftforge.passes.pipeline import Passed, compiled, passes

__all__ = ["Passed", "compiled", "passes"]
