"""Scans the source of a planned run: how many rows would be asked, on which tiers they start, and a sample.

The source is read once, page by page, keeping eight bytes a row, by the same rules as `extract` and `route`. Nothing is
written.
"""

import asyncio
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from rowtide.agent.requests import conversation_messages, with_skills
from rowtide.api.claude import Claude
from rowtide.intake.admission import admit_page, row_keys_of_page
from rowtide.intake.sources import read_pages
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import past_runs as ledger_past_runs
from rowtide.routing.features import Values
from rowtide.stages.preflight import Plan
from rowtide.stages.route.start_tiers import open_starter
from rowtide.stages.run_context import SPOOL_PAGE

CALLS_AT_ONCE = 8


@dataclass
class SourceScan:
    """What a source holds for a job, in rows."""

    starts: list[int]
    """Rows that would be asked, by first tier."""
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    """Rows that would be quarantined at admission, by reason."""
    unchanged: int = 0
    """Rows that an earlier run settled alike."""
    sample: list[tuple[int, Values]] = field(default_factory=list[tuple[int, Values]])
    """Some rows that would be asked, evenly from first to last: (tier_no, values)."""


def scan_source(
    plan: Plan, environment: Mapping[str, str], ledger: Ledger | None, *, limit: int | None, size: int
) -> SourceScan:
    """Scan the source, or its first `limit` rows, and sample `size` of the rows that would be asked."""
    spec, folder = plan.job.spec, plan.job.folder
    found, hashes = SourceScan([0] * len(spec.tiers)), array("q")
    with open_starter(plan.job, plan.api.name) as starter:
        sampling = _Sampling(size)
        for page in read_pages(plan.source, folder, SPOOL_PAGE, environment, spec.limits.row_bytes):
            page = page[: None if limit is None else limit - found.read]
            if not page:
                break
            keys = row_keys_of_page(page, spec.key_columns)
            judged = admit_page(page, keys, present=(), first_row_no=0, row_bytes=spec.limits.row_bytes)
            found.read += len(page)
            found.refused.update(each.reason for each in judged if each.reason)
            ids = {each.row_key: each.row_id for each in judged if not each.reason}
            settled = _unchanged(ledger, plan, ids)
            found.unchanged += len(settled)
            hashes.extend(map(hash, ids))
            rows: list[Values] = [
                orjson.loads(each.content) for each in judged if not each.reason and each.row_key not in settled
            ]
            for start, row in zip(starter.starts(list(enumerate(rows))), rows, strict=True):
                found.starts[start.tier] += 1
                sampling.see(start.tier, row)
    _take_off(found, len(hashes) - np.unique(np.frombuffer(hashes, np.int64)).size)
    found.sample = sampling.taken()
    return found


async def count_first_request_tokens(claude: Claude, plan: Plan, sample: Sequence[tuple[int, Values]]) -> list[int]:
    """Return the token counts of these rows' first requests, by the API's free count. Raises WorldError.

    Tools of servers that the API calls itself are left out.
    """
    room = asyncio.Semaphore(CALLS_AT_ONCE)

    async def count(request: bytes) -> int:
        async with room:
            return await claude.count_tokens(request)

    requests = [_request(plan, tier_no, row) for tier_no, row in sample]
    return await asyncio.gather(*(count(request) for request in requests if request))


def _request(plan: Plan, tier_no: int, row: Values) -> bytes | None:
    """Return a row's first request, or None if its prompt cannot be filled: such a row is quarantined unasked."""
    job = plan.job
    shared = orjson.loads(b"{%b}" % with_skills(plan.request, job.instructions, job.skills_for(job.group_of(row))))
    shared.pop("mcp_servers", None)
    shared["tools"] = [tool for tool in shared.get("tools", []) if tool.get("type") != "mcp_toolset"]
    message = job.message_for(row)
    if not isinstance(message, str):
        return None
    messages = orjson.loads(conversation_messages(message))
    return orjson.dumps({"model": plan.models[tier_no].id, **shared, "messages": messages})


def _unchanged(ledger: Ledger | None, plan: Plan, ids: Mapping[str, str]) -> set[str]:
    if ledger is None or not ids:
        return set()
    with ledger.view() as tx:
        return ledger_past_runs.unchanged_keys(tx, plan.job.name, plan.job.version.asking, plan.api.name, ids)


def _take_off(found: SourceScan, duplicates: int) -> None:
    """Subtract duplicate keys, known only at the end, from the tiers in proportion."""
    found.refused["duplicate_key"] += duplicates
    asked = sum(found.starts)
    for tier_no, rows in enumerate(found.starts):
        found.starts[tier_no] = rows - round(rows * duplicates / asked) if asked else 0
    found.refused = +found.refused


class _Sampling:
    """Keeps every n-th row: when it has twice as many as wanted, it drops every other one and doubles n."""

    def __init__(self, size: int) -> None:
        self._size, self._step, self._seen = size, 1, 0
        self._kept: list[tuple[int, Values]] = []

    def see(self, tier_no: int, row: Values) -> None:
        if self._seen % self._step == 0:
            self._kept.append((tier_no, row))
        self._seen += 1
        if len(self._kept) == 2 * self._size:
            self._kept, self._step = self._kept[::2], self._step * 2

    def taken(self) -> list[tuple[int, Values]]:
        count = min(self._size, len(self._kept))
        return [self._kept[n * len(self._kept) // count] for n in range(count)]
