"""What a run may be called: its id is a folder of the spool and the name of a report, so it must not be a path."""

import re
from typing import Annotated

from pydantic import AfterValidator

from rowtide.errors import UserMistake
from rowtide.escaping import one_line

LONGEST = 200
_LEGAL = re.compile(rf"(?!\.+$)[^/\\\x00-\x1f\x7f]{{1,{LONGEST}}}")  # one name, and not the folder above


def check_run_id(run_id: str) -> str:
    """The id, if a run may be called so. Raises UserMistake."""
    is_seen = run_id == one_line(run_id).strip() and not run_id.startswith("-")
    if not (is_seen and _LEGAL.fullmatch(run_id)) or len(run_id.encode("utf-8", "replace")) > LONGEST:
        raise UserMistake(
            f"a run cannot be called {run_id[:80]!r}: an id is the name of a file, of at most {LONGEST} bytes, "
            "without slashes and what nobody sees, no - in front, and not only dots"
        )
    return run_id


def _form(run_id: str) -> str:
    try:
        return check_run_id(run_id)
    except UserMistake as mistake:
        raise ValueError(str(mistake)) from None


RunId = Annotated[str, AfterValidator(_form)]
"""A run id in a form, or from anywhere that pydantic looks at."""
