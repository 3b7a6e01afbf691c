"""Speed of the accelerator's Verilog through the `rtl` transport, as clock cycles per second of processor time on one core.

    python bench/rtl_speed.py [CONFIG.toml] [--rtl-dir DIR] [--size 256] [--repeat 5] [--json]

The work is a matrix product of size M = K = N (K at most `max_k`) with all conversions, loads and answers, all cycles counted.
Without CONFIG.toml: 8x8, fp16 activations, 3-bit weights, K up to 1024, aligned. Without --rtl-dir the Verilog is generated first.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from golden.codec import storage_dtype
from hw.verilog import emit
from shiftforge.config import Config, from_dict, load
from sim.rtl import RtlTransport
from sw_driver.accelerator import Accelerator

ARRAY = {"rows": 8, "cols": 8, "activation": "fp16", "output": "fp16", "weight_bits": 3, "max_k": 1024}
DEFAULT = {"array": {**ARRAY, "accumulator": "aligned"}}


def measure(config: Config, directory: Path, size: int, repeat: int) -> dict[str, float | int]:
    rng = np.random.default_rng(0)
    k = min(size, config.max_k)
    dtype = storage_dtype(config.activation)
    x = rng.integers(0, 1 << config.activation.bits, (size, k), np.uint64).astype(dtype)  # infinities and NaN as well
    w = rng.integers(0, 1 << config.weights.bits, (k, size), np.uint8)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with RtlTransport(directory, stream_bits=config.stream_bits) as transport:
        built, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        accelerator = Accelerator(transport, config)
        speeds, cycles = [], 0
        for _ in range(repeat):
            seconds, first = transport.cpu_seconds, transport.cycle
            accelerator.gemm(x, w)
            cycles = transport.cycle - first
            speeds.append(cycles / (transport.cpu_seconds - seconds))
    return {
        "rows": config.rows,
        "cols": config.cols,
        "cycles": cycles,
        "cycles_per_cpu_second": max(speeds),
        "slowest": min(speeds),
        "build_seconds": built,
        "build_cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--rtl-dir", type=Path, help="Verilog that `generate` wrote from the same configuration")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5, help="best of this many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = load(options.config) if options.config else from_dict(dict(DEFAULT))
    with tempfile.TemporaryDirectory() as scratch:
        if options.rtl_dir is None:
            emit(config, Path(scratch))
        result = measure(config, options.rtl_dir or Path(scratch), options.size, options.repeat)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['rows']}x{result['cols']}: {result['cycles_per_cpu_second']:,.0f} cycles per CPU second "
        f"({result['cycles']:,} cycles, best of {options.repeat}, slowest {result['slowest']:,.0f}); "
        f"built in {result['build_seconds']:.1f} s ({result['build_cpu_seconds']:.1f} CPU s; 0.0 from the cache)"
    )


if __name__ == "__main__":
    main()
