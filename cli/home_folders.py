"""Which home a command is about: the one that the environment names, or the rehearsal's in it.

Without a key a run is a rehearsal. Its home is `rehearsal` under ROWTIDE_HOME, with a SQLite ledger of its own,
whatever ledger the environment names: nothing in it counts for a run with a key.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rowtide.api.which_api import KEY, REHEARSAL
from rowtide.errors import UserMistake
from rowtide.ledger import apis as ledger_apis
from rowtide.ledger.engine import LedgerAway, LedgerBroken
from rowtide.ledger.ledger import Ledger, ledger_url

FOLDER = "rehearsal"


def home() -> Path:
    """The folder of ledger, spool, results and reports."""
    return Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()


def is_rehearsal() -> bool:
    """Whether this process is in a rehearsal's home."""
    return REHEARSAL in os.environ


def rehearse_without_key() -> bool:
    """Go to the rehearsal's home where there is no key. Returns whether this process is there."""
    if not os.environ.get(KEY) and not is_rehearsal():
        enter_rehearsal()
    return is_rehearsal()


def enter_rehearsal() -> None:
    """Let this process, and those it starts, work in the rehearsal's home."""
    os.environ |= {"ROWTIDE_HOME": str(home() / FOLDER), REHEARSAL: "1"}
    os.environ.pop("ROWTIDE_LEDGER", None)


@contextmanager
def existing_ledger(
    run: str | None = None, row_key: str | None = None, job: str | None = None, *, newest: bool = False
) -> Generator[Ledger]:
    """The ledger that a command is about, and this process in its home. Raises UserMistake when there is none yet.

    Where there are two, it is the one that has the newer run of this id, with this row or of this job, or with
    `newest` the newer run of all; else the one that the environment names.
    """
    if not has_ledger():
        if not _rehearsal_file().is_file():
            raise UserMistake("no ledger here yet: `rowtide run JOB` makes one", file=home() / "ledger.db")
        enter_rehearsal()
    elif (run or row_key or newest) and _rehearsal_file().is_file() and _rehearsal_is_newer(run, row_key, job):
        enter_rehearsal()
    ledger = opened(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home()))
    try:
        yield ledger
    finally:
        ledger.close()


def opened(url: str) -> Ledger:
    """The ledger at a URL, made where there is none. Raises UserMistake when it cannot be opened."""
    with ledger_mistakes():
        return Ledger(url)


@contextmanager
def ledger_mistakes() -> Generator[None]:
    """A ledger that is not to be had when a command begins is told as what can be set right."""
    try:
        yield
    except (LedgerAway, LedgerBroken) as error:
        named = "ROWTIDE_LEDGER" if os.environ.get("ROWTIDE_LEDGER") else "ROWTIDE_HOME"
        raise UserMistake(f"{error}; nothing was done", key=named) from error


def existing_ledgers() -> Generator[Ledger]:
    """Each ledger there is, the rehearsal's last. Raises UserMistake when there is none yet."""
    urls = [ledger_url(os.environ.get("ROWTIDE_LEDGER"), home())] if has_ledger() else []
    urls += [f"sqlite:///{_rehearsal_file()}"] if _rehearsal_file().is_file() else []
    if not urls:
        raise UserMistake("no ledger here yet: `rowtide run JOB` makes one", file=home() / "ledger.db")
    for url in urls:
        ledger = opened(url)
        try:
            yield ledger
        finally:
            ledger.close()


def has_ledger() -> bool:
    """Whether the environment names a ledger, or there is one in the home."""
    return "ROWTIDE_LEDGER" in os.environ or (home() / "ledger.db").is_file()


def has_any_ledger() -> bool:
    """Whether there is a ledger for `existing_ledger` to open."""
    return has_ledger() or _rehearsal_file().is_file()


def _rehearsal_file() -> Path:
    return home() / FOLDER / "ledger.db"


def _rehearsal_is_newer(run: str | None, row_key: str | None, job: str | None) -> bool:
    def began(url: str) -> str:
        ledger = opened(url)
        try:
            with ledger.view() as tx:
                return ledger_apis.newest_began(tx, run, row_key, job) or ""
        finally:
            ledger.close()

    own = began(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home()))
    return began(f"sqlite:///{_rehearsal_file()}") > own
