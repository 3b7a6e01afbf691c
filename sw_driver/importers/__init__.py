"""Readers of other tools' model files: the only part of the driver that may import torch or onnx, lazily."""
