"""Where the command line speaks: results on stdout, everything else on stderr."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from rowtide.errors import UserMistake
from rowtide.ledger.ledger import Ledger, ledger_url

WIDE = 200  # characters, where there is no terminal to fit

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def complain(words: str) -> None:
    """Say what went wrong."""
    err.print(f"rowtide: {words}", markup=False, style="red")


def home() -> Path:
    """The folder of ledger, spool, results and reports."""
    return Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()


@contextmanager
def existing_ledger() -> Generator[Ledger]:
    """The ledger, for a command that only reads. Raises UserMistake when there is none yet."""
    url = os.environ.get("ROWTIDE_LEDGER")
    if url is None and not (home() / "ledger.db").is_file():
        raise UserMistake("no ledger here yet: `rowtide run JOB` makes one", file=home() / "ledger.db")
    ledger = Ledger(ledger_url(url, home()))
    try:
        yield ledger
    finally:
        ledger.close()


def tilde(path: Path) -> str:
    """A path as a person standing here would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
