"""What the feedback on its last answer told a mind: the value that a property should have instead."""

import re
from collections.abc import Collection
from typing import Any

QUOTED = re.compile(r"""'([^'\n]*)'|"([^"\n]*)\"""")


def value_told(feedback: str, name: str, values: Collection[str], said: Any) -> str | None:
    """Return the last value that a sentence about this property quotes, other than the one answered; None if there is
    none.

    `sector: it says 'Energy', but the record speaks for 'Utilities'.` tells Utilities.
    """
    _, found, rest = feedback.rpartition(f"{name}:")
    if not found:
        return None
    quoted = [one or other for one, other in QUOTED.findall(rest.split("\n", 1)[0])]
    return next((value for value in reversed(quoted) if value in values and value != said), None)
