"""Read a fault plan strictly: rules about calls, rows or batches.

Within a rule everything that says which must hold; of several rules that strike one thing, the first decides.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from emulator.acts import HEADS, TAGS, Break, Count, Damage, Lag, Seconds, Strict, Told

Share = Annotated[float, Field(ge=0, le=1)]
Places = Annotated[list[Count], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]
# The calls whose body asks for a model.
NAMING_A_MODEL = ("messages", "count_tokens")


class PlanError(ValueError):
    """A plan that cannot be read; says which rule, which key and what is wrong with it."""


class Window(Strict):
    """From when and for how long, by the emulator's clock, since the plan was loaded."""

    after_seconds: Seconds = 0
    for_seconds: Seconds | None = None


class Which(Window):
    """Counted from 1, per account, since the plan was loaded; with a `model`, among what asks for that one."""

    nth: Places | None = None
    first: Count | None = None
    every: Count | None = None
    share: Share | None = None
    seed: int = 0
    key: str | None = None


class CallRule(Which):
    call: Literal["create", "list", "retrieve", "results", "cancel", "delete", "messages", "count_tokens"]
    model: str | None = None
    do: Told

    @model_validator(mode="after")
    def _fits(self) -> "CallRule":
        for kind, call in ((Damage, "results"), (Lag, "list"), (Break, "messages")):
            if isinstance(self.do, kind) and self.call != call:
                raise ValueError(f"{', '.join(sorted(self.do.model_fields_set))}: only for `call: {call}`")
        if self.model and self.call not in NAMING_A_MODEL:
            raise ValueError("model: only for `call: messages` and `call: count_tokens`")
        return self


class Rows(Window):
    """`first` and `every` count an account's rows over all its batches, those of the `model` if there is one.

    `share` is drawn from the seed and the row's messages alone: the same row is struck in whatever batch it is.
    """

    share: Share | None = None
    seed: int = 0
    text: str | None = None
    nth: Places | None = None
    first: Count | None = None
    every: Count | None = None
    model: str | None = None
    attempts: Count | None = None
    key: str | None = None


class RowResult(Strict):
    errored: (
        Literal[
            "api_error", "overloaded_error", "rate_limit_error", "timeout_error", "invalid_request_error",
            "not_found_error", "permission_error", "authentication_error", "billing_error", "request_too_large",
            "credit",
        ]
        | None
    ) = None  # fmt: skip
    message: str | None = None
    expired: Literal[True] | None = None
    canceled: Literal[True] | None = None
    missing: Literal[True] | None = None
    stop: str | None = None
    block: str | None = None
    not_json: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_a_word(cls, given: Any) -> Any:
        return {given: True} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_one_thing(self) -> "RowResult":
        if len(self.model_fields_set - {"message"}) != 1:
            raise ValueError("a row has one result")
        if self.message is not None and self.errored in (None, "credit"):
            raise ValueError("message: only with `errored`, of what it is said")
        return self


class RowRule(Strict):
    rows: Rows
    result: RowResult


class Fate(Strict):
    """What becomes of a batch. Shares are of its rows; seconds are the emulator's clock's."""

    seconds: Seconds | None = None
    invisible_seconds: Seconds = 0
    partial_counts: bool = False
    canceled: Share | None = None
    expired: Share | None = None
    deleted: bool = False
    archived: bool = False

    @model_validator(mode="after")
    def _is_possible(self) -> "Fate":
        if not self.model_fields_set:
            raise ValueError("says nothing to do")
        if self.canceled is not None and self.expired is not None:
            raise ValueError("canceled and expired: a batch ends once")
        return self


class BatchRule(Strict):
    batch: Which
    do: Fate


Rule = CallRule | RowRule | BatchRule
KINDS: dict[str, type[Rule]] = {"call": CallRule, "rows": RowRule, "batch": BatchRule}
ACT_NAMES = {name for kind in {*HEADS.values(), Damage} for name in kind.model_fields}
NAMES: dict[str, set[str]] = {
    "call": {"call", "do", "model", *Which.model_fields, *ACT_NAMES},
    "rows": {"rows", "result", *Rows.model_fields, *RowResult.model_fields},
    "batch": {"batch", "do", *Which.model_fields, *Fate.model_fields},
}  # fmt: skip


def read_plan(source: Path | str | bytes | Sequence[Any]) -> list[Rule]:
    """Return the rules of a file, of a text (YAML or JSON), or of a list already parsed. Raises PlanError."""
    if isinstance(source, Path):
        source = source.read_bytes()
    if isinstance(source, str | bytes):
        try:
            source = yaml.safe_load(source) or []
        except yaml.YAMLError as error:
            raise PlanError(f"a plan is YAML or JSON: {error}") from None
    if not isinstance(source, list | tuple):
        raise PlanError("a plan is a list of rules, each with `call`, `rows` or `batch`")
    return [_read_rule(place, given) for place, given in enumerate(source, 1)]


def as_given(rule: Rule) -> dict[str, Any]:
    """Return a rule in the form in which a plan has it, its kind first."""
    shown = rule.model_dump(exclude_unset=True)
    return {kind: shown[kind] for kind in KINDS if kind in shown} | shown


def _read_rule(place: int, given: Any) -> Rule:
    kinds = [kind for kind in KINDS if kind in given] if isinstance(given, dict) else []
    if len(kinds) != 1:
        raise PlanError(f"rule {place}: has to have one of the keys `call`, `rows` and `batch`")
    kind = kinds[0]
    try:
        return KINDS[kind].model_validate(given)
    except ValidationError as error:
        called = f"call: {given['call']}" if kind == "call" else kind
        raise PlanError("; ".join(f"rule {place} ({called}): {_told(each, kind)}" for each in error.errors())) from None


def _told(error: Any, kind: str) -> str:
    tags: set[str] = TAGS if kind == "call" else set()
    path = [
        str(step) for at, step in enumerate(error["loc"]) if not (at == 1 and error["loc"][0] == "do" and step in tags)
    ]
    where = f"`{'.'.join(path)}`: " if path else ""
    if error["type"] != "extra_forbidden":
        return where + error["msg"].removeprefix("Value error, ")
    nearest = get_close_matches(path[-1], NAMES[kind] - {path[-1]}, 1)
    return f"{where}no such key here" + (f"; did you mean `{nearest[0]}`?" if nearest else "")
