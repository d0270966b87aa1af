"""Whether an answer may be believed: its schema, the job's own checks, and grounding in what tools said.

A problem is a sentence a model can act on. Grounding means: a value the answer claims must stand in the output
of the tool it is said to come from.
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from rowtide.agent.agent import Verdict
from rowtide.job.job import GroundingSpec

Check = Callable[[Any, dict[str, object]], str | None]
ToolOutput = tuple[str, str]  # (server.tool, what it said)


def judge(
    text: str,
    *,
    answer: type[BaseModel],
    checks: Sequence[Check],
    grounding: Sequence[GroundingSpec],
    row: Callable[[], dict[str, object]],
    outputs: Callable[[], Iterable[ToolOutput]],
) -> Verdict:
    """Judge the text of an answer. `row` and `outputs` are only asked for when they are needed."""
    try:
        claimed = answer.model_validate_json(text)
    except ValidationError as error:
        return Verdict(b"", [_in_words(each, text) for each in error.errors(include_url=False)[:5]])
    values = row() if checks else {}
    problems = [problem for check in checks if (problem := check(claimed, values))]
    if grounding:
        problems += ungrounded(claimed, grounding, list(outputs()))
    return Verdict(claimed.model_dump_json().encode(), problems)


def ungrounded(claimed: BaseModel, grounding: Sequence[GroundingSpec], outputs: Sequence[ToolOutput]) -> list[str]:
    """The claims that stand in no output of the tool they are said to come from."""
    problems: list[str] = []
    for rule in grounding:
        value = getattr(claimed, rule.field)
        if value is None:
            continue
        said = [output for tool, output in outputs if fnmatchcase(tool, rule.tool)]
        if not said:
            problems.append(f"{rule.field}: call {rule.tool} first; the value must come from its output")
        elif not any(_stands_in(str(value), output) for output in said):
            problems.append(f"{rule.field}: {value!r} does not stand in what {rule.tool} said; copy it from there")
    return problems


def _in_words(error: Any, text: str) -> str:
    if error["type"] == "json_invalid":
        return f"the answer must be one JSON object and nothing else ({error['msg']}); it began {text[:60]!r}"
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}, got {error['input']!r}"[:400]


def _stands_in(value: str, output: str) -> bool:
    wanted = _plain(value)
    return wanted in _plain(output) or wanted in _plain(_unwrapped(output))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _unwrapped(output: str) -> str:
    """JSON without its escapes and braces: the values alone, so that quotes and accents match as written."""
    try:
        return " ".join(_scalars(orjson.loads(output)))
    except orjson.JSONDecodeError:
        return output


def _scalars(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _scalars(each)
    else:
        yield str(value)
