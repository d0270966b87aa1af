"""The model catalogue: ids, limits, rules and prices, from `models.yaml` and an operator's overrides."""

import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_spec import Effort, Tiers
from rowtide.job.yaml_file import read_yaml

PACKAGED = "models.yaml"
RANKS: dict[str, int] = {effort: rank for rank, effort in enumerate(get_args(Effort))}  # easiest first


class CatalogueEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(CatalogueEntry):
    """US dollars per million tokens, live."""

    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """Prices per token in the order above, as integers; the last item says how many make a micro-dollar."""
        prices = (self.input, self.output, self.cache_write_5m, self.cache_write_1h, self.cache_read)
        ratios = [price.as_integer_ratio() for price in prices]
        per = math.lcm(*(below for _, below in ratios))
        return *(above * per // below for above, below in ratios), per


class Efforts(CatalogueEntry):
    """The efforts that a model accepts, lowest first."""

    legal: list[Effort]
    default: Effort

    @model_validator(mode="after")
    def _default_is_legal(self) -> "Efforts":
        if self.legal != sorted(self.legal, key=RANKS.__getitem__):
            raise ValueError(f"the easiest first: {', '.join(RANKS)}")
        if self.default not in self.legal:
            raise ValueError(f"the default {self.default!r} is not among {', '.join(self.legal)}")
        return self


class Thinking(CatalogueEntry):
    """The types of thinking that a request may ask for, each up to an effort, and the type it does ask for."""

    types: dict[str, Effort]
    send: str | None = None

    @model_validator(mode="after")
    def _sends_a_type(self) -> "Thinking":
        if self.send is not None and self.send not in self.types:
            raise ValueError(f"{self.send!r} cannot be sent; it may be {', '.join(self.types)}")
        return self


class Model(CatalogueEntry):
    alias: str
    id: str
    context_tokens: int
    max_output_tokens: int
    cache_minimum_tokens: int
    efforts: Efforts
    thinking: Thinking
    alternatives: list[str] = []
    fall_back_after_seconds: float = Field(ge=0)
    prices: dict[int, Price]
    """Prompt tokens above which each price begins → price."""
    priced_on: date
    source: str
    batch_share: Decimal

    @model_validator(mode="after")
    def _prices_begin_at_nothing(self) -> "Model":
        if 0 not in self.prices:
            raise ValueError("prices: one must begin above 0 tokens")
        return self

    def price_at(self, prompt_tokens: int) -> Price:
        """Return the price of a request with a prompt of so many tokens."""
        begins = 0  # the step of the shortest prompts
        for step in self.prices:
            if begins < step < prompt_tokens:
                begins = step
        return self.prices[begins]

    def effort(self, asked: str | None) -> str | None:
        """Return the effort of a request for a row that asks for `asked`: that, or the nearest legal one below."""
        if asked is None:
            return None
        easy_enough = [each for each in self.efforts.legal if RANKS[each] <= RANKS[asked]]
        return easy_enough[-1] if easy_enough else self.efforts.legal[0]

    def thinking_at(self, effort: str | None) -> str | None:
        """Return the type of thinking in a request of this effort; None for none."""
        send = self.thinking.send
        return send if send and RANKS[effort or self.efforts.default] <= RANKS[self.thinking.types[send]] else None


class Overrides(CatalogueEntry):
    """An operator's changes to the packaged catalogue and to the jobs' ladders."""

    models: dict[str, dict[str, Any] | None] = {}
    """Alias → changed keys of its entry. A null removes a key."""
    tiers: dict[str, Tiers] = {}
    """Job → its ladder; "*" applies to all jobs without an entry."""
    place: str = Field(default="overrides", exclude=True)
    """Where the overrides were read; errors name it."""


NOTHING = Overrides()


class Catalogue(CatalogueEntry):
    models: dict[str, Model]
    overrides: Overrides = NOTHING

    def tier(self, alias: str, *, key: str = "tiers", file: str | None = None) -> Model:
        """Return the model with this alias. Raises UserMistake with the nearest name."""
        if alias not in self.models:
            meant = nearest_name(alias, self.models)
            what = f"{alias!r} is not a tier; tiers: {', '.join(self.models)}"
            raise UserMistake(what, file=file, key=key, meant=meant)
        return self.models[alias]

    def ladder(self, job: str, tiers: list[str]) -> list[str]:
        """Return the ladder of a job that asks for `tiers`."""
        overriding = self.overrides.tiers
        return list(overriding.get(job) or overriding.get("*") or tiers)

    def unknown_id(self, alias: str) -> str:
        """Return the message for an id that the API does not know: where it stands, and the nearest known id."""
        model, overriding = self.models[alias], self.overrides.models.get(alias) or {}
        place = self.overrides.place if "id" in overriding else f"{PACKAGED}:{_line_of(model.id)}"
        known = {each.id for each in (*self.models.values(), *load_catalogue().models.values())} - {model.id}
        meant = nearest_name(model.id, known)
        words = f"{place}: models.{alias}.id: the API has no model {model.id!r} for this account"
        return words + (f"; did you mean {meant!r}?" if meant else "")


def load_catalogue(overrides: Overrides = NOTHING) -> Catalogue:
    """Return the packaged catalogue with overrides. Raises UserMistake with place, key and nearest name."""
    return _packaged() if overrides is NOTHING else _merged(overrides)


def read_overrides(file: Path) -> Overrides:
    """Read a user's changes to the built-in models and tiers from a YAML file. Raises UserMistake."""
    if not file.is_file():
        raise UserMistake("no such file", file=file, key="ROWTIDE_MODELS")
    found = read_yaml(file)[0] or {}
    if not isinstance(found, dict):
        raise UserMistake("expected a mapping with `models`, `tiers` or both", file=file)
    return parse_overrides(found, str(file))


def parse_overrides(found: Mapping[str, Any], place: str) -> Overrides:
    """Parse overrides that were written at `place`. Raises UserMistake."""
    try:
        return Overrides.model_validate({**found, "place": place})
    except ValidationError as error:
        raise _mistake(error, place, (), Overrides) from None


@cache
def _packaged() -> Catalogue:
    return _merged(NOTHING)


def _merged(overrides: Overrides) -> Catalogue:
    raw = _raw()
    entries = _over(raw["models"], overrides.models)
    place = overrides.place if overrides is not NOTHING else PACKAGED
    models: dict[str, Model] = {}
    for alias, entry in entries.items():
        try:
            models[alias] = Model(**{"alias": alias, "batch_share": raw["batch_share"], **entry})
        except ValidationError as error:
            new = "" if alias in raw["models"] else nearest_name(alias, raw["models"])
            raise _mistake(error, place, ("models", alias), Model, meant=new or None) from None
    found = Catalogue(models=models, overrides=overrides)
    for model in models.values():
        for alias in model.alternatives:
            found.tier(alias, file=place, key=f"models.{model.alias}.alternatives")
    for job, tiers in overrides.tiers.items():
        for alias in tiers:
            found.tier(alias, file=place, key=f"tiers.{job}")
    return found


def _over(under: Any, over: Any) -> Any:
    """Merge `over` into `under`: mappings key by key, a null removes its key, all else is replaced."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    # A block stores JSON, whose keys are text; the steps of a price are numbers.
    overriding = {int(key) if isinstance(key, str) and key.isdigit() else key: value for key, value in over.items()}
    laid = {**under, **{key: _over(under.get(key), value) for key, value in overriding.items()}}
    return {key: value for key, value in laid.items() if key not in overriding or overriding[key] is not None}


def _mistake(
    error: ValidationError, place: str, inside: tuple[str, ...], model: type[BaseModel], meant: str | None = None
) -> UserMistake:
    first = error.errors()[0]
    key = ".".join(str(part) for part in (*inside, *first["loc"]))
    if first["type"] == "extra_forbidden":
        known = {name for each in (model, Price, Efforts, Thinking) for name in each.model_fields}
        return UserMistake("unknown key", file=place, key=key, meant=nearest_name(str(first["loc"][-1]), known))
    what = "this key is required" if first["type"] == "missing" else f"{first['msg']} (got {first['input']!r:.80})"
    return UserMistake(what, file=place, key=key, meant=meant)


@cache
def _raw() -> dict[str, Any]:
    return yaml.safe_load(_text())


def _text() -> str:
    return (files("rowtide.tiers") / PACKAGED).read_text(encoding="utf-8")


def _line_of(words: str) -> int:
    return next((number for number, line in enumerate(_text().splitlines(), 1) if words in line), 1)
