"""Whether an answer may be believed: its schema, the job's own checks, and grounding in what tools said.

A problem is a sentence a model can act on. Grounding means: a value the answer claims must stand in the output
of the tool it is said to come from, as a whole.
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from rowtide.agent.agent import Verdict
from rowtide.agent.grounding import Claim, claims_in, heard_in, stands
from rowtide.job.answer_values import alterations, kept, read_back
from rowtide.job.job import GroundingSpec

Check = Callable[[Any, dict[str, object]], str | None]
FAILURE_CHARS = 200  # of a tool's error, told again


class ToolOutput(NamedTuple):
    """What a tool said in the row's present conversation, or what was quoted to it."""

    tool: str
    text: str
    is_error: bool = False


def judge(
    text: str,
    *,
    answer: type[BaseModel],
    checks: Sequence[Check],
    grounding: Sequence[GroundingSpec],
    row: Callable[[], dict[str, object]],
    outputs: Callable[[], Iterable[ToolOutput]],
    is_kept: bool = False,
) -> Verdict:
    """Judge the text of an answer; `is_kept` says that its fields are called as in the ledger, and not as in a reply.

    `row` and `outputs` are only asked for when they are needed.
    """
    try:
        claimed = read_back(answer, text) if is_kept else answer.model_validate_json(text)
    except ValidationError as error:
        return Verdict(b"", [_in_words(each, text) for each in error.errors(include_url=False)[:5]])
    content = kept(claimed)
    values = row() if checks else {}
    problems = alterations(claimed, content)
    problems += [problem for check in checks if (problem := check(claimed, values))]
    if grounding:
        problems += ungrounded(claimed, grounding, list(outputs()))
    return Verdict(content, problems)


def ungrounded(claimed: BaseModel, grounding: Sequence[GroundingSpec], outputs: Sequence[ToolOutput]) -> list[str]:
    """The claims that stand in no output of the tool they are said to come from."""
    problems: list[str] = []
    for rule in grounding:
        claims = list(claims_in(getattr(claimed, rule.field)))
        said = [output for output in outputs if rule.tool == output.tool or fnmatchcase(output.tool, rule.tool)]
        heard = [heard_in(output.text) for output in said if not output.is_error] if claims else []
        problems += [
            _ungrounded(rule, claim, said) for claim in claims if not any(stands(claim, each) for each in heard)
        ]
    return problems


def _ungrounded(rule: GroundingSpec, claim: Claim, said: Sequence[ToolOutput]) -> str:
    """Why a claim is not grounded, and what to do, by what the tool has said so far."""
    if not said:
        return f"{rule.field}: call {rule.tool} first; the value must come from its output"
    failed = next((output for output in reversed(said) if output.is_error), None)
    if failed is not None and all(output.is_error for output in said):
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
