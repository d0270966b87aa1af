"""Reads what a run's report shows beyond its summary: over time, by turn, batch, tool and reason.

The database counts: results grow with reasons, tools and batches, not with rows. Money is integer micro-dollars, times
are ledger timestamps.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text

from rowtide.evals.comparers import Comparer, Exact, values_agree
from rowtide.lanes.lane_table import LANES
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.ledger import Run, from_timestamp
from rowtide.ledger.read.row_answers import row_answers
from rowtide.ledger.rows import MADE_UP

BATCHES_SHOWN = 40  # the newest; more bars would be unreadable
REASONS_SHOWN = 12
SAMPLES = 5
EXACT = Exact()  # for a field that no comparer is known of
SAMPLE_CHARS = 2000  # of a row's content or reason, as far as it is read
TURNS_SHOWN = 12  # later turns are counted with the last
POINTS = 120  # of a curve
# (characters of a timestamp, seconds): a prefix so long groups moments so far apart, on every database.
PREFIXES = ((21, 0.1), (19, 1), (18, 10), (16, 60), (15, 600), (13, 3600), (10, 86400))

MINE = "t.row_no BETWEEN :first AND :last"


def read_report_data(
    tx: Connection,
    run: Run,
    *,
    golden: Mapping[str, Mapping[str, Any]],
    now: datetime,
    comparers: Mapping[str, Comparer] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what the report shows beyond `run_summary`. `golden`: the right answer of some rows, by key. `comparers`:
    how each field is compared, by name."""
    states = _states(tx, run)
    batches = _all(tx, run, "SELECT t.* FROM batch t WHERE t.run_no = :run ORDER BY t.batch_no")
    return {
        "started_at": run.started_at,
        "extracted_at": run.extracted_at,
        "finished_at": run.finished_at,
        "lane": run.chosen_lane or run.lane,
        "lane_why": run.lane_why,
        "source": run.source,
        "is_at_work": ledger_leases.lease_state(tx, run.run_id, now=now) == "held",
        "tiers": orjson.loads(run.tiers),
        "asked": sum(each["rows"] for each in states if each["asked"]),
        "spent": _spent(states),
        "over_time": _over_time(tx, run, batches, states, now=now),
        "batches": [_bar(each) for each in batches[-BATCHES_SHOWN:]],
        "batches_in_all": len(batches),
        "turns": _turns(tx, run),
        "tools": _tools(tx, run),
        "moves": _move_counts(tx, run),
        "held": _held(tx, run),
        "quarantine": _quarantine(tx, run),
        "golden": _golden(tx, run, golden, comparers),
    }


def _states(tx: Connection, run: Run) -> Sequence[RowMapping]:
    asked = "CASE WHEN t.turn > 0 THEN 1 ELSE 0 END"
    return _all(
        tx,
        run,
        f"SELECT t.state, {asked} asked, count(*) AS rows, sum(t.cost_micro) cost FROM row t WHERE t.run_no = :run "
        f"GROUP BY t.state, {asked}",
    )


def _spent(states: Iterable[RowMapping]) -> dict[str, int]:
    """Return what the rows of each state have cost so far, in micro-dollars."""
    spent = Counter[str]()
    for each in states:
        spent[each["state"]] += int(each["cost"])
    return dict(spent)


def _over_time(
    tx: Connection, run: Run, batches: Sequence[RowMapping], states: Sequence[RowMapping], *, now: datetime
) -> list[dict[str, Any]]:
    """Return how many rows were where at POINTS moments, as far as the ledger recorded it.

    A batch's rows are at the API from its POST until they are filed. A verified row is dated by the filing of its last
    reply, a loaded row by its part, a quarantined row by its note. All others are here: ready, or being judged.
    """
    ended = Counter[str]()
    for each in states:
        ended[each["state"]] += each["rows"]
    start, end = from_timestamp(run.started_at), from_timestamp(run.finished_at) if run.finished_at else now
    changes: dict[str, Counter[datetime]] = defaultdict(Counter)
    changes["unchanged"][from_timestamp(run.extracted_at or run.started_at)] = ended["unchanged"]
    verified = _verified_by_batch(tx, run)
    for batch in batches:
        filed = from_timestamp(batch["filed_at"]) if batch["filed_at"] else None
        if filed:
            changes["verified"][filed] += verified.get(batch["batch_no"], 0)
        if LANES[batch["lane"]].in_batches and batch["posted_at"] and batch["state"] != "void":
            changes["at_api"][from_timestamp(batch["posted_at"])] += batch["rows"]
            if filed:
                changes["at_api"][filed] -= batch["rows"]
    for each in _all(tx, run, "SELECT t.rows, t.done_at FROM load t WHERE t.run_no = :run AND t.done_at IS NOT NULL"):
        changes["loaded"][from_timestamp(each["done_at"])] += each["rows"]
    changes["quarantined"] = _quarantined(tx, run, start, end)
    return [_shares(changes, ended, at, last=at == end) for at in _moments(start, end)]


