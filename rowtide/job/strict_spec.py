"""The common base of the mappings of `job.yaml`: unknown keys are refused, and numbers are strict."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST = 1_000_000_000  # of anything that is counted: more is a slip of the hand

EXPONENT = re.compile(r"[0-9]{1,20}[eE][-+]?[0-9]{1,3}")
Whole = Annotated[int, Field(strict=True, le=MOST)]


def _number_in_text(value: object) -> object:
    """`1e-6` is a text to YAML 1.1, for want of a point, and a number to whoever wrote it."""
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


Real = Annotated[float, BeforeValidator(_number_in_text), Field(strict=True, le=MOST, allow_inf_nan=False)]


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
