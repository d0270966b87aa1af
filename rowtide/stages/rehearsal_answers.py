"""The answers a job knows in advance, for the emulator of a rehearsal: its golden rows, and `answers.yaml`.

The emulator sees what a model sees, so an answer is told with the message of its row, and not with its key.

    T-17: {urgency: high}     # the row with this key
    "*": {language: en}       # every row
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.golden_rows import GOLDEN_FILE, read_golden_rows
from rowtide.intake.admission import row_keys_of_page
from rowtide.intake.source_rows import SourceRow
from rowtide.intake.sources import read_pages
from rowtide.job.answer_fields import gate_column_names
from rowtide.job.yaml_file import find_node, read_yaml
from rowtide.stages.preflight import Plan
from rowtide.stages.run_context import SPOOL_PAGE, self_check_rubric

ANSWERS_FILE = "answers.yaml"
TO_ALL = "*"

Answers = dict[str, dict[str, Any]]
"""Row key → fields of the answer; TO_ALL → of every row's."""


def rehearsal_answers(plan: Plan, environment: Mapping[str, str]) -> bytes:
    """What the emulator is to answer, an entry on each line; empty where the job knows nothing. Raises UserMistake."""
    known = known_answers(plan)
    entries: list[dict[str, Any]] = [{"answer": known.pop(TO_ALL)}] if TO_ALL in known else []
    rubric = self_check_rubric(plan.job)
    for key, row in _rows(plan, known, environment).items():
        if isinstance(message := plan.job.message_for(row), str):
            entries.append({"row": message, "answer": known[key]})
        # The judge of a known answer knows it too, where its rubric speaks of known fields alone.
        if rubric and isinstance(asked := rubric.message_for(row, orjson.dumps(known[key])), str):
            entries.append({"row": asked, "answer": {"passes": True}})
    return b"".join(orjson.dumps(each) + b"\n" for each in entries)


def known_answers(plan: Plan) -> Answers:
    """The golden rows' answers, and over them what `answers.yaml` says. Raises UserMistake with file and line."""
    folder = plan.job.folder
    known: Answers = {row.key: dict(row.answer) for row in read_golden_rows(folder / GOLDEN_FILE)}
    for key, answer in _answers_in(folder / ANSWERS_FILE, gate_column_names(plan.job.answer)).items():
        known[key] = {**known.get(key, {}), **answer}
    return known


def _answers_in(file: Path, fields: list[str]) -> Answers:
    if not file.is_file():
        return {}
    values, node = read_yaml(file)
    if values is None or node is None:
        return {}
    shape = 'it is a mapping: a row\'s key, or "*" for every row, to fields of the answer'
    if not isinstance(values, dict):
        raise UserMistake(shape, file=file)
    for key, answer in values.items():
        line = find_node(node, [key])[1]
        if not isinstance(answer, dict):
            raise UserMistake(shape, file=file, line=line, key=str(key))
        for name in answer:
            if name not in fields:
                what = f"the answer has no field {name!r}; fields: {', '.join(fields)}"
                line = find_node(node, [key, name])[1]
                raise UserMistake(what, file=file, line=line, key=str(key), meant=nearest_name(str(name), fields))
    return {str(key): answer for key, answer in values.items()}


def _rows(plan: Plan, wanted: Answers, environment: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """The rows whose keys are wanted. What is no row of this source is left out."""
    found: dict[str, Mapping[str, object]] = {}
    if not wanted:
        return found
    for page in read_pages(plan.source, plan.job.folder, SPOOL_PAGE, environment):
        for key, row in zip(row_keys_of_page(page, plan.job.spec.key_columns), page, strict=True):
            if key in wanted and isinstance(row, SourceRow):
                found.setdefault(key, row.values)
        if len(found) == len(wanted):
            break
    return found
