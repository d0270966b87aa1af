"""Filing what became of rows that were asked: one page of outcomes, in one transaction."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from rowtide.ledger import ledger_batches, ledger_rows, ledger_turns
from rowtide.ledger.ledger_batches import Batch
from rowtide.ledger.ledger_rows import Remark
from rowtide.ledger.ledger_turns import Reply


@dataclass(slots=True)
class Sorted:
    """One page of outcomes, by what becomes of the row."""

    replies: list[Reply] = field(default_factory=list)
    bounces: list[Remark] = field(default_factory=list)
    rejects: list[Remark] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    stop: str | None = None

    @property
    def counted(self) -> Counter[str]:
        return Counter(
            replied=len(self.replies),
            bounced=len(self.bounces),
            rejected=len(self.rejects),
            recalled=len(self.recalled),
        )


def apply(tx: Connection, batch: Batch, page: Sorted, *, now: datetime) -> None:
    """Move every row of a page, and count what its replies cost."""
    ledger_turns.reply(tx, page.replies)
    ledger_batches.count_cost(tx, batch.batch_no, sum(reply.cost_micro for reply in page.replies))
    ledger_rows.bounce(tx, page.bounces, now=now)
    ledger_rows.quarantine(tx, page.rejects, now=now)
    ledger_rows.recall(tx, page.recalled)
