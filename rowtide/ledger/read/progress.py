"""A run's progress: rows by state, what is at the API and since when, what it has cost."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.agent.states import SETTLED, RowState
from rowtide.ledger.batches import IN_BATCHES, LIVE_CALLS, spent_micro
from rowtide.ledger.ledger import Run, from_timestamp
from rowtide.ledger.rows import count_by_state
from rowtide.text_format import format_age
from rowtide.tiers.pricing import MICRO

WHEN = "%d %b %H:%M"


@dataclass(frozen=True)
class Progress:
    """A run's committed state at one moment."""

    run_id: str
    lane: str
    states: dict[RowState, int]
    batches: int
    """At the API as far as we know: posted, and not filed."""
    batch_rows: int
    oldest_at: datetime | None
    """When the oldest of them was posted."""
    live_rows: int
    """Rows on the wire, in live calls."""
    cost_usd: float
    budget_usd: float | None
    began_at: datetime
    is_reading: bool
    """Rows are still being read: there will be more."""

    @property
    def rows(self) -> int:
        return sum(self.states.values())

    @property
    def settled(self) -> int:
        """Rows that need nothing more: loaded, quarantined or unchanged."""
        return sum(self.states[state] for state in SETTLED)

    @property
    def share(self) -> float:
        """The share of rows that are settled, 0 to 1; 0 while rows are being read."""
        return self.settled / self.rows if self.rows and not self.is_reading else 0.0

    @property
    def standing(self) -> str:
        """The rows by state, as text."""
        return " · ".join(
            f"{self.states[state]:,} {state.value.replace('_', ' ')}" for state in RowState if self.states[state]
        )

    def at_api(self, now: datetime | None = None) -> str:
        """Return what is at the API, as text. The API gives no partial counts, so nobody knows how far a batch has
        come.

        With `now` the text says for how long; without, since when, so that it changes only with the facts.
        """
        reasons: list[str] = []
        if self.batches:
            batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches"
            since = (
                f"for {format_age(now - self.oldest_at)}"
                if now and self.oldest_at
                else f"since {self.oldest_at:%d %b %H:%M} UTC"
            )
            oldest = f", the oldest {since}"
            reasons.append(f"{batches} ({self.batch_rows:,} rows) at the API{oldest}; it gives no partial counts")
        if self.live_rows:
            reasons.append(f"{self.live_rows:,} live calls on the wire")
        return " · ".join(reasons) or "nothing at the API"

    @property
    def money(self) -> str:
        """The cost so far, and the budget, as text."""
        return f"${self.cost_usd:.4f}" + (f" of at most ${self.budget_usd:.2f}" if self.budget_usd is not None else "")


def read_progress(tx: Connection, run: Run) -> Progress:
    """Read the run's progress."""
    states = count_by_state(tx, run)
    one = {"run": run.run_no}
    query = text(
        "SELECT count(*), coalesce(sum(rows), 0), min(posted_at) FROM batch "
        f"WHERE run_no = :run AND state IN ('posting', 'open') AND {IN_BATCHES}"
    )
    batches, batch_rows, oldest = tx.execute(query, one).one()
    live = text(f"SELECT count(*) FROM batch WHERE run_no = :run AND state = 'open' AND {LIVE_CALLS}")
    in_flight = states[RowState.IN_FLIGHT] if tx.execute(live, one).scalar_one() else 0
    return Progress(
        run_id=run.run_id,
        lane=run.chosen_lane or run.lane,
        states=states,
        batches=batches,
        batch_rows=int(batch_rows),
        oldest_at=from_timestamp(oldest) if oldest else None,
        live_rows=max(in_flight - int(batch_rows), 0),
        cost_usd=spent_micro(tx, run) / MICRO,
        budget_usd=None if run.budget_micro is None else run.budget_micro / MICRO,
        began_at=from_timestamp(run.started_at),
        is_reading=run.extracted_at is None,
    )
