"""Validates a run requested over HTTP: never by a path, and its job by name."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rowtide.intake.messages import MessageRefused
from rowtide.lanes.lane_table import AskedLane


class RunRequest(BaseModel):
    """The body names the job too, because the path is not signed: a request for one job is invalid for any other."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job: str
    limit: int | None = Field(default=None, ge=1)
    lane: AskedLane = "auto"
    budget: float | None = Field(default=None, gt=0)
    finish_within_minutes: float | None = Field(default=None, gt=0)


def run_parameters(value: object, *, job: str) -> dict[str, Any]:
    """Return the parameters of the requested run. Raises MessageRefused, naming the key."""
    try:
        wanted = RunRequest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MessageRefused(
            "bad_parameters", f"{place}: {first['msg']}; legal: {', '.join(RunRequest.model_fields)}"
        ) from None
    if wanted.job != job:
        raise MessageRefused("bad_parameters", f"job: {wanted.job!r} where the path says {job!r}")
    return wanted.model_dump()
