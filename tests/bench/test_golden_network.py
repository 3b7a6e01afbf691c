"""The benchmark's two networks are the same one."""

import json
import sys

import numpy as np

from bench import golden_network
from shiftforge.graph import Layer


def test_the_network_is_resnet_18():
    """1.814 GMAC at 224x224, as is published for it."""
    graph = golden_network.resnet18(np.random.default_rng(0))
    macs = sum(layer.macs(graph.shapes_of(layer)) for layer in graph if isinstance(layer, Layer))
    assert macs == 1_814_073_344


def test_both_sides_compute_the_same(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["golden_network", "--size", "32", "--repeat", "1", "--json"])
    golden_network.main()
    told = json.loads(capsys.readouterr().out)
    assert told["largest_difference"] < 2e-3
    assert told["ratio"] == told["seconds"] / told["float32_seconds"]
