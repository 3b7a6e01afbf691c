"""ResNet-20 at 32x32 from torch to Verilog: ``python -m examples.resnet20``.

41 million products per image, residuals and all, on chip from the first shift layer to the last. Initialised, not trained: shifts
are random, BatchNorms have seen random images. The first convolution and the classifier keep full precision, as in the
paper, and run on the host.
"""

import numpy as np
import torch

from examples.network import compare, imported, initialised, options, print_layers
from golden.train.networks import ResNet


def main() -> int:
    """Exit code 0 when golden network, golden model and Verilog are equal."""
    given = options(__doc__, "resnet20.toml")
    torch.manual_seed(0)
    images = torch.randn(64, 3, 32, 32)
    network = initialised(ResNet((16, 32, 64), (3, 3, 3), 10, large=False), images, keep=ResNet.KEPT)
    graph = imported(network, images, given.config, ResNet.KEPT)
    calibration = None
    if given.config.activation.name in ("int8", "int16", "fp8_e4m3", "fp8_e5m2"):
        calibration = images[:16].numpy().astype(np.float64)
    x = images[: given.batch].numpy()
    found = compare(
        "ResNet-20", graph, given.config, x, rtl=not given.no_rtl, stalls=given.stalls, calibration=calibration
    )
    print_layers(found.program, given.batch)
    return 0 if found.equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
