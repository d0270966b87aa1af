"""Compare an answered value with the known one, field by field: exact, folded, number, date, set, enum order, judged.

Values are as JSON holds them. True is not 1. Null is only null. A field's kind says how it is compared, unless the job
names a comparer, or brings its own: `compare_FIELD(known, answered)` in answer.py, which returns true or false.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.judged_pairs import Judgements, pair_hash
from rowtide.job.answer_fields import LIST_OF, AnswerField
from rowtide.job.evals_spec import Date, EnumOrder, Exact, Folded, Judge, Number, SetF1
from rowtide.job.job_code import JobCodeFailure, functions_with_prefix, run_job_code

OWN = "compare_"
EXACT = Context(prec=120, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])  # more digits than any sink holds
DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class JobComparer:
    """A function of the job's: `compare_FIELD` of its answer.py."""

    name: str
    file: Path
    code: Callable[[Any, Any], object]


Comparer = Exact | Folded | Number | Date | SetF1 | EnumOrder | Judge | JobComparer


def values_agree(comparer: Comparer | Judgements, known: Any, answered: Any) -> bool | JobCodeFailure:
    """Return whether two values are the same to a comparer.

    Returns a failure when a job's own comparer raises, or returns anything but True or False, and when a judge came to
    no verdict. Of a `Judge` that was not asked, only texts that are alike but for case and spaces are the same. Never
    raises for JSON values.
    """
    if isinstance(comparer, JobComparer):
        return _own_agrees(comparer, known, answered)
    if known is None or answered is None:
        return known is answered
    match comparer:
        case Exact():
            return _atom(known) == _atom(answered)
        case Folded() | Judge():
            return is_same_text(known, answered)
        case Judgements():
            return is_same_text(known, answered) or _judged(comparer, known, answered)
        case Number():
            return _near(comparer, _number(known), _number(answered))
        case Date():
            return _same_time(comparer.days, known, answered)
        case SetF1():
            return _f1(comparer, known, answered) >= comparer.at_least
        case EnumOrder():
            places = {word: place for place, word in enumerate(comparer.order)}
            if not isinstance(known, str) or not isinstance(answered, str) or not {known, answered} <= places.keys():
                return False
            return abs(places[known] - places[answered]) <= comparer.steps


def is_same_text(known: Any, answered: Any) -> bool:
    """Return whether two values are the same but for case, spaces and how Unicode writes a letter: no judge is asked
    about them.
    """
    return _atom(known, is_folded=True) == _atom(answered, is_folded=True)


def default_comparer(kind: str) -> Comparer | None:
    """Return the comparer of a field of this kind (`answer_fields`) unless the job names another. None for nested
    kinds: nobody can tell which of their parts matter.
    """
    if kind.startswith(LIST_OF):
        return SetF1()
    match kind.partition("(")[0].partition(" ")[0]:
        case "integer" | "number" | "decimal":
            return Number()
        case "date" | "datetime":
            return Date()
        case "json":
            return None
        case _:
            return Exact()


def comparers_of(
    fields: Sequence[AnswerField], named: Mapping[str, Comparer], own: Mapping[str, JobComparer]
) -> dict[str, Comparer]:
    """Return field → comparer: the job's own function, else the one that job.yaml names, else that of the field's kind.

    A field without any is left out. Raises UserMistake for a name that is no field, and for a field with both a
    function and a name in job.yaml.
    """
    known = {field.name for field in fields}
    for name in named:
        if name not in known:
            raise UserMistake(
                "the answer has no such field", key=f"evals.fields.{name}", meant=nearest_name(name, known)
            )
    for name, each in own.items():
        if name not in known:
            what = f"{each.name}: the answer has no field {name!r}"
            raise UserMistake(what, file=each.file, meant=nearest_name(name, known))
        if name in named:
            what = f"is compared by {each.name} in {each.file.name} too; keep one of the two"
            raise UserMistake(what, key=f"evals.fields.{name}")
    found = {
        field.name: own.get(field.name) or named.get(field.name) or default_comparer(field.kind) for field in fields
    }
    return {name: each for name, each in found.items() if each is not None}


def job_comparers(module: Mapping[str, object], file: Path) -> dict[str, JobComparer]:
    """Return field → the function `compare_FIELD` of answer.py. `module` is what answer.py defines (its `vars`).

    Raises UserMistake for a function that cannot be called with two values.
    """
    found = functions_with_prefix(module, OWN, "a comparer is a function of the known value and the answered one", file)
    return {name.removeprefix(OWN): JobComparer(name, file, code) for name, code in found.items()}


def _own_agrees(comparer: JobComparer, known: Any, answered: Any) -> bool | JobCodeFailure:
    result = run_job_code("comparer_failed", comparer.name, comparer.file, lambda: comparer.code(known, answered))
    if isinstance(result, bool | JobCodeFailure):
        return result
    where = f"{comparer.name} ({comparer.file.name}) returned {type(result).__name__}"
    return JobCodeFailure("comparer_failed", where, "a comparer returns True or False")


def _judged(comparer: Judgements, known: Any, answered: Any) -> bool | JobCodeFailure:
    verdict = comparer.same.get(pair_hash(known, answered))
    return verdict if verdict is not None else JobCodeFailure("comparer_failed", "the judge", "it came to no verdict")


def _atom(value: Any, *, is_folded: bool = False) -> Hashable:
    """What two values share exactly where they are the same: 1 is 1.0, and True is neither."""
    match value:
        case str():
            return _folded(value) if is_folded else value
        case bool() | None:
            return ("word", value)
        case int():
            return ("number", Decimal(value))
        case float():
            return ("number", Decimal(repr(value)))
        case list():
            return ("list", *(_atom(each, is_folded=is_folded) for each in cast(list[Any], value)))
        case dict():
            named = cast(dict[str, Any], value)
            return ("object", *((name, _atom(named[name], is_folded=is_folded)) for name in sorted(named)))
        case _:
            return ("other", repr(value))


def _folded(text: str) -> str:
    """Folded twice: what a letter folds to may be written in another way itself."""
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split())


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        found = Decimal(value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _near(comparer: Number, known: Decimal | None, answered: Decimal | None) -> bool:
    if known is None or answered is None:
        return False
    relative = EXACT.multiply(Decimal(repr(float(comparer.relative))), EXACT.abs(known))
    allowed = max(Decimal(repr(float(comparer.absolute))), relative)
    return known == answered or EXACT.abs(EXACT.subtract(known, answered)) <= allowed


def _same_time(days: int, known: Any, answered: Any) -> bool:
    if not isinstance(known, str) or not isinstance(answered, str):
        return False
    first, second = _time(known), _time(answered)
    if first is None or second is None:
        return False
    if days or DATE.fullmatch(known.strip()):
        return abs(first.date().toordinal() - second.date().toordinal()) <= days
    if (first.tzinfo is None) != (second.tzinfo is None):
        return False  # nobody knows which moment the one without a zone is
    return first == second


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _f1(comparer: SetF1, known: Any, answered: Any) -> float:
    if not isinstance(known, list) or not isinstance(answered, list):
        return 0.0
    first, second = ({_atom(each, is_folded=comparer.folded) for each in value} for value in (known, answered))
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 1.0
