"""Which golden rows two versions would ask alike: such a row is asked once, and differs in nothing."""

import hashlib
from collections.abc import Sequence

import orjson

from rowtide.agent.requests import with_skills
from rowtide.job.versions import JOB_KEY
from rowtide.ledger.read.evals import Sought
from rowtide.stages.evaluate.golden_set import SetRow
from rowtide.stages.preflight import Plan
from rowtide.stages.route.start_tiers import open_starter


def how_asked(plan: Plan, rows: Sequence[SetRow], api: str) -> list[tuple[Sought, bytes]]:
    """How a version would ask each row, and a mark: two versions with one mark send the same bytes, from the first
    request on, and judge what comes back alike."""
    values = [orjson.loads(row.content) for row in rows]
    with open_starter(plan.job, api) as starter:
        starts = starter.starts(list(enumerate(values)))
    fixed, prefixes, found = _fixed(plan), dict[tuple[str, ...], bytes](), list[tuple[Sought, bytes]]()
    for row, given, start in zip(rows, values, starts, strict=True):
        skills = plan.job.skills_for(plan.job.group_of(given))
        names = tuple(skill.name for skill in skills)
        if names not in prefixes:
            prefixes[names] = with_skills(plan.request, plan.job.instructions, skills)
        message = plan.job.message_for(given)
        text = message if isinstance(message, str) else message.words
        how = [start.tier, start.effort, start.turn_limit]
        sent = b"\0".join([fixed, orjson.dumps(how), prefixes[names], text.encode(errors="surrogatepass")])
        sought = Sought(row.golden.key, row.row_id, start.tier, start.effort, start.turn_limit)
        found.append((sought, hashlib.blake2b(sent, digest_size=16).digest()))
    return found


def _fixed(plan: Plan) -> bytes:
    """All that decides a row's answer but what stands in its first request."""
    job = plan.job
    sent = {str(job.spec.prompt), *(name for name in job.version.asks if name.startswith(f"{JOB_KEY}skills"))}
    sent |= {name for name in job.version.asks if name.endswith("SKILL.md")}
    asks = {name: mark for name, mark in job.version.asks.items() if name not in sent}
    ladder = [job.spec.tiers, [model.id for model in plan.models], job.spec.escalation.model_dump(mode="json")]
    return orjson.dumps([asks, dict(job.version.judges), ladder], option=orjson.OPT_SORT_KEYS)
