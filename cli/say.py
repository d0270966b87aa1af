"""Where the command line speaks: results on stdout, everything else on stderr."""

import sys
from pathlib import Path

from rich.console import Console

WIDE = 200  # characters, where there is no terminal to fit

at_work_on: str | None = None
"""The run this command works on, to say how to go on with it."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def complain(words: str) -> None:
    """Say what went wrong."""
    err.print(f"rowtide: {words}", markup=False, style="red")


def tilde(path: Path) -> str:
    """A path as a person standing here would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
