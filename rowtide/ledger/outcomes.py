"""Files the outcomes of requests: one page of rows, in one transaction."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from rowtide.agent.agent import Escalate, RowAt
from rowtide.agent.states import ANSWERING, RunStop
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.batches import Batch
from rowtide.ledger.ledger import Run
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import Reply
from rowtide.tiers.escalation import EscalationRules


class StopReason(NamedTuple):
    """Why the run cannot go on: the code, and a sentence."""

    why: RunStop
    words: str


@dataclass(slots=True)
class ClassifiedPage:
    """One page of outcomes, sorted by what happens to each row."""

    replies: list[Reply] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)
    """The replies that are answers and passed their rows' own checks: row_no → JSON."""
    made_up: list[MoveReason] = field(default_factory=list)
    """What an emulator says of its replies."""
    bounces: list[MoveReason] = field(default_factory=list)
    rejects: list[MoveReason] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    pardoned: list[int] = field(default_factory=list)
    """Rows that failed as every row did: ready again, as if never sent."""
    escalations: list[tuple[RowAt, Escalate]] = field(default_factory=list)
    of_unknown_cost: list[int] = field(default_factory=list)
    """Rows whose request may have cost anything up to its worst case."""
    stop: StopReason | None = None
    is_gated: bool = True
    """Whether answers wait for the answers gate."""

    @property
    def counted(self) -> Counter[str]:
        return Counter(
            replied=len(self.replies),
            bounced=len(self.bounces),
            rejected=len(self.rejects),
            recalled=len(self.recalled) + len(self.pardoned),
            escalated=len(self.escalations),
        )


def file_outcomes(
    tx: Connection, run: Run, rules: EscalationRules, batch: Batch, page: ClassifiedPage, *, now: datetime
) -> None:
    """Move every row of a page, count the cost of its replies, and stop the run if the page says so."""
    answers = [each for each in page.replies if each.row_no in page.answers]
    ledger_turns.file_replies(tx, [each for each in page.replies if each.row_no not in page.answers])
    ledger_turns.file_replies(tx, answers, then=ANSWERING[page.is_gated])
    ledger_rows.write_answers(tx, run, page.answers)
    ledger_tiers.add_tier_visits(tx, run, accepted=Counter(each.tier for each in answers if not page.is_gated))
    ledger_batches.count_cost(tx, batch.batch_no, sum(reply.cost_micro for reply in page.replies))
    ledger_batches.keep_cost_reserved(tx, batch, rows=len(page.of_unknown_cost))
    ledger_rows.note_made_up(tx, page.made_up, now=now)
    ledger_rows.bounce_rows(tx, page.bounces, now=now)
    ledger_rows.quarantine_rows(tx, page.rejects, now=now)
    ledger_rows.recall_rows(tx, page.recalled)
    ledger_rows.recall_rows(tx, page.pardoned, pardon=True)
    ledger_tiers.escalate_up_the_ladder(tx, run, rules, page.escalations, now=now)
    if page.stop:
        ledgers.stop_run(tx, run, page.stop.why, detail=page.stop.words)