def _shares(
    changes: Mapping[str, Counter[datetime]], ended: Mapping[str, int], at: datetime, *, last: bool
) -> dict[str, Any]:
    """Return where the rows were at one moment; for the last moment the present row states count."""
    seen = {name: sum(rows for when, rows in moves.items() if when <= at) for name, moves in changes.items()}
    loaded, quarantined = seen.get("loaded", 0), seen["quarantined"]
    if last:
        loaded, quarantined = ended["loaded"], ended["quarantined"]
    known = {
        "loaded": loaded,
        "verified": max(seen.get("verified", 0) - loaded, 0),
        "unchanged": seen["unchanged"],
        "quarantined": quarantined,
    }
    rest = max(sum(ended.values()) - sum(known.values()), 0)
    at_api = min(seen.get("at_api", 0), rest)  # a batch is filed in pages: some of its rows may have moved on
    return {"at": at.isoformat(), **known, "at_api": at_api, "here": rest - at_api}


def _moments(start: datetime, end: datetime) -> list[datetime]:
    step = (end - start) / POINTS
    return [*(start + step * n for n in range(POINTS)), end]


def _verified_by_batch(tx: Connection, run: Run) -> dict[int, int]:
    """Return batch_no → rows that passed and whose last reply came in that batch."""
    query = (
        "SELECT t.batch_no, count(*) AS rows FROM row t WHERE t.run_no = :run "
        "AND t.state IN ('accepted', 'loaded') AND t.batch_no IS NOT NULL GROUP BY t.batch_no"
    )
    return {each["batch_no"]: each["rows"] for each in _all(tx, run, query)}


def _quarantined(tx: Connection, run: Run, start: datetime, end: datetime) -> Counter[datetime]:
    """Return when the quarantined rows were last quarantined, rounded to the width of a point."""
    seconds = (end - start).total_seconds()
    length, width = next((each for each in PREFIXES if seconds / each[1] <= 2 * POINTS), PREFIXES[-1])
    query = (
        "SELECT n.at, count(*) AS rows FROM (SELECT t.row_no, max(substr(t.noted_at, 1, :length)) AS at FROM note t "
        f"WHERE {MINE} AND t.move = 'quarantine' GROUP BY t.row_no) n "
        "JOIN row r ON r.row_no = n.row_no WHERE r.state = 'quarantined' GROUP BY n.at"
    )
    found = _all(tx, run, query, length=length)
    whole = "0000-01-01T00:00:00.000000Z"  # completes a cut timestamp
    ends = {each["at"]: from_timestamp(each["at"] + whole[length:]) + timedelta(seconds=width) for each in found}
    return Counter({min(ends[each["at"]], end): each["rows"] for each in found})


def _bar(batch: RowMapping) -> dict[str, Any]:
    names = ("batch_no", "lane", "state", "rows", "packed_at", "posted_at", "opened_at", "ended_at", "filed_at")
    return {
        name: batch[name] for name in (*names, "unconfirmed_at", "detail", "adopted", "cost_micro", "reserved_micro")
    }


