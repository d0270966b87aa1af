"""A job's version: one fingerprint of what rows are asked, one of how answers are judged.

A change of the first asks again only the rows that it concerns. A change of the second judges stored answers again and
asks nothing. What is neither (a comment, the sink, a budget) changes no version.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import orjson

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ChecksSpec, JobSpec

Place = tuple[str, ...]
Parts = Mapping[str, str]  # a file, or a key of job.yaml → its hash

JOB_KEY = "job.yaml: "
# A key of job.yaml is named by its path; a path stands for all that is below it. What is named in neither of the two
# decides how a row is asked: a key that is forgotten here costs a question too many, and no wrong answer.
NEITHER: frozenset[Place] = frozenset(
    {("job",), ("description",), ("owner",), ("runbook",)}
    | {("source",), ("sink",), ("lane",), ("live",), ("finish_within_minutes",), ("slo",), ("evals",)}
    | {("start",), ("difficulty",), ("escalation",), ("gates", "rows"), ("gates", "load"), ("prompt",)}
    | {("limits", each) for each in ("budget_usd", "day_usd", "bounces", "row_bytes", "patience_seconds")}
    | {("limits", each) for each in ("batch_rows", "batch_bytes", "enough_rows")}
)
# Where a row's conversation ends is judged too: with more turns, a row that ran out of them goes on with those it had.
JUDGING: frozenset[Place] = frozenset(
    {("answer",), ("gates", "answers"), ("limits",)}
    | {("checks", each) for each in ChecksSpec.model_fields if each != "self_check"}
)
# How a server is reached, and which of its words are asked for again: not what it is asked.
OF_A_SERVER = frozenset({"timeout_seconds", "concurrency", "calls_per_second", "remember", "error_if"})
# A run's rows are named by its key and stand on its ladder: another one is another run.
FIXED = tuple(JOB_KEY + each for each in ("key", "tiers", "after", "checks.self_check.tier"))


class RecordedVersion(Protocol):
    """A run and the version of its job that it recorded."""

    @property
    def run_id(self) -> str: ...
    @property
    def version_no(self) -> int: ...
    @property
    def asking(self) -> str: ...
    @property
    def judging(self) -> str: ...
    @property
    def parts(self) -> str: ...


@dataclass(frozen=True)
class JobVersion:
    """The parts of a job that decide its answers: a hash of each file that is sent, run or checked with, and of each
    key of job.yaml that counts.
    """

    asks: Parts
    judges: Parts

    @cached_property
    def asking(self) -> str:
        """The fingerprint of what a row is asked: prompt, answer schema, tools, skills, tiers, rubric."""
        return _hash(self.asks)

    @cached_property
    def judging(self) -> str:
        """The fingerprint of how an answer is judged: answer.py, grounding, corrections, answers gate, limits."""
        return _hash(self.judges)

    def record(self) -> str:
        """Return the version as JSON, for `version_from_record`."""
        return orjson.dumps({"asking": self.asks, "judging": self.judges}).decode()


def version_from_record(record: str) -> JobVersion:
    """Return the version that `record` wrote."""
    kept = orjson.loads(record)
    return JobVersion(kept["asking"], kept["judging"])


def changed_parts(before: Parts, now: Parts) -> list[str]:
    """Return the files and keys that differ between two versions' parts."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def name_changes(before: JobVersion, now: JobVersion) -> list[str]:
    """Return the files and keys that differ between two versions, asked ones first, each once."""
    asked, judged = changed_parts(before.asks, now.asks), changed_parts(before.judges, now.judges)
    return list(dict.fromkeys([*asked, *judged]))


def check_job_unchanged(now: JobVersion, run: RecordedVersion, folder: Path) -> None:
    """Raise UserMistake, naming the changed files and keys, unless the job is as the run recorded it."""
    if (now.asking, now.judging) != (run.asking, run.judging):
        changed = ", ".join(name_changes(version_from_record(run.parts), now))
        since = f"run {run.run_id} began" if run.version_no == 0 else f"it was last taken into run {run.run_id}"
        raise UserMistake(
            f"{changed} changed since {since}: `rowtide amend {run.run_id}` goes on with the job as it is now, and "
            "keeps what was paid for; or put it back to resume",
            file=folder,
        )


def compute_version(
    spec: JobSpec, schema: object, asked: Mapping[str, bytes], judged: Mapping[str, bytes]
) -> JobVersion:
    """Return the version of a job with these files and this answer schema (in its order: a model answers in it)."""
    asks = {name: _hash_bytes(content) for name, content in asked.items()}
    judges = {name: _hash_bytes(content) for name, content in judged.items()}
    asks["the answer's schema"] = _hash_bytes(orjson.dumps(schema))
    # Only what the job says: a key that a newer Rowtide knows must not make every loaded row stale.
    for path, value in _leaf_values(spec.model_dump(mode="json", exclude_unset=True)):
        if not _is_named(path, NEITHER) and not (path[0] == "tools" and OF_A_SERVER.intersection(path[2:3])):
            (judges if _is_named(path, JUDGING) else asks)[JOB_KEY + ".".join(path)] = _hash(value)
    return JobVersion(asks, judges)


def _is_named(path: Place, names: frozenset[Place]) -> bool:
    return any(path[:length] in names for length in range(1, len(path) + 1))


def _leaf_values(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaf_values(each, (*path, str(name)))
    else:
        yield path, value


def _hash(value: object) -> str:
    return _hash_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _hash_bytes(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
