"""Checks an answer: its schema, the job's own checks, and grounding in tool output.

A problem is a sentence that a model can act on. Grounding means: a value that the answer claims must stand, as a whole,
in the output of the tool it is said to come from.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from rowtide.agent.agent import Verdict
from rowtide.agent.grounding import Claim, claims_in_value, is_grounded, values_in_output
from rowtide.job.answer_values import answer_from_json, answer_to_json, describe_alterations
from rowtide.job.job_code import Check, JobCodeFailure, JobCodeRaised, run_job_code, safe_failure_text
from rowtide.job.job_spec import GroundingSpec

PROBLEM_CHARS = 2000
FAILURE_CHARS = 200  # of a tool's error, quoted to the model


class ToolOutput(NamedTuple):
    """A tool's output in the row's present conversation, or quoted to it."""

    tool: str
    text: str
    is_error: bool = False


def judge_answer(
    text: str,
    *,
    answer: type[BaseModel],
    checks: Sequence[Check],
    grounding: Sequence[GroundingSpec],
    row: Callable[[], dict[str, object]],
    outputs: Callable[[], Iterable[ToolOutput]],
    is_kept: bool = False,
) -> Verdict:
    """Judge the text of an answer. With `is_kept`, its fields have the ledger's names, not a reply's.

    `row` and `outputs` are called only when needed.
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
    if grounding:
        tool_outputs = list(outputs())
        found = run_job_code(
            "check_failed", "grounding", file, lambda: ungrounded_claims(claimed, grounding, tool_outputs)
        )
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
        raise TypeError(f"an answer is a JSON object, not {safe_failure_text(content.decode(), 80)}")
    return content, describe_alterations(claimed, content)


def _result_of_check(name: str, check: Check, claimed: BaseModel, values: dict[str, object]) -> str | None:
    """Return what a check returned. Raises JobCodeRaised when that is neither None nor a text."""
    result = check(claimed, values)
    if result is None or isinstance(result, str):
        return result
    code = getattr(check, "__code__", None)
    place = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    where = f"{name}{place} returned {type(result).__name__}"
    words = f"{safe_failure_text(repr(result), 80)}; a check returns None for a right answer, else a text"
    raise JobCodeRaised(JobCodeFailure("check_failed", where, words))


def _storable(problem: str) -> str:
    """Return a problem in a form that both databases and the API accept."""
    return problem[:PROBLEM_CHARS].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def ungrounded_claims(
    claimed: BaseModel, grounding: Sequence[GroundingSpec], outputs: Sequence[ToolOutput]
) -> list[str]:
    """Return a problem for each claim that stands in no output of its tool."""
    problems: list[str] = []
    for rule in grounding:
        claims = list(claims_in_value(getattr(claimed, rule.field)))
        result = [output for output in outputs if rule.tool == output.tool or fnmatchcase(output.tool, rule.tool)]
        parsed_outputs = [values_in_output(output.text) for output in result if not output.is_error] if claims else []
        problems += [
            _ungrounded(rule, claim, result)
            for claim in claims
            if not any(is_grounded(claim, each) for each in parsed_outputs)
        ]
    return problems


def _ungrounded(rule: GroundingSpec, claim: Claim, result: Sequence[ToolOutput]) -> str:
    """Return why a claim is not grounded, and what to do, judging by the tool's output so far."""
    if not result:
        return f"{rule.field}: call {rule.tool} first; the value must come from its output"
    failed = next((output for output in reversed(result) if output.is_error), None)
    if failed is not None and all(output.is_error for output in result):
        what = (
            f"{rule.field}: {failed.tool} was called and failed ({failed.text[:FAILURE_CHARS]!r}), so it says nothing"
        )
        return f"{what} of {claim!r}; call it otherwise, the value must come from its output"
    if isinstance(claim, str) and not claim.strip():
        return f"{rule.field}: blank text stands nowhere; copy the value from what {rule.tool} said"
    return f"{rule.field}: {claim!r} does not stand in what {rule.tool} said; copy the whole value from there"


def _in_words(error: Any, text: str) -> str:
    if error["type"] == "json_invalid":
        return f"the answer must be one JSON object and nothing else ({error['msg']}); it began {text[:60]!r}"
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}, got {error['input']!r}"[:400]
