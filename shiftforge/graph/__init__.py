"""The network between importer, compiler and golden model: a small typed graph of named nodes with explicit input edges.

NumPy only, and not imported by the gateware.

One layout
----------
A tensor of one example is ``(features,)``, ``(length, channels)`` or ``(height, width, channels)``: channels last, so that a
memory word holds consecutive channels of one pixel, and a flattening changes nothing. Networks that are written channels first are
turned once, at their boundary: :class:`Input` turns the examples, the importers turn weights.

K of a convolution
------------------
K runs over terms, then kernel positions (row by row), then the channels of the group: row ``(t, y, x, c)`` of the codes is
``((t * kernel_height + y) * kernel_width + x) * channels_per_group + c``. Several terms read the same inputs again: a weight
is their sum.

What it means
-------------
In real numbers: a layer is ``activation((x @ W) * scale + bias + residual)``, :class:`Affine` is ``x * scale + bias`` per channel,
and so on. In bits it means something once the compiler has folded every :class:`Affine` into its layer and rounded scale
and bias to fp32: the exact sum of the codes is rounded to fp32, scaled, biased, added to the residual,
activated and rounded to the format of its
tensor (number contract, section 1); ``golden/network.py`` is that definition.
"""

from shiftforge.graph.checks import FloatArray, Shape
from shiftforge.graph.layers import MAX_EXPONENT_BIAS, MAX_TERMS, MIN_EXPONENT_BIAS, Conv, Layer, Linear
from shiftforge.graph.network import PASSING, Graph, Node, rewired
from shiftforge.graph.nodes import Activate, Add, Affine, AveragePool, Concat, Input, MaxPool, Reshape, Unfold
from shiftforge.graph.window import Window

__all__ = [
    "MAX_EXPONENT_BIAS",
    "MAX_TERMS",
    "MIN_EXPONENT_BIAS",
    "PASSING",
    "Activate",
    "Add",
    "Affine",
    "AveragePool",
    "Concat",
    "Conv",
    "FloatArray",
    "Graph",
    "Input",
    "Layer",
    "Linear",
    "MaxPool",
    "Node",
    "Reshape",
    "Shape",
    "Unfold",
    "Window",
    "rewired",
]
