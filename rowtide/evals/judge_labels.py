"""People's labels of pairs: read and check `judged.jsonl`, by which the judges of fields are certified.

{"field": "summary", "golden": "Parcel late", "answer": "It came late", "same": true, "by": "Ada"}
"""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.comparers import is_same_text
from rowtide.evals.golden_rows import numbered_lines, object_of_line
from rowtide.evals.judged_pairs import pair_hash
from rowtide.evals.judges import least_labels

JUDGED_FILE = "judged.jsonl"
LEGAL = ("field", "golden", "answer", "same", "by")
NO_PERSON = ("rule", "model")
SHAPE = 'a labelled pair is {"field": …, "golden": …, "answer": …, "same": true or false, "by": …} on one line'
WORDS = {True: "same", False: "different"}


class Label(NamedTuple):
    """What a person says of one pair."""

    field: str
    golden: Any
    answer: Any
    same: bool
    line: int

    @property
    def pair(self) -> str:
        return pair_hash(self.golden, self.answer)


def read_labels(file: Path, fields: Collection[str]) -> dict[str, list[Label]]:
    """Return field → its labelled pairs, each pair once; none when there is no such file. `fields` have judges.

    Raises UserMistake with file and line for the first line that is no label of a person's.
    """
    found: dict[tuple[str, str], Label] = {}
    if file.is_file():
        with file.open("rb") as lines:
            for number, line in numbered_lines(lines, file, SHAPE):
                label = _label(line, number, file, fields)
                first = found.setdefault((label.field, label.pair), label)
                if first.same != label.same:
                    what = f"line {first.line} says of this pair that it is {WORDS[first.same]}; keep one of the two"
                    raise UserMistake(what, file=file, line=number)
    return {field: [each for each in found.values() if each.field == field] for field in fields}


def check_enough_labels(labels: Mapping[str, list[Label]], file: Path) -> None:
    """Raise UserMistake where so few pairs are labelled that no judge could be certified, with how many are missing."""
    needed = least_labels()
    for field, mine in labels.items():
        have = Counter(label.same for label in mine)
        missing = {same: needed - have[same] for same in (True, False) if have[same] < needed}
        if missing:
            lacks = " and ".join(f"{count} pairs that people call {WORDS[same]}" for same, count in missing.items())
            what = (
                f"the judge of {field} gates nothing before people's labels certify it: {file.name} lacks {lacks}. "
                f"{needed} of each kind do if it errs on none, about 65 if it errs on one in ten; see docs/evals.md"
            )
            raise UserMistake(what, file=file)


def _label(line: bytes, number: int, file: Path, fields: Collection[str]) -> Label:
    value = object_of_line(line, number, file, shape=SHAPE, thing="a labelled pair", legal=LEGAL)
    if lacking := [name for name in LEGAL if name not in value]:
        raise UserMistake(f"lacks {', '.join(lacking)}; {SHAPE}", file=file, line=number)
    field: Any = value["field"]
    if field not in fields:
        what = f"{field!r} has no judge in evals.fields; fields with one: {', '.join(fields)}"
        raise UserMistake(what, file=file, line=number, meant=nearest_name(str(field), fields))
    if what := _fault(value):
        raise UserMistake(what, file=file, line=number)
    return Label(field, value["golden"], value["answer"], value["same"], number)


def _fault(value: Mapping[str, Any]) -> str | None:
    by = value["by"]
    if not isinstance(value["same"], bool):
        return "`same` must be true or false"
    if not isinstance(by, str) or not by.strip():
        return "`by` must be the name of the person who labelled it"
    if by.partition(":")[0].strip().casefold() in NO_PERSON:
        return f"`by` is {by!r}: only people's labels certify a judge"
    if value["golden"] is None or value["answer"] is None or is_same_text(value["golden"], value["answer"]):
        return "about this pair no judge is asked: one is null, or both are the same but for case and spaces"
    return None
