"""Habits: mistakes that words in the instructions cure or cause, so that a good prompt can be told from a bad one.

Those of the demo's job are in habits.yaml, and always hold; others are given as a setting. Rows are drawn by their text
alone: a habit strikes the same rows every time, and where a dear model has it, the cheap ones have it too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from emulator.acts import Strict
from emulator.effort import wrong_per_hundred
from emulator.identifiers import fingerprint
from emulator.known_answers import NONE_KNOWN, KnownAnswers
from emulator.mistakes import Mistake, mistakes_of
from emulator.reading import Reading
from emulator.words import plain


def _moment(given: Any) -> Any:
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            return given
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time())
    return given.replace(tzinfo=UTC) if isinstance(given, datetime) and given.tzinfo is None else given


def _listed(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
PerHundred = Annotated[int, Field(ge=0, le=100)]


class Chances(Strict):
    """Of a hundred rows that a habit strikes, how many each tier gets wrong."""

    haiku: PerHundred = 100
    sonnet: PerHundred = 100
    opus: PerHundred = 100


class Habit(Strict):
    name: str
    """Draws its rows: another name strikes other rows."""
    mistake: Mistake
    effect: Literal["makes", "spares"] = "makes"
    """`spares`: a row that would go wrong in this way does not."""
    share: Annotated[float, Field(ge=0, le=1)]
    """Of all rows; with `spares`, of those that would go wrong."""
    wrong: Chances = Chances()
    field: str | None = None
    """The property that goes wrong; else the first that can."""
    says: str | None = None
    """What is answered instead."""
    where: Names = ()
    """Properties that the answer must have: other jobs do not know the habit."""
    cured_by: Names = ()
    """Phrases. Where the instructions have one of them, nobody has the habit."""
    described_by: Names = ()
    """The same, of the answer's properties: `name: the first words of its description`."""
    caused_by: Names = ()
    """Phrases. Where the instructions have none of them, nobody has the habit."""
    models: Names = ()
    """Which models have it; all, if none is named."""
    since: Annotated[datetime | None, BeforeValidator(_moment)] = None
    """From when on, by the emulator's clock."""

    @model_validator(mode="after")
    def _spares_for_a_reason(self) -> "Habit":
        if self.effect == "spares" and not self.caused_by:
            raise ValueError("a habit that spares mistakes says in `caused_by` which words do so")
        return self


Habits = Annotated[tuple[Habit, ...], BeforeValidator(_listed)]
HABITS: TypeAdapter[tuple[Habit, ...]] = TypeAdapter(Habits)


@dataclass(frozen=True, slots=True)
class Temper:
    """What makes minds err besides a row's text: settings, as they were when a request was accepted."""

    hardness: str = "text"
    habits: str = "[]"
    """Habits besides the demo's, as JSON."""
    at: datetime | None = None
    known: KnownAnswers = NONE_KNOWN


AS_EVER = Temper()


@dataclass(frozen=True, slots=True)
class Slip:
    """One mistake that an answer is to have."""

    mistake: Mistake
    field: str | None = None
    says: str | None = None


def as_json(habits: Iterable[Habit]) -> str:
    return orjson.dumps([habit.model_dump(mode="json", exclude_defaults=True) for habit in habits]).decode()


def slips_of(reading: Reading, model: str, tier: str, temper: Temper) -> list[Slip]:
    """What goes wrong with a row, the first that the request gives occasion for; empty when all goes well."""
    usual = mistakes_of(reading, tier)
    properties = ((reading.schema or {}).get("properties") or {}).items()
    described = tuple((name, str(each.get("description", ""))) for name, each in properties)
    known = _in_force(temper.habits, reading.instructions, described)
    if not known:
        return [Slip(mistake) for mistake in usual]
    held = [each for each in known if _holds(each, model, temper.at) and _strikes(each, reading, tier)]
    made = [Slip(each.mistake, each.field, each.says) for each in held if each.effect == "makes"]
    if reading.corrections and fingerprint(reading.row_text, "mends") % 2 == 0:
        made = []  # whatever the tier: what the instructions leave out, a better model does not know either
    if usual and any(each.effect == "spares" and each.mistake == usual[0] for each in held):
        usual = ()
    return [*made, *(Slip(mistake) for mistake in usual)]


@lru_cache(maxsize=512)
def _in_force(habits: str, instructions: str, properties: tuple[tuple[str, str], ...]) -> tuple[Habit, ...]:
    """The habits that these instructions, and the descriptions of the answer's properties, neither cure nor leave
    without a cause."""
    names = {name for name, _ in properties}
    mine = [each for each in (*DEMO, *HABITS.validate_python(orjson.loads(habits))) if set(each.where) <= names]
    said = plain(instructions) if mine else ""
    described = [plain(f"{name}: {description}") for name, description in properties] if mine else []
    return tuple(
        each
        for each in mine
        if not any(plain(phrase) in said for phrase in each.cured_by)
        and not any(text.startswith(plain(phrase).rstrip()) for text in described for phrase in each.described_by)
        and (not each.caused_by or any(plain(phrase) in said for phrase in each.caused_by))
    )


def _holds(habit: Habit, model: str, at: datetime | None) -> bool:
    """Whether this model has it at this time."""
    is_time = habit.since is None or (at is not None and at >= habit.since)
    return is_time and (not habit.models or model in habit.models)


def _strikes(habit: Habit, reading: Reading, tier: str) -> bool:
    if fingerprint(reading.row_text, habit.name) % 1000 >= 1000 * habit.share:
        return False
    if habit.effect == "spares":
        return True
    chance = wrong_per_hundred(getattr(habit.wrong, tier), reading.effort, tier)
    return fingerprint(reading.row_text, habit.name, "wrong") % 100 < chance


def read_habits(file: Path) -> Any:
    """What a file of habits holds, unchecked."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


DEMO = HABITS.validate_python(read_habits(Path(__file__).with_name("habits.yaml")))
