"""Reads what a person first asks about a run: how many known answers are right, what the answers look like, why rows
are in quarantine.
"""

from dataclasses import asdict
from typing import Any

import orjson

from rowtide.gates.answer_quality import AnswerQuality
from rowtide.job.answer_fields import gate_column_names
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.quarantine.cause_groups import group_causes
from rowtide.stages.golden_score import golden_score
from rowtide.stages.run_context import RunContext

PAGE_ROWS = 10_000
GROUPS = 20  # of causes, the largest
ENOUGH = 100_000  # answers that are read for a glance; the load gate reads all of them


def answers_in_short(context: RunContext) -> dict[str, Any]:
    """Return `golden` (rows, right, quarantined; or None), `answers` by field, and `answers_read`, how many."""
    quality, read, after = AnswerQuality(gate_column_names(context.job.answer)), 0, 0
    while read < ENOUGH:
        with context.ledger.view() as tx:
            page = ledger_gate_results.accepted_answers_page(tx, context.run, after=after, limit=PAGE_ROWS)
        if not page:
            break
        quality.add([orjson.loads(each.content) for each in page])
        read, after = read + len(page), page[-1].row_no
    score = golden_score(context)
    return {
        "golden": asdict(score) if score else None,
        "answers": {name: asdict(each) for name, each in quality.fields().items()},
        "answers_read": read,
    }


def quarantine_in_short(context: RunContext) -> dict[str, Any]:
    """Return `causes`: the largest groups of quarantined rows with the same cause."""
    with context.ledger.view() as tx:
        groups = group_causes(ledger_quarantine.quarantine_causes(tx, context.run))
    return {"causes": [asdict(each) for each in groups[:GROUPS]]}
