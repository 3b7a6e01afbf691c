"""DenseShift layers, their baselines and the training tasks: the only part of the golden model that imports torch."""
