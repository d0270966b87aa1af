"""The live probe: the smallest calls that show each answer of the API, compared with what Rowtide relies on.

Rowtide is built against an emulator. Whoever has a key can see within minutes whether the API still answers in the
same shapes, and send the difference: the file that is written holds shapes, and no text.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import orjson
from pydantic import BaseModel

from rowtide.api import api_shapes
from rowtide.api.api_outcomes import Exchange
from rowtide.api.api_shapes import ShapeDifference, shape_differences, stream_differences
from rowtide.api.claude import BATCHES, MESSAGES, Claude
from rowtide.api.redacted_shapes import redact, stream_events
from rowtide.lanes.lane_table import BATCH, LIVE
from rowtide.stages.diagnose.findings import Finding
from rowtide.tiers.catalogue import Model
from rowtide.tiers.pricing import MICRO, worst_case_micro

COUNT_TOKENS = f"{MESSAGES}/count_tokens"
FIRST_LOOK_SECONDS, LOOK_EVERY_SECONDS = 0.25, 5.0  # each look waits twice as long as the one before it
WORDS = "Say yes."
MAX_TOKENS = 64
PROMPT_TOKENS = 1000  # more than any request here has, its schema and tool included
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}
TOOL = {"name": "look_up", "description": "Look a word up.", "input_schema": SCHEMA}


@dataclass(frozen=True, slots=True)
class Probed:
    """One exchange with the API."""

    name: str
    differences: list[ShapeDifference]
    status_code: int
    shape: Any
    """Of the answer, without its texts."""


def probe_cost_usd(model: Model) -> float:
    """The most that a probe can cost, in US dollars."""
    live, batched = (worst_case_micro(model, PROMPT_TOKENS, MAX_TOKENS, lane=lane) for lane in (LIVE, BATCH))
    return (3 * live + batched) / MICRO


async def probe_api(
    claude: Claude, model: Model, *, patience: timedelta, on_step: Callable[[str], None]
) -> list[Probed]:
    """Make each call once. Raises WorldError where the API does not answer at all.

    `patience` is how long the batch may take; after it, what its end would show is left out.
    """
    request = _request(model)
    found: list[Probed] = []
    steps: Sequence[tuple[str, str, dict[str, Any], type[BaseModel], int]] = (
        ("token count", COUNT_TOKENS, _countable(request), api_shapes.TokenCount, 200),
        ("error", MESSAGES, {**request, "max_tokens": 0}, api_shapes.ErrorBody, 400),
        ("live reply", MESSAGES, request, api_shapes.Message, 200),
        ("tool call", MESSAGES, _with_tool(request), api_shapes.Message, 200),
    )
    for name, path, body, shape, status in steps:
        on_step(name)
        found.append(_probed(name, await _post(claude, path, body), shape, status))
    on_step("stream")
    found.append(_stream(await _post(claude, MESSAGES, {**request, "stream": True})))
    return found + await _probe_batch(claude, request, patience, on_step)


async def _probe_batch(
    claude: Claude, request: dict[str, Any], patience: timedelta, on_step: Callable[[str], None]
) -> list[Probed]:
    """One batch of two requests: one that is answered, and one that is refused and costs nothing."""
    on_step("batch")
    refused = {**request, "max_tokens": 0}
    rows = [{"custom_id": "answered", "params": request}, {"custom_id": "refused", "params": refused}]
    created = await _post(claude, BATCHES, {"requests": rows})
    if created.status_code == 400:  # it may look at the parameters at once
        created = await _post(claude, BATCHES, {"requests": rows[:1]})
    found = [_probed("batch", created, api_shapes.Batch, 200)]
    if found[0].status_code != 200 or (api_id := _text(created, "id")) is None:
        return found
    found.append(
        _probed("list of batches", await claude.exchange("GET", f"{BATCHES}?limit=1"), api_shapes.BatchList, 200)
    )
    end, wait = asyncio.get_running_loop().time() + patience.total_seconds(), FIRST_LOOK_SECONDS
    while True:
        at = await claude.exchange("GET", f"{BATCHES}/{api_id}")
        if _text(at, "processing_status") == "ended":
            break
        if asyncio.get_running_loop().time() > end:
            why = ShapeDifference("processing_status", f"it did not end within {patience}: results were not looked at")
            return [*found, Probed("batch, ended", [why], at.status_code, redact(at.content))]
        on_step("the batch's end")
        await asyncio.sleep(wait)
        wait = min(2 * wait, LOOK_EVERY_SECONDS)
    found.append(_probed("batch, ended", at, api_shapes.Batch, 200))
    return [*found, _results(await claude.exchange("GET", f"{BATCHES}/{api_id}/results"))]


def probe_findings(probed: Sequence[Probed]) -> list[Finding]:
    """A finding for each exchange."""
    found: list[Finding] = []
    for each in probed:
        if each.differences:
            words = "; ".join(f"{one.path or 'the whole'}: {one.problem}" for one in each.differences)
            found.append(Finding(f"shape of {each.name}", "failed", words, "send us the file: Rowtide must learn it"))
        else:
            found.append(Finding(f"shape of {each.name}", "ok", "as Rowtide relies on it"))
    return found


def probe_as_json(probed: Sequence[Probed]) -> bytes:
    """What to send to Rowtide's authors: shapes and differences, without texts, ids or keys."""
    return orjson.dumps([asdict(each) for each in probed], option=orjson.OPT_INDENT_2)


def _request(model: Model) -> dict[str, Any]:
    """As Rowtide asks a row: an answer by schema, and a cacheable prefix."""
    system = [{"type": "text", "text": "Answer in JSON.", "cache_control": {"type": "ephemeral"}}]
    return {
        "model": model.id,
        "max_tokens": MAX_TOKENS,
        "system": system,
        "messages": [{"role": "user", "content": WORDS}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }


def _with_tool(request: dict[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in request.items() if name != "output_config"}
    return {**asked, "tools": [TOOL], "messages": [{"role": "user", "content": "Look the word yes up."}]}


def _countable(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "max_tokens"}


async def _post(claude: Claude, path: str, body: dict[str, Any]) -> Exchange:
    return await claude.exchange("POST", path, orjson.dumps(body))


def _probed(name: str, answer: Exchange, shape: type[BaseModel], status: int) -> Probed:
    if answer.status_code != status:
        words = f"status {answer.status_code} where {status} was expected"
        return Probed(name, [ShapeDifference("", words)], answer.status_code, redact(answer.content))
    return Probed(name, shape_differences(shape, answer.content), answer.status_code, redact(answer.content))


def _stream(answer: Exchange) -> Probed:
    events = stream_events(answer.content)
    shapes = [{"event": name, "data": redact(data)} for name, data in events]
    if answer.status_code != 200:
        words = f"status {answer.status_code} where 200 was expected"
        return Probed("stream", [ShapeDifference("", words)], answer.status_code, redact(answer.content))
    return Probed("stream", stream_differences(events), answer.status_code, shapes)


def _results(answer: Exchange) -> Probed:
    lines = [line for line in answer.content.splitlines() if line.strip()]
    differences = [each for line in lines for each in shape_differences(api_shapes.ResultLine, line)]
    if answer.status_code != 200 or not lines:
        differences.append(ShapeDifference("", f"status {answer.status_code} with {len(lines)} lines"))
    return Probed("results", list(dict.fromkeys(differences)), answer.status_code, [redact(line) for line in lines])


def _text(answer: Exchange, name: str) -> str | None:
    """A text at the top of an answer, or None."""
    try:
        value = orjson.loads(answer.content)[name]
    except (ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) else None
