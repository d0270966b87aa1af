"""Print to stdout and stderr: results on stdout, everything else on stderr, quoted text always harmless.

Whatever a line or a cell quotes from outside, it stays one line or one cell: what a terminal would obey is written out
here, at the door. Only this module and `cli/progress.py` draw with Rich.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import standard_streams
from rowtide.escaping import one_line, terminal_safe_json

WIDE = 200  # characters, where there is no terminal to fit

at_work_on: str | None = None
"""The run this command works on, to say how to go on with it."""


class PlainTable(Table):
    """A table whose cells are plain text, never cut."""

    def add_row(self, *cells: Any, **how: Any) -> None:
        super().add_row(*(plain_line(cell) for cell in cells), **how)

    def add_column(self, header: Any = "", *parts: Any, **how: Any) -> None:
        super().add_column(plain_line(header), *parts, **{"overflow": "fold", **how})


class Terminal(Console):
    """A console on which each printed text stays one line."""

    def print(self, *things: Any, **how: Any) -> None:
        try:
            super().print(*(plain_line(thing) for thing in things), **how)
        except OSError as error:
            if not self.stderr:  # on stderr nobody can be told
                standard_streams.abandon_output(error)

    def on_broken_pipe(self) -> None:
        """Nothing is wrong when nobody reads results to their end, as with `| head`."""
        standard_streams.abandon_output(BrokenPipeError())

    def lines(self, lines: Sequence[str]) -> None:
        """Print each text on a line of its own."""
        for line in lines:
            self.print(line)


def plain_line(thing: Any) -> Any:
    """Return a text as one line without markup; a Rich renderable unchanged."""
    return Text(one_line(thing)) if isinstance(thing, str) else thing


standard_streams.prepare_streams()

out = Terminal(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)


def plain_table(*heads: str, numbers: Sequence[str] = ()) -> PlainTable:
    """Return a table with these heads, and after them the right-aligned columns `numbers`."""
    table = PlainTable(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head)
    for head in numbers:
        table.add_column(head, justify="right")
    return table


def print_error(words: str) -> None:
    """Print an error on stderr."""
    err.print("rowtide: " + re.sub(r"\s*\n\s*", " ", words), style="red")


def has_terminal() -> bool:
    """Return whether a person can be asked: what is typed and what is asked both go by a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def says_yes(question: str) -> bool:
    """Ask a person, and return whether he agrees; false where there is no terminal."""
    if not has_terminal():
        return False
    err.print(f"{question} [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def print_json(value: object) -> None:
    """Print one JSON value on stdout, for a program."""
    standard_streams.write_stdout(terminal_safe_json(value) + "\n")


def short_path(path: Path) -> str:
    """Return a path relative to the current folder where it is inside it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
