"""The acts of a fault plan: refuse, cut, hang, garble, slow, lag, break, damage."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Moment = Literal["before", "after"]
Count = Annotated[int, Field(ge=1)]
Place = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Refuse(Strict):
    """Answer with an error. `before`: nothing took place. `after`: it did."""

    status: Literal[400, 401, 402, 403, 404, 409, 413, 429, 500, 503, 504, 529]
    retry_after: Seconds | None = None
    error_code: str | None = None
    message: str | None = None
    moment: Moment = "before"


class Cut(Strict):
    """Cut the connection without a word."""

    drop: Moment


class Hang(Strict):
    """Say nothing for so long, then go on or cut the connection."""

    hang_seconds: Seconds
    then: Literal["go_on", "drop"] = "go_on"
    moment: Moment = "before"


class Garble(Strict):
    """200 with a body that is no JSON, after the effect took place: a page of HTML, or half of the true body."""

    garbage: Literal[True, "html", "json"]


class Slow(Strict):
    """The body comes in ten pieces over so long."""

    slow_seconds: Seconds


class Lag(Strict):
    """A batch is not listed before it is so old."""

    lag_seconds: Seconds


class Break(Strict):
    """What happens to a streamed message after so many deltas; to one with fewer, when all is said."""

    error_after_deltas: Place | None = None
    error: Literal["overloaded_error", "api_error", "rate_limit_error", "timeout_error"] = "overloaded_error"
    cut_after_deltas: Place | None = None
    end_after_deltas: Place | None = None
    stall_after_deltas: Place | None = None
    stall_seconds: Seconds = 0

    @model_validator(mode="after")
    def _happens_once(self) -> "Break":
        if len(self.model_fields_set & BREAKS) > 1:
            raise ValueError(f"{' and '.join(sorted(self.model_fields_set & BREAKS))}: a stream breaks once")
        for name, needs in (("error", "error_after_deltas"), ("stall_seconds", "stall_after_deltas")):
            if name in self.model_fields_set and needs not in self.model_fields_set:
                raise ValueError(f"{name}: only with {needs}")
        return self

    @property
    def deltas(self) -> int:
        return next(place for name in BREAKS if (place := getattr(self, name)) is not None)


class Damage(Strict):
    """What happens to a stream of results. Lines are counted from 1, as they would have been sent."""

    shuffle: Literal[True] | None = None
    repeat_lines: Literal[True] | None = None
    garbage_line: Count | None = None
    cut_after_lines: Place | None = None
    cut_mid_line: Count | None = None
    end_after_lines: Place | None = None
    cut_mid_line_cleanly: Count | None = None
    no_last_newline: Literal[True] | None = None

    @model_validator(mode="after")
    def _does_something(self) -> "Damage":
        if not self.model_fields_set:
            raise ValueError("says nothing to do")
        ends = {"cut_after_lines", "cut_mid_line", "end_after_lines", "cut_mid_line_cleanly"} & self.model_fields_set
        if len(ends) > 1:
            raise ValueError(f"{' and '.join(sorted(ends))}: a stream ends once")
        return self


BREAKS = {"error_after_deltas", "cut_after_deltas", "end_after_deltas", "stall_after_deltas"}
HEADS = {
    "status": Refuse,
    "drop": Cut,
    "hang_seconds": Hang,
    "garbage": Garble,
    "slow_seconds": Slow,
    "lag_seconds": Lag,
    **dict.fromkeys(sorted(BREAKS), Break),
}
TAGS = {*(kind.__name__ for kind in HEADS.values()), "Damage"}


def _kind(given: Any) -> str:
    # Whatever has no head is damage to results, or a mistake that its message explains.
    if not isinstance(given, dict):
        return type(given).__name__
    return next((kind.__name__ for head, kind in HEADS.items() if head in given), "Damage")


Act = Refuse | Cut | Hang | Garble | Slow | Lag | Break | Damage
Told = Annotated[
    Annotated[Refuse, Tag("Refuse")]
    | Annotated[Cut, Tag("Cut")]
    | Annotated[Hang, Tag("Hang")]
    | Annotated[Garble, Tag("Garble")]
    | Annotated[Slow, Tag("Slow")]
    | Annotated[Lag, Tag("Lag")]
    | Annotated[Break, Tag("Break")]
    | Annotated[Damage, Tag("Damage")],
    Discriminator(_kind),
]
"""An act as a plan tells it: the key it begins with says which."""
