"""Text about a run's answers: how many known answers are right, and how the values of each field are distributed."""

from collections.abc import Mapping
from typing import Any

from rowtide.api.api_identity import OWN_EMULATOR, describe_api
from rowtide.text_format import shorten_text

ENOUGH_ROWS, ONE_VALUE = 10, 0.95  # a field that nearly always says the same is worth a look
COMMON = 0.05  # of the answers: a value that is named
FIELDS_SHOWN = 6
MADE_UP_SHOWN = 6  # of the emulator's sentences


def answer_lines(found: Mapping[str, Any]) -> list[str]:
    """Who answered if not a model, how many known answers came out right, and what the answers look like."""
    lines: list[str] = []
    if found["made_up"]:
        lines += made_up_lines(found)
    if golden := found.get("golden"):
        wrong = golden["rows"] - golden["right"] - golden["quarantined"]
        right = (
            f"{golden['right']:,} of {golden['rows']:,} known answers right ({golden['right'] / golden['rows']:.0%})"
        )
        of_whom = "; the emulator was told them" if found["api"] == OWN_EMULATOR else ""
        lines.append(f"golden   {right}, {wrong:,} wrong, {golden['quarantined']:,} quarantined{of_whom}")
    read, fields = found.get("answers_read", 0), found.get("answers", {})
    texts = [f"{name}: {_field_words(each)}" for name, each in fields.items() if each["rows"]]
    if texts:
        of = "" if read >= found["loaded"] else f" (of the first {read:,})"
        lines.append(f"fields   {' · '.join(texts[:FIELDS_SHOWN])}{of}")
    lines += [
        f"warning  {each['top_rows'] / each['rows']:.0%} of the {each['rows']:,} answers say {name}: {each['top']}"
        for name, each in fields.items()
        if each["rows"] >= ENOUGH_ROWS and each["top"] and each["top_rows"] >= ONE_VALUE * each["rows"]
    ]
    return lines


def made_up_lines(found: Mapping[str, Any]) -> list[str]:
    """That an emulator answered, what it could not know, and where to tell it."""
    lines = [f"answers  made up by {describe_api(found['api'], is_made_up=True)}: no model was asked"]
    sentences = list(found["invented"].items())
    lines += [f"made up  {rows:,} row{'s' * (rows != 1)}: {sentence}" for sentence, rows in sentences[:MADE_UP_SHOWN]]
    if sentences:
        others = f"and {len(sentences) - MADE_UP_SHOWN} more; " if len(sentences) > MADE_UP_SHOWN else ""
        lines.append(f"         {others}golden.jsonl or answers.yaml, in the job's folder, can tell it what to answer")
    return lines


def _field_words(each: Mapping[str, Any]) -> str:
    """`11 different, 24% "Energy"`; of values that nearly all differ, the shortest."""
    words = f"{each['distinct']:,} different"
    if each["top"] and each["top_rows"] > COMMON * each["rows"]:
        return f"{words}, {each['top_rows'] / each['rows']:.0%} {shorten_text(each['top'], 24)}"
    return words if each["shortest"] is None else f"{words}, shortest {each['shortest']:,} characters"
