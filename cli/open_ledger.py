"""Open the ledger that a command is about: the environment's or the rehearsal's."""

import os
from collections.abc import Generator
from contextlib import contextmanager

from cli.home_folders import enter_rehearsal, home_folder, rehearsal_file
from rowtide.errors import UserMistake
from rowtide.ledger import apis as ledger_apis
from rowtide.ledger.engine import LedgerBroken, LedgerUnavailable
from rowtide.ledger.ledger import Ledger, ledger_url


@contextmanager
def open_existing_ledger(
    run: str | None = None, row_key: str | None = None, job: str | None = None, *, newest: bool = False
) -> Generator[Ledger]:
    """Open the ledger that a command is about, and enter its home. Raises UserMistake when there is none yet.

    Where there are two, it is the one that has the newer run of this id, with this row or of this job, or with
    `newest` the newer run of all; else the one that the environment names.
    """
    if not has_ledger():
        if not rehearsal_file().is_file():
            raise UserMistake("no ledger here yet: `rowtide run JOB` makes one", file=home_folder() / "ledger.db")
        enter_rehearsal()
    elif (run or row_key or newest) and rehearsal_file().is_file() and _rehearsal_is_newer(run, row_key, job):
        enter_rehearsal()
    with open_home_ledger() as ledger:
        yield ledger


@contextmanager
def open_home_ledger() -> Generator[Ledger]:
    """The ledger that the environment names, or the home's; created if there is none. Raises UserMistake."""
    ledger = open_or_create_ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder()))
    try:
        yield ledger
    finally:
        ledger.close()


def open_or_create_ledger(url: str) -> Ledger:
    """Return the ledger at a URL, created if there is none. Raises UserMistake when it cannot be opened."""
    with ledger_errors_as_mistakes():
        return Ledger(url)


@contextmanager
def ledger_errors_as_mistakes() -> Generator[None]:
    """Turn the error of a ledger that cannot be reached into a UserMistake."""
    try:
        yield
    except (LedgerUnavailable, LedgerBroken) as error:
        named = "ROWTIDE_LEDGER" if os.environ.get("ROWTIDE_LEDGER") else "ROWTIDE_HOME"
        raise UserMistake(f"{error}; nothing was done", key=named) from error


def open_all_ledgers() -> Generator[Ledger]:
    """Open every existing ledger, the rehearsal's last. Raises UserMistake when there is none yet."""
    urls = [ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder())] if has_ledger() else []
    urls += [f"sqlite:///{rehearsal_file()}"] if rehearsal_file().is_file() else []
    if not urls:
        raise UserMistake("no ledger here yet: `rowtide run JOB` makes one", file=home_folder() / "ledger.db")
    for url in urls:
        ledger = open_or_create_ledger(url)
        try:
            yield ledger
        finally:
            ledger.close()


def has_ledger() -> bool:
    """Return whether the environment names a ledger, or there is one in the home."""
    return "ROWTIDE_LEDGER" in os.environ or (home_folder() / "ledger.db").is_file()


def has_any_ledger() -> bool:
    """Return whether there is a ledger for `open_existing_ledger` to open."""
    return has_ledger() or rehearsal_file().is_file()


def _rehearsal_is_newer(run: str | None, row_key: str | None, job: str | None) -> bool:
    def began(url: str) -> str:
        ledger = open_or_create_ledger(url)
        try:
            with ledger.view() as tx:
                return ledger_apis.newest_run_start(tx, run, row_key, job) or ""
        finally:
            ledger.close()

    own = began(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder()))
    return began(f"sqlite:///{rehearsal_file()}") > own
