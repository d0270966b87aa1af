"""Types of numeric options, each with its legal range."""

import math
import re
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token, validators

MOST = 1_000_000_000  # rows, dollars, minutes: more is a slip of the hand


def _whole(_: object, given: Sequence[Token]) -> int:
    """Cyclopts alone would take 1.5 for 2."""
    (token,) = given
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", token.value.strip()):
        raise ValueError(f"{token.value!r} is no whole number")
    return int(token.value)


def _finite(_: object, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError("Must be a finite number.")


Count = Annotated[int, Parameter(converter=_whole, validator=validators.Number(gte=1, lte=MOST))]
Amount = Annotated[float, Parameter(validator=(_finite, validators.Number(gt=0, lte=MOST)))]
Port = Annotated[int, Parameter(converter=_whole, validator=validators.Number(gte=0, lte=65_535))]
