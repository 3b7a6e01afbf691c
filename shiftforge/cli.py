"""The `shiftforge` command: finds the subcommand, runs it, and turns what a user can cause into one sentence and an exit code.

Exit codes: 0 good, 1 a comparison or check failed, 2 bad input, 3 a tool is missing or failed, 130 interrupted, 143 terminated.
A command is a module of `shiftforge.commands` that is named in `COMMANDS`, with two functions:

- ``add(subparsers)`` declares the arguments (see `shiftforge.commands.frame.add_command`), importing nothing heavy;
- ``run(args) -> int`` imports what it needs, does the work and returns the exit code.
"""

import difflib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shiftforge.commands.frame import Parser, own_version
from shiftforge.errors import InputError, ShiftForgeError

COMMANDS = ("doctor", "train", "generate", "gemm", "compile", "run", "compare", "estimate", "report", "sim", "synth")
"""In the order in which the help lists them."""

INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: whatever stops cleanly on Ctrl-C stops cleanly on it too."""


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="shiftforge",
        description="Exact accelerators for networks whose weights are zero-free powers of two.",
        epilog="`shiftforge COMMAND --help` explains one command, with an example.",
    )
    parser.add_argument("--version", action="version", version=f"shiftforge {own_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        importlib.import_module(f"shiftforge.commands.{name}").add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when None) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with _terminable():
            _check_command(words)
            args = build_parser().parse_args(words)
            code = args.run(args)
            sys.stdout.flush()
            return code
    except ShiftForgeError as error:
        print(f"shiftforge: error: {error}", file=sys.stderr)
        return error.exit_code
    except Terminated:
        print("shiftforge: terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("shiftforge: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, `less`) has gone, which is its right; the interpreter must not flush into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` within the block; without it a tool that runs in a session of its own would live on."""

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_command(words: list[str]) -> None:
    """Refuse an unknown command with the nearest known one, which argparse before Python 3.14 does not name."""
    if not words or words[0].startswith("-") or words[0] in COMMANDS:
        return
    near = difflib.get_close_matches(words[0], COMMANDS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(f"command must be one of {', '.join(COMMANDS)}, not {words[0]!r}{hint}")


if __name__ == "__main__":
    raise SystemExit(main())
