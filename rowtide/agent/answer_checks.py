"""Checks an answer: its schema, the job's own checks, and the built-in ones that the job asks for.

A problem is a sentence that a model can act on.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from rowtide.agent.agent import Verdict
from rowtide.agent.grounding import Evidence, ToolOutput, ungrounded_claims
from rowtide.job.job_code import Check, JobCodeFailure, JobCodeRaised, redacted_failure_line, run_job_code
from rowtide.job.storable_answers import answer_from_json, answer_to_json, describe_alterations

PROBLEM_CHARS = 2000


BuiltInCheck = Callable[[BaseModel, Sequence[Any], Evidence], list[str]]
"""Of an answer, the job's rules for this check, and what they may be held against: what is wrong, as sentences."""

BUILT_IN: Mapping[str, BuiltInCheck] = {"grounding": ungrounded_claims}
"""The checks that a job may ask for: key of `checks` → who looks."""


def judge_answer(
    text: str,
    *,
    answer: type[BaseModel],
    checks: Sequence[Check],
    built_in: Mapping[str, Sequence[Any]],
    row: Callable[[], dict[str, object]],
    outputs: Callable[[], Iterable[ToolOutput]],
    is_kept: bool = False,
) -> Verdict:
    """Judge the text of an answer. With `is_kept`, its fields have the ledger's names, not a reply's.

    `built_in` has the rules of each of BUILT_IN that is asked for. `row` and `outputs` are called only when needed.
    """
    file = _file_of(answer)
    claimed = run_job_code("validator_failed", answer.__name__, file, lambda: _validated(answer, text, is_kept=is_kept))
    if isinstance(claimed, list):
        return Verdict(b"", list(map(_storable, claimed)))
    if isinstance(claimed, JobCodeFailure):
        return Verdict(b"", [], claimed)
    # Before the checks: a check that changes the answer does not change what is stored.
    written = run_job_code("serializer_failed", answer.__name__, file, lambda: _written(claimed))
    if isinstance(written, JobCodeFailure):
        return Verdict(b"", [], written)
    content, problems = written
    values = row() if checks else {}
    for check in checks:
        name = getattr(check, "__name__", type(check).__name__)
        result = run_job_code("check_failed", name, file, partial(_result_of_check, name, check, claimed, values))
        if isinstance(result, JobCodeFailure):
            return Verdict(content, [], result)
        problems += [_storable(result)] if result else []
    evidence = Evidence(row, outputs)
    for name, rules in built_in.items():
        found = run_job_code("check_failed", name, file, partial(BUILT_IN[name], claimed, rules, evidence))
        if isinstance(found, JobCodeFailure):
            return Verdict(content, [], found)
        problems += map(_storable, found)
    return Verdict(content, problems)


@lru_cache
def _file_of(answer: type[BaseModel]) -> Path:
    return Path(getattr(sys.modules.get(answer.__module__), "__file__", None) or "answer.py")


def _validated(answer: type[BaseModel], text: str, *, is_kept: bool) -> BaseModel | list[str]:
    """Return the answer, or its problems."""
    try:
        return answer_from_json(answer, text) if is_kept else answer.model_validate_json(text)
    except ValidationError as error:
        return [_in_words(each, text) for each in error.errors(include_url=False)[:5]]


def _written(claimed: BaseModel) -> tuple[bytes, list[str]]:
    """Return the answer as JSON, and what serializing alters. Raises the exception of a field's own code, not
    pydantic's.
    """
    try:
        content = answer_to_json(claimed)
    except PydanticSerializationError:
        for name in type(claimed).model_computed_fields:
            getattr(claimed, name)
        claimed.model_dump()
        raise
    if not content.startswith(b"{"):
        raise TypeError(f"an answer is a JSON object, not {redacted_failure_line(content.decode(), 80)}")
    return content, describe_alterations(claimed, content)


def _result_of_check(name: str, check: Check, claimed: BaseModel, values: dict[str, object]) -> str | None:
    """Return what a check returned. Raises JobCodeRaised when that is neither None nor a text."""
    result = check(claimed, values)
    if result is None or isinstance(result, str):
        return result
    code = getattr(check, "__code__", None)
    place = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    where = f"{name}{place} returned {type(result).__name__}"
    words = "a check returns None when the answer is right, else what is wrong, as a text"
    words = f"{redacted_failure_line(repr(result), 80)}; {words}"
    raise JobCodeRaised(JobCodeFailure("check_failed", where, words))


def _storable(problem: str) -> str:
    """Return a problem in a form that both databases and the API accept."""
    return problem[:PROBLEM_CHARS].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _in_words(error: Any, text: str) -> str:
    if error["type"] == "json_invalid":
        return f"the answer must be one JSON object and nothing else ({error['msg']}); it began {text[:60]!r}"
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}, got {error['input']!r}"[:400]
