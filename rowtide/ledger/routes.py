"""Gives rows their first tier, and reads how rows of earlier runs fared on the ladder."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, text

from rowtide.errors import IllegalMove
from rowtide.ledger.apis import OF_NEWEST_RUN
from rowtide.ledger.ledger import Run, is_one_of, list_parameter
from rowtide.routing.difficulty import Outcome

# Reasons that say the model could not do it; of rows quarantined for another reason nobody knows.
COULD_NOT = (
    "context_full", "gate_failed", "loop", "not_verified", "refused", "tool_call_limit", "truncated", "turn_limit",
    "unknown_block", "unknown_stop",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowStart:
    """How a row starts. `rule` is 0 when the estimate decided; then `chances` and `why` are set, as JSON."""

    row_no: int
    tier: int
    effort: str | None = None
    turn_limit: int | None = None
    rule: int | None = None
    chances: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class PastRow:
    """A settled row of an earlier run."""

    row_key: str
    content: bytes
    answer: bytes | None
    """JSON, if it was accepted."""
    outcome: Outcome


def unrouted_rows(tx: Connection, run: Run, *, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Return the next rows without a tier: (row_no, content)."""
    query = text(
        "SELECT r.row_no, c.content FROM row r JOIN row_content c ON c.row_no = r.row_no WHERE r.run_no = :run "
        "AND r.state = 'ready' AND r.tier IS NULL AND r.row_no > :after ORDER BY r.row_no LIMIT :limit"
    )
    return list(tx.execute(query, {"run": run.run_no, "after": after, "limit": limit}).tuples())


def start_rows(tx: Connection, starts: Sequence[RowStart]) -> None:
    """Give rows their first tier, and store their estimates. Raises IllegalMove if a row has one already."""
    given = [{name: getattr(each, name) for name in RowStart.__dataclass_fields__} for each in starts]
    set_to = "tier = :tier, effort = :effort, turn_limit = :turn_limit, rule = :rule"
    query = text(f"UPDATE row SET {set_to} WHERE row_no = :row_no AND state = 'ready' AND tier IS NULL")
    if given and (changed := tx.execute(query, given).rowcount) != len(given):
        raise IllegalMove(f"route: {len(given) - changed} of {len(given)} rows had started already")
    if estimated := [each for each in given if each["chances"] is not None]:
        query = text("INSERT INTO estimate (row_no, chances, why) VALUES (:row_no, :chances, :why)")
        tx.execute(query, estimated)


def past_runs(tx: Connection, job: str, ladder: Sequence[str], *, rows: int) -> list[int]:
    """Return the job's newest runs on this ladder that together have about `rows` rows, oldest first.

    Only runs on the API of the job's newest run: another API says nothing about it.
    """
    of_job = f"job = :job AND api = {OF_NEWEST_RUN}"
    query = text(f"SELECT run_no, tiers, read_rows FROM run WHERE {of_job} ORDER BY run_no DESC")
    found: list[int] = []
    for run_no, tiers, read_rows in tx.execute(query, {"job": job}):
        names = [tier for tier in orjson.loads(tiers) if not tier.endswith(" (check)")]
        if rows > 0 and names == list(ladder):
            found.append(run_no)
            rows -= read_rows
    return sorted(found)


def past_rows(tx: Connection, run_no: int, *, page_rows: int) -> Iterator[PastRow]:
    """Yield the rows of a run that were accepted or quarantined after at least one reply, by number."""
    after = -1
    query = text(
        "SELECT r.row_no, r.row_key, r.state, r.reason, r.tier, c.content, a.content answer FROM row r "
        "JOIN row_content c ON c.row_no = r.row_no LEFT JOIN answer a ON a.row_no = r.row_no "
        "WHERE r.run_no = :run AND r.state IN ('accepted', 'loaded', 'quarantined') AND r.turn > 0 "
        "AND length(c.content) > 2 AND r.row_no > :after ORDER BY r.row_no LIMIT :limit"
    )
    while page := tx.execute(query, {"run": run_no, "after": after, "limit": page_rows}).all():
        after = page[-1].row_no
        costs = _costs(tx, [each.row_no for each in page])
        for each in page:
            if cost := costs.get(each.row_no):
                outcome = _outcome(each.row_key, each.state, each.reason, each.tier, cost)
                yield PastRow(each.row_key, each.content, each.answer, outcome)


def _outcome(row_key: str, state: str, reason: str | None, tier: int, cost: dict[int, int]) -> Outcome:
    is_accepted = state != "quarantined"
    failed = [tried for tried in cost if tried < tier or (tried == tier and not is_accepted and reason in COULD_NOT)]
    return Outcome(row_key, tier if is_accepted else None, max(failed, default=-1), cost)


def _costs(tx: Connection, row_nos: Sequence[int]) -> dict[int, dict[int, int]]:
    """Return what each row's answers cost: row_no → tier → micro-dollars. Self-checks are not counted."""
    query = text(
        f"SELECT row_no, tier, sum(cost_micro) FROM turn WHERE row_no {is_one_of(tx, 'rows')} AND kind = 'answer' "
        "GROUP BY row_no, tier"
    )
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for row_no, tier, cost in tx.execute(query, {"rows": list_parameter(row_nos)}):
        found[row_no][tier] = int(cost)
    return found
