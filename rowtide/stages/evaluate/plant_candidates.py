"""Candidates that are known to be worse, of a job as it stands in its folder."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rowtide.evals.golden_rows import GOLDEN_FILE, read_golden_rows
from rowtide.evals.known_worse import JobWords, Plant, plant_known_worse
from rowtide.job.job_folder import Job


def plant_candidates(job: Job) -> list[Plant]:
    """Every known-worse candidate that the job's files give occasion for. Raises UserMistake."""
    known: defaultdict[str, list[Any]] = defaultdict(list)
    for row in read_golden_rows(job.folder / GOLDEN_FILE):
        for name, value in row.answer.items():
            known[name].append(value)
    skills = {
        file.relative_to(job.folder): file for each in job.skills if (file := each.file).is_relative_to(job.folder)
    }
    words = JobWords(
        spec=job.spec,
        prompt=job.prompt_file.read_text(encoding="utf-8-sig"),
        answer=job.answer_file.read_text(encoding="utf-8"),
        model=job.answer.__name__,
        skills={str(name): file.read_text(encoding="utf-8-sig") for name, file in skills.items()},
        values=_values(job.answer.model_json_schema()),
        known=known,
    )
    return plant_known_worse(words)


def _values(schema: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The fields that are one of several texts, by a JSON schema."""
    found: dict[str, Sequence[str]] = {}
    for name, each in schema.get("properties", {}).items():
        there = schema.get("$defs", {}).get(str(each.get("$ref", "")).rpartition("/")[2], each)
        values = [value for value in there.get("enum", ()) if isinstance(value, str)]
        if len(values) > 1:
            found[name] = values
    return found
