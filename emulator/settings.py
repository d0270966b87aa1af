"""Settings an operator can change while it runs: rate limits, reply times, hardness, habits."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from emulator.acts import Strict
from emulator.habits import Habit, Habits
from emulator.identifiers import workspace_of

Rate = Annotated[int, Field(ge=1)]
Hardness = Literal["text", "features"]


class SettingsError(ValueError):
    """Settings that cannot be read; says which key and what is wrong with it."""


class Limits(Strict):
    """Per minute, for each account and each class of models. The defaults are those of the Scale tier."""

    requests: Rate = 10_000
    input_tokens: Rate = 10_000_000
    """What is read from the prompt cache does not count."""
    output_tokens: Rate = 2_000_000
    count_tokens: Rate = 20_000
    """Calls of count_tokens, which take from nothing else."""


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("LOW must be at least 0 and at most HIGH")
    return bounds


Range = Annotated[
    tuple[float, float],
    BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
    AfterValidator(_in_order),
]


class Settings(Strict):
    limits: Limits = Limits()
    reply_seconds: Range = (0.0, 0.0)
    """How long a direct call takes to be answered, or a stream to be written: real seconds."""
    hardness: Hardness = "text"
    """What makes a row hard: nothing but its text as such, or features of it (hardness.py)."""
    habits: Habits = ()
    """Mistakes that words in the instructions cure or cause, or that begin at a date (habits.py)."""


class SettingsBook:
    """The settings of every account: those of all, with what was set for it alone."""

    def __init__(self, **given: Any) -> None:
        self._given: dict[str | None, dict[str, Any]] = {None: {}}
        self._read: dict[str | None, Settings] = {}
        self.change(**given)

    def of(self, workspace: str | None) -> Settings:
        if workspace not in self._read:
            self._read[workspace] = _read(_merged(self._given[None], self._given.get(workspace, {})))
        return self._read[workspace]

    def change(self, api_key: str | None = None, /, **given: Any) -> None:
        """Set what is given, for one account or (without a key) for all; the rest stays. All of it or nothing."""
        workspace = workspace_of(api_key) if api_key else None
        kept = _merged(self._given.get(workspace, {}), given)
        _read(_merged(self._given[None], kept))
        self._given[workspace] = kept
        self._read = {}

    def reset(self, api_key: str | None = None) -> None:
        """Forget what was set for one account, or (without a key) for all and for each."""
        if api_key:
            self._given.pop(workspace_of(api_key), None)
        else:
            self._given = {None: {}}
        self._read = {}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    limits = [each.get("limits", {}) for each in (under, over)]
    if not all(isinstance(each, Mapping) for each in limits):
        raise SettingsError("`limits`: Input should be an object")
    return {**under, **over, "limits": {**limits[0], **limits[1]}}


def _read(given: Mapping[str, Any]) -> Settings:
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as error:
        raise SettingsError("; ".join(_told(each) for each in error.errors())) from None


def _told(error: Any) -> str:
    path = ".".join(str(step) for step in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"`{path}`: {error['msg'].removeprefix('Value error, ')}"
    known = {"limits": Limits, "habits": Habit}.get(error["loc"][0], Settings).model_fields
    nearest = get_close_matches(str(error["loc"][-1]), known, 1)
    return f"`{path}`: no such key here" + (f"; did you mean `{nearest[0]}`?" if nearest else "")
