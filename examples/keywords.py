"""DS-CNN for keywords on 49x10 features, from torch to Verilog: ``python -m examples.keywords``.

A depthwise layer is one over words of channels whose weights are masked outside of each channel's own: on 8 x 8 elements one
product in eight counts at best. The table says what that costs.
"""

import torch

from examples.network import compare, imported, initialised, options, print_layers
from golden.train.networks import DepthwiseSeparable


def main() -> int:
    """Exit code 0 when golden network, golden model and Verilog are equal."""
    given = options(__doc__, "keywords.toml")
    torch.manual_seed(0)
    features = torch.randn(64, 1, 49, 10)
    network = initialised(DepthwiseSeparable(64, 4, 12), features)
    graph = imported(network, features, given.config)
    x = features[: given.batch].numpy()
    found = compare("DS-CNN", graph, given.config, x, rtl=not given.no_rtl, stalls=given.stalls)
    print_layers(found.program, given.batch)
    return 0 if found.equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
