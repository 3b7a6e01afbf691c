"""What every command shares: how it is declared, and how it prints a result."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn, TypeAlias

from shiftforge.errors import InputError

_PIPE_WIDTH = 160
"""Characters of the widest table where standard output is no terminal."""

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"  # argparse has no public name for it
Run: TypeAlias = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`, so that they read like every other error and exit with 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` lists what is accepted")


def own_version() -> str:
    """The version of ShiftForge that is installed."""
    try:
        return version("shiftforge")
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "(not installed)"


def add_command(subparsers: Subparsers, name: str, summary: str, run: Run, *, text: str, example: str) -> Parser:
    """Declare a command.

    Parameters
    ----------
    subparsers : Subparsers
        As `add` got it.
    name, summary : str
        The command, and its line in the list of commands.
    run : Callable
        Called with the parsed arguments; returns the exit code.
    text : str
        What the command does, for its own help.
    example : str
        One or more command lines that work, each on a line of its own.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=text,
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: Parser) -> None:
    """Add `--json`; the command then prints one JSON object on standard output and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def print_json(result: Mapping[str, object]) -> None:
    """Print the object of `--json`. NaN and infinities are no JSON: they must have become null or text before."""
    json.dump(result, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on standard output, in color on a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a bracket in a value is no markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)  # a file or a pipe has no width that a number would have to fit
    console.print(table)
