"""Time of the exact golden GEMM as a ratio to NumPy's float32 ``@`` in the same run.

    python bench/golden_gemm.py [--size 1024] [--repeat 7] [--json]

The activations are random over all finite codes, the worst case for fp16: small ranges need fewer products.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from golden.codec import decode, storage_dtype
from golden.gemm import gemm
from shiftforge.formats import FORMATS, Format, WeightCode

CASES = [("fp16", b) for b in (2, 3, 4)] + [
    (name, 3) for name in ("int8", "int16", "fp8_e4m3", "fp8_e5m2", "bf16", "fp32")
]


def finite_codes(fmt: Format, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    codes = rng.integers(0, 1 << fmt.bits, shape, np.uint64).astype(storage_dtype(fmt))
    return np.where(np.isfinite(decode(fmt, codes)), codes, 0).astype(codes.dtype)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="M = N = K")
    parser.add_argument("--repeat", type=int, default=7, help="best of this many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n = options.size
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
    results = []
    for name, bits in CASES:
        fmt = FORMATS[name]
        x = finite_codes(fmt, (n, n), rng)
        w = rng.integers(0, 1 << bits, (n, n), np.uint8)
        ours, base = [], []
        for _ in range(options.repeat):  # interleaved, so that other load on the machine hits both
            base.append(seconds(lambda: a @ b))
            ours.append(seconds(lambda x=x, w=w, fmt=fmt, bits=bits: gemm(x, w, fmt, WeightCode(bits), fmt)))
        results.append(
            {
                "activation": name,
                "weight_bits": bits,
                "seconds": min(ours),
                "float32_seconds": min(base),
                "ratio": min(ours) / min(base),
            }
        )
    if options.json:
        print(json.dumps({"size": n, "repeat": options.repeat, "results": results}))
        return
    print(f"exact GEMM {n}x{n}x{n}, rounded to the activation's format, against NumPy float32 @")
    for r in results:
        print(
            f"{r['activation']:>9} {r['weight_bits']}-bit  {r['seconds'] * 1e3:8.1f} ms  "
            f"{r['float32_seconds'] * 1e3:6.1f} ms  {r['ratio']:6.2f}x"
        )


if __name__ == "__main__":
    main()