def _turns(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return replies, tokens and cost by turn, tier, kind and stop reason."""
    turn = f"CASE WHEN t.turn > {TURNS_SHOWN} THEN {TURNS_SHOWN} ELSE t.turn END"
    sums = ", ".join(
        f"sum(t.{name}) {name}"
        for name in (
            *("input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens"),
            *("cost_micro", "baseline_micro"),
        )
    )
    query = (
        f"SELECT {turn} turn, t.tier, t.kind, t.stop_reason, count(*) replies, {sums} FROM turn t WHERE {MINE} "
        f"GROUP BY {turn}, t.tier, t.kind, t.stop_reason ORDER BY 1, 2, 3, 4"
    )
    whole = ("turn", "tier", "kind", "stop_reason")
    return [
        {name: value if name in whole else int(value) for name, value in each.items()} for each in _all(tx, run, query)
    ]


def _tools(tx: Connection, run: Run) -> dict[str, dict[str, Any]]:
    """Return each tool's calls, and how long those that were really made took, in milliseconds."""
    query = (
        "SELECT t.tool, t.milliseconds ms, t.is_error failed, t.remembered, count(*) calls FROM tool_call t "
        f"WHERE {MINE} GROUP BY t.tool, t.milliseconds, t.is_error, t.remembered ORDER BY t.tool, t.milliseconds"
    )
    found: dict[str, dict[str, Any]] = {}
    for each in _all(tx, run, query):
        tool = found.setdefault(each["tool"], {"calls": 0, "remembered": 0, "failed": 0, "took": Counter[int]()})
        tool["calls"] += each["calls"]
        tool["remembered"] += each["calls"] if each["remembered"] else 0
        tool["failed"] += each["calls"] if each["failed"] else 0
        if not each["remembered"]:
            tool["took"][each["ms"]] += each["calls"]
    for tool in found.values():
        took = tool.pop("took")
        tool |= {"p50_ms": quantile(took, 0.5), "p95_ms": quantile(took, 0.95), "slowest_ms": max(took, default=None)}
    return found


def quantile(counts: Mapping[int, int], share: float) -> int | None:
    """Return the smallest number (of number → how often) that at least `share` of them do not exceed, or None."""
    wanted, seen = share * sum(counts.values()), 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted:
            return number
    return None


def _move_counts(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return moves that need a reason, most frequent first, with how often and of how many rows."""
    query = (
        f"SELECT t.move, t.reason, count(*) times, count(DISTINCT t.row_no) AS rows FROM note t WHERE {MINE} "
        f"AND t.move <> '{MADE_UP}' "
        f"GROUP BY t.move, t.reason ORDER BY count(*) DESC, t.move, t.reason LIMIT {2 * REASONS_SHOWN}"
    )
    return [dict(each) for each in _all(tx, run, query)]


def _held(tx: Connection, run: Run) -> dict[str, int]:
    query = "SELECT t.reason, count(*) AS rows FROM row t WHERE t.run_no = :run AND t.state = 'held' GROUP BY t.reason"
    return {each["reason"]: each["rows"] for each in _all(tx, run, query)}


def _quarantine(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return the most frequent quarantine reasons, each with its first rows: content and last reason."""
    ranked = (
        "SELECT t.row_no, t.row_key, t.reason, t.cost_micro, count(*) OVER (PARTITION BY t.reason) AS rows, "
        "row_number() OVER (PARTITION BY t.reason ORDER BY t.row_no) AS place "
        "FROM row t WHERE t.run_no = :run AND t.state = 'quarantined'"
    )
    move_reason = (
        "SELECT n.detail FROM note n WHERE n.row_no = q.row_no AND n.move = 'quarantine' ORDER BY n.note_no DESC"
    )
    query = (
        f"SELECT q.*, c.content, ({move_reason} LIMIT 1) remark FROM ({ranked}) q "
        f"LEFT JOIN row_content c ON c.row_no = q.row_no WHERE q.place <= {SAMPLES} "
        f"ORDER BY q.rows DESC, q.reason, q.place LIMIT {REASONS_SHOWN * SAMPLES}"
    )
    reasons: dict[str, dict[str, Any]] = {}
    for each in _all(tx, run, query):
        reason = reasons.setdefault(each["reason"], {"reason": each["reason"], "rows": each["rows"], "samples": []})
        reason["samples"].append(
            {
                "row_key": each["row_key"],
                "place": each["row_no"] - run.first_row_no,
                "content": bytes(each["content"] or b"")[:SAMPLE_CHARS].decode(errors="replace"),
                "remark": (each["remark"] or "")[:SAMPLE_CHARS],
                "cost_micro": each["cost_micro"],
            }
        )
    return list(reasons.values())[:REASONS_SHOWN]


def _golden(
    tx: Connection, run: Run, golden: Mapping[str, Mapping[str, Any]], comparers: Mapping[str, Comparer]
) -> dict[str, Any] | None:
    """Return how many rows with a known answer came out right, by field; None when there is no such row."""
    if not golden:
        return None
    found = row_answers(tx, run, golden)
    answers = {each.row_key: orjson.loads(each.content) for each in found if each.content is not None}
    fields: dict[str, dict[str, int]] = {}
    for key, answer in answers.items():
        for name, right in golden[key].items():
            field = fields.setdefault(name, {"right": 0, "rows": 0})
            field["rows"] += 1
            field["right"] += values_agree(comparers.get(name, EXACT), right, answer.get(name)) is True
    quarantined = sum(each.state == "quarantined" for each in found)
    return (
        {"rows": len(found), "verified": len(answers), "quarantined": quarantined, "fields": fields} if found else None
    )


def _all(tx: Connection, run: Run, query: str, **also: object) -> Sequence[RowMapping]:
    mine = {"run": run.run_no, "first": run.first_row_no, "last": run.last_row_no}
    return tx.execute(text(query), {**mine, **also}).mappings().all()
