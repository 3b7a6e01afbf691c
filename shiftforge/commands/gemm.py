"""`shiftforge gemm`: one exact matrix product on the model or on the simulated Verilog."""

import argparse
from time import perf_counter

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.commands.shared import add_backend, add_overflow, check_output, flag_names, transfer_progress

_TEXT = """\
Multiplies X (M, K) by W (K, N). Each value of X is rounded once, from its own dtype, to the activation format (integer
formats refuse fractions and values out of range); each weight must be a power of two, positive or negative, of the window
2^b .. 2^(b + max), with b the exponent bias, or zero where the configuration has array.mask = true. Each exact sum is rounded
once to the output format.
Writes Y (M, N) as raw bits in unsigned integers, or as float32 values with --float."""
_EXAMPLE = """\
shiftforge gemm --config examples/tiny.toml --acts X.npy --weights W.npy --out Y.npy --backend rtl"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "gemm", "an exact matrix product", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("--config", required=True, metavar="C.toml", help="the accelerator")
    parser.add_argument("--acts", required=True, metavar="X.npy", help="activations, values (M, K)")
    parser.add_argument("--weights", required=True, metavar="W.npy", help="weights, values (K, N)")
    parser.add_argument("--out", required=True, metavar="Y.npy", help="the result to write")
    parser.add_argument("--float", action="store_true", help="write float32 values instead of raw bits")
    parser.add_argument("--exponent-bias", type=int, default=0, metavar="B", help="weights are 2^(B+e) (default: 0)")
    add_overflow(parser, "default: the configuration's")
    add_backend(parser, required=True)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Multiply, write, print cycles and flags; 0."""
    import numpy as np

    from golden.codec import decode, encode, encode_exact_integers, encode_weights
    from shiftforge.arrays import load_npy, save_npy
    from shiftforge.config import load
    from shiftforge.errors import InputError
    from shiftforge.progress import Progress
    from sim.backends import check_backend, open_transport
    from sw_driver.accelerator import Accelerator

    check_backend(args.backend, args.rtl_dir, args.stalls)
    config = load(args.config)
    if not -128 <= args.exponent_bias <= 127:
        raise InputError(f"--exponent-bias must be -128..127, not {args.exponent_bias}")
    x, w = load_npy(args.acts, "acts"), load_npy(args.weights, "weights")
    for name, array, axes in (("acts", x, "(M, K)"), ("weights", w, "(K, N)")):
        if array.ndim != 2 or 0 in array.shape:
            raise InputError(f"{name} must be a matrix {axes} without empty axes, not of shape {array.shape}")
    if x.shape[1] != w.shape[0]:
        raise InputError(f"weights must have K = {x.shape[1]} rows as the acts have columns, not {w.shape[0]}")
    if x.shape[1] > config.max_k:
        raise InputError(f"K must be at most array.max_k = {config.max_k}, not {x.shape[1]}")
    overflow = args.overflow or config.overflow
    # The codec names the index; these name the file that it is in.
    try:
        floats = config.activation.is_float
        x_codes = encode(config.activation, x, overflow) if floats else encode_exact_integers(config.activation, x)
    except InputError as error:
        raise InputError(f"acts: {error}") from None
    w_codes = encode_weights(w, config.weights.bits, args.exponent_bias, mask=config.weights.mask)
    check_output(args.out)

    progress = Progress()
    with (
        open_transport(args.backend, config, rtl_dir=args.rtl_dir, stalls=args.stalls, progress=progress) as transport,
        transfer_progress(progress, f"gemm {x.shape[0]} x {x.shape[1]} x {w.shape[1]}") as show,
    ):
        accelerator = Accelerator(transport, config)
        start = perf_counter()
        codes = accelerator.gemm(x_codes, w_codes, exponent_bias=args.exponent_bias, overflow=overflow, progress=show)
        seconds = perf_counter() - start
    save_npy(args.out, decode(config.output, codes).astype(np.float32) if args.float else codes)
    result = {
        "m": x.shape[0],
        "k": x.shape[1],
        "n": w.shape[1],
        "backend": args.backend,
        "output": config.output.name,
        "flags": flag_names(accelerator.flags),
        "cycles": accelerator.last_cycles,
        "counters": accelerator.counters,
        "seconds": round(seconds, 3),
        "out": args.out,
    }
    if args.json:
        print_json(result)
        return 0
    rows = [
        ["product", f"{result['m']} x {result['k']} x {result['n']}"],
        ["written", f"{args.out}, {'float32 values' if args.float else f'{codes.dtype} bits of {config.output.name}'}"],
        ["flags", " ".join(flag_names(accelerator.flags)) or "none"],
        ["cycles", f"{accelerator.last_cycles:,}, {'predicted' if args.backend == 'golden' else 'counted'}"],
        ["seconds", f"{seconds:.2f}"],
    ]
    print_table(f"gemm on {args.backend}", ["what", "value"], rows)
    return 0
