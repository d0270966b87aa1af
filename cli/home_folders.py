"""Choose the home folder of a command: the one that the environment names, or the rehearsal's inside it.

Without a key a run is a rehearsal. Its home is `rehearsal` under ROWTIDE_HOME, with a SQLite ledger of its own,
whatever ledger the environment names: nothing in it counts for a run with a key.
"""

import os
from pathlib import Path

from rowtide.api.api_identity import KEY, REHEARSAL

FOLDER = "rehearsal"


def home_folder() -> Path:
    """Return the home folder: ledger, spool, results and reports."""
    return Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()


def is_in_rehearsal() -> bool:
    """Return whether this process works in a rehearsal's home."""
    return REHEARSAL in os.environ


def rehearse_without_key() -> bool:
    """Enter the rehearsal's home if there is no key. Returns whether this process is in it."""
    if not os.environ.get(KEY) and not is_in_rehearsal():
        enter_rehearsal()
    return is_in_rehearsal()


def enter_rehearsal() -> None:
    """Have this process, and those it starts, work in the rehearsal's home."""
    os.environ |= {"ROWTIDE_HOME": str(home_folder() / FOLDER), REHEARSAL: "1"}
    os.environ.pop("ROWTIDE_LEDGER", None)


def rehearsal_file() -> Path:
    """Return the ledger of this home's rehearsals."""
    return home_folder() / FOLDER / "ledger.db"
