"""The versions of a run's job: adopting a new one, and moving rows to it.

A row that is asked again is asked under the run's present version, from the beginning if that version asks otherwise:
the API binds thinking to its prefix, so no conversation may mix two versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, text

from rowtide.agent.states import state_after, states_before
from rowtide.job.versions import JobVersion, name_changes, version_from_record
from rowtide.ledger.ledger import Run, find_run, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.prefixes import skills_by_prefix
from rowtide.ledger.quarantine import FIRST_TIER, FRESH, Signature
from rowtide.ledger.rows import FRESH_CONVERSATION
from rowtide.tiers.pricing import MICRO

# Discarded, edited but not sent again, or not loadable: no new version of the job changes these.
NOT_THE_JOBS = ("discarded", "edited", "unloadable", "purged")
# Rows refused at admission, or by the rows gate, never had a tier.
QUARANTINE = (
    "row.state = 'quarantined' AND row.tier IS NOT NULL AND coalesce(row.reason, '') NOT IN "
    f"({', '.join(repr(each) for each in NOT_THE_JOBS)})"
)
OF_LAST_TURN = "x.row_no = row.row_no AND x.turn = row.turn"
BY_THE_API = 1000  # positions of calls that the API made itself while it wrote the reply
# The row's last reply was not followed up by calls or a correction, so it can be judged again.
HAS_REPLY = (
    "row.turn > row.conversation_from "
    f"AND NOT EXISTS (SELECT 1 FROM tool_call x WHERE {OF_LAST_TURN} AND x.position < {BY_THE_API}) "
    f"AND NOT EXISTS (SELECT 1 FROM note x WHERE {OF_LAST_TURN} AND x.move IN ('correct', 'extend_max_tokens'))"
)
IS_OVERRIDDEN = f"EXISTS (SELECT 1 FROM note x WHERE {OF_LAST_TURN} AND x.move = 'override_answer')"
WAITS_FOR_GATE = f"row.state = 'answered' AND NOT {IS_OVERRIDDEN}"
IS_LAST_A_CHECK = f"EXISTS (SELECT 1 FROM turn x WHERE {OF_LAST_TURN} AND x.kind = 'check')"
JUDGED_AGAIN = f"in_self_check = CASE WHEN {IS_LAST_A_CHECK} THEN 1 ELSE 0 END"


@dataclass(frozen=True, slots=True)
class AmendmentEffects:
    """How many rows of a run an amendment affects, and how."""

    kept: int
    """Accepted, loaded or unchanged: they stay as they are."""
    judged_again: int
    """Their reply is judged under the new version; nothing is asked unless it fails."""
    at_the_api: int
    """Asked under the old version, and recorded so; their replies are judged under the new one."""
    not_begun: int
    in_conversation: int
    held: int
    quarantined_rejudged: int
    """Quarantined, with a reply that is judged again."""
    quarantined_resent: int
    """Quarantined without such a reply: sent again, if the new version asks otherwise."""
    left: Mapping[str, int]
    """Rows that stay in quarantine, by reason."""


class RunVersion(NamedTuple):
    """One version of a run's job: its fingerprints, and who adopted it, when and why."""

    version_no: int
    asking: str
    judging: str
    parts: str
    taken_at: str
    who: str | None
    why: str


def mark_rows_settled_earlier(tx: Connection, run: Run, first: int, last: int) -> int:
    """Mark ready rows from `first` to `last` unchanged that an earlier run settled alike. Returns how many.

    A row that could not be verified then stays in that run's quarantine: asking again would cost the same.
    """
    values = {"run": run.run_no, "first": first, "last": last, "job": run.job}
    values |= {"asking": run.asking, "judging": run.judging, "api": run.api}
    settled = 0
    for table, reason in (("loaded", None), ("unverified", "quarantined_before")):
        settled += tx.execute(
            text(
                "UPDATE row SET state = 'unchanged', reason = :reason WHERE run_no = :run AND state = 'ready' "
                f"AND row_no BETWEEN :first AND :last AND EXISTS (SELECT 1 FROM {table} s WHERE s.job = :job "
                "AND s.row_key = row.row_key AND s.row_id = row.row_id "
                "AND s.asking = :asking AND s.judging = :judging AND s.api = :api)"
            ),
            {**values, "reason": reason},
        ).rowcount
    return settled


def amendment_effects(tx: Connection, run: Run, *, asks_anew: bool, leaves_quarantine: bool) -> AmendmentEffects:
    """Return what `adopt_version` and the rest of the run would do to rows. Changes nothing."""
    query = text(
        "SELECT state, coalesce(reason, ''), CASE WHEN turn > conversation_from THEN 1 ELSE 0 END, "
        f"CASE WHEN {QUARANTINE} THEN 1 ELSE 0 END, CASE WHEN state = 'quarantined' AND {HAS_REPLY} THEN 1 ELSE 0 END, "
        "count(*) FROM row WHERE run_no = :run GROUP BY 1, 2, 3, 4, 5"
    )
    found = tx.execute(query, {"run": run.run_no}).tuples().all()

    def rows(*states: str, talks: bool | None = None) -> int:
        return sum(each[-1] for each in found if each[0] in states and talks in (None, bool(each[2])))

    judged = sum(each[-1] for each in found if each[3] and each[4]) if not leaves_quarantine else 0
    sent = sum(each[-1] for each in found if each[3] and not each[4]) if asks_anew and not leaves_quarantine else 0
    left: dict[str, int] = {}
    for state, reason, _, is_the_jobs, has_reply, count in found:
        if state == "quarantined" and (leaves_quarantine or not is_the_jobs or not (has_reply or asks_anew)):
            left[reason] = left.get(reason, 0) + count
    return AmendmentEffects(
        kept=rows("accepted", "loaded", "unchanged"),
        judged_again=rows("replied", "answered"),
        at_the_api=rows("in_flight"),
        not_begun=rows("ready", talks=False),
        in_conversation=rows("ready", talks=True),
        held=rows("held"),
        quarantined_rejudged=judged,
        quarantined_resent=sent,
        left=dict(sorted(left.items())),
    )


def adopt_version(
    tx: Connection,
    run: Run,
    now: JobVersion,
    request: bytes,
    skills: Sequence[str],
    servers: str,
    hand: Signature,
    why: str,
) -> Run:
    """Make this the version that the run goes on under. Returns the run; its rows follow as they come up.

    Unless it asks otherwise than the version before, prefixes and remembered calls are kept.
    """
    values = {"run": run.run_no, "version": run.version_no + 1, "base": run.base_prefix, "servers": servers}
    if now.asking != run.asking:
        values["base"] = len(skills_by_prefix(tx, run))
        tx.execute(
            text(
                "INSERT INTO prefix (run_no, prefix_no, skills, content, version_no) "
                "VALUES (:run, :base, :skills, :content, :version)"
            ),
            {**values, "skills": orjson.dumps(list(skills)).decode(), "content": request},
        )
        tx.execute(text("DELETE FROM memo WHERE run_no = :run"), values)  # a tool may answer otherwise now
    of_version = {"asking": now.asking, "judging": now.judging, "parts": now.record()}
    tx.execute(
        text(
            "INSERT INTO version (run_no, version_no, asking, judging, parts, base_prefix, taken_at, who, why) "
            "VALUES (:run, :version, :asking, :judging, :parts, :base, :now, :who, :why)"
        ),
        {**values, **of_version, "now": to_timestamp(hand.now), "who": hand.who, "why": why},
    )
    tx.execute(
        text("UPDATE run SET version_no = :version, servers = :servers, finished_at = NULL WHERE run_no = :run"), values
    )
    return find_run(tx, run.run_id)


def rejudge_replies(tx: Connection, run: Run, hand: Signature, *, quarantined: bool) -> int:
    """Judge again the replies of rows that wait for the gate and, if `quarantined`, of quarantined rows. Returns how
    many.
    """
    moved = _move_where(tx, run, "rejudge", WAITS_FOR_GATE, f"reason = NULL, {JUDGED_AGAIN}")
    if quarantined:
        which = f"{QUARANTINE} AND {HAS_REPLY}"
        _leave_quarantine(tx, run, which, hand)
        moved += _move_where(tx, run, "rejudge", which, f"reason = NULL, {JUDGED_AGAIN}")
    return moved


def resend_quarantined(tx: Connection, run: Run, hand: Signature) -> int:
    """Send quarantined rows without a reply to judge again, from the beginning. Returns how many."""
    which = f"{QUARANTINE} AND NOT ({HAS_REPLY})"
    _leave_quarantine(tx, run, which, hand)
    return _move_where(tx, run, "retry", which, f"tier = coalesce({FIRST_TIER}, tier), {FRESH}")


def _leave_quarantine(tx: Connection, run: Run, which: str, hand: Signature) -> None:
    """Note why rows leave the quarantine, and delete their `unverified` records."""
    values = {"run": run.run_no, "job": run.job, "who": hand.who, "now": to_timestamp(hand.now)}
    these = f"SELECT row.row_no FROM row WHERE row.run_no = :run AND {which}"
    tx.execute(
        text(
            "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who) SELECT row_no, turn, 'amend', "
            f"coalesce(reason, ''), 'version {run.version_no}', :now, :who FROM row WHERE row.run_no = :run AND {which}"
        ),
        values,
    )
    tx.execute(text(f"DELETE FROM unverified WHERE job = :job AND row_no IN ({these})"), values)


def versions_that_ask_otherwise(tx: Connection, run: Run) -> frozenset[int]:
    """Return the run's versions that ask otherwise than its present one."""
    query = text("SELECT version_no FROM version WHERE run_no = :run AND asking <> :asking")
    return frozenset(tx.execute(query, {"run": run.run_no, "asking": run.asking}).scalars())


def rows_on_other_versions(tx: Connection, run: Run, *, limit: int) -> list[tuple[int, int]]:
    """Return the next ready rows that are not on the run's present version: (row_no, their version)."""
    query = text(
        "SELECT row_no, version_no FROM row WHERE run_no = :run AND state = 'ready' AND version_no <> :version "
        "ORDER BY row_no LIMIT :limit"
    )
    found = tx.execute(query, {"run": run.run_no, "version": run.version_no, "limit": limit})
    return [(row_no, version_no) for row_no, version_no in found]


def move_to_version(tx: Connection, run: Run, rows: Sequence[int]) -> None:
    """Put rows on the run's present version, which asks as theirs did; their conversations go on."""
    tx.execute(
        text(f"UPDATE row SET version_no = :version WHERE row_no {is_one_of(tx, 'rows')} AND state = 'ready'"),
        {"version": run.version_no, "rows": list_parameter(rows)},
    )


def restart_on_version(tx: Connection, run: Run, rows: Sequence[int], *, now: datetime) -> None:
    """Put rows on the run's present version, each with a fresh conversation on its first tier."""
    values = {
        "version": run.version_no,
        "base": run.base_prefix,
        "rows": list_parameter(rows),
        "now": to_timestamp(now),
    }
    these = f"row_no {is_one_of(tx, 'rows')} AND state = 'ready'"
    tx.execute(
        text(
            "INSERT INTO note (row_no, turn, move, reason, detail, noted_at) SELECT row_no, turn, 'amend', 'amended', "
            f"'begins afresh under version {run.version_no}', :now FROM row WHERE {these} AND turn > conversation_from"
        ),
        values,
    )
    tx.execute(
        text(
            f"UPDATE row SET version_no = :version, prefix_no = :base, tier = coalesce({FIRST_TIER}, tier), "
            f"{FRESH_CONVERSATION} WHERE {these}"
        ),
        values,
    )


def _move_where(tx: Connection, run: Run, name: str, which: str, also: str = "") -> int:
    """Apply the move `name` to the run's rows that are `which` and in a legal state. Returns how many."""
    legal = ", ".join(f"'{state.value}'" for state in states_before(name))
    where = f"row.run_no = :run AND {which} AND state IN ({legal})"
    query = f"UPDATE row SET state = '{state_after(name).value}'{', ' + also if also else ''} WHERE {where}"
    return tx.execute(text(query), {"run": run.run_no}).rowcount


def run_versions(tx: Connection, run: Run) -> list[RunVersion]:
    """Return the run's versions, oldest first."""
    query = text(f"SELECT {', '.join(RunVersion._fields)} FROM version WHERE run_no = :run ORDER BY version_no")
    return [RunVersion(*each) for each in tx.execute(query, {"run": run.run_no})]


def version_history(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return each version of an amended run: what changed, who adopted it and why, rows, turns, cost in dollars.

    Empty for a run that was never amended.
    """
    if not run.version_no:
        return []
    found, done = run_versions(tx, run), work_by_version(tx, run)
    before, rows = [None, *found], []
    for last, each in zip(before, found, strict=False):
        count, turns, cost = done.get(each.version_no, (0, 0, 0))
        changed = name_changes(version_from_record(last.parts), version_from_record(each.parts)) if last else []
        rows.append(
            {
                "version": each.version_no,
                "taken_at": each.taken_at,
                "who": each.who,
                "why": each.why,
                "changed": changed,
                "asking": each.asking,
                "judging": each.judging,
                "rows": count,
                "turns": turns,
                "cost_usd": cost / MICRO,
            }
        )
    return rows


def work_by_version(tx: Connection, run: Run) -> dict[int, tuple[int, int, int]]:
    """Return version → (rows whose latest version it is, replies, micro-dollars)."""
    mine = {"run": run.run_no, "first": run.first_row_no, "last": run.last_row_no}
    rows = tx.execute(text("SELECT version_no, count(*) FROM row WHERE run_no = :run GROUP BY 1"), mine).tuples().all()
    query = "SELECT version_no, count(*), sum(cost_micro) FROM turn WHERE row_no BETWEEN :first AND :last GROUP BY 1"
    turns = {number: (int(turns), int(cost)) for number, turns, cost in tx.execute(text(query), mine)}
    counted = dict(rows)
    return {number: (counted.get(number, 0), *turns.get(number, (0, 0))) for number in counted.keys() | turns.keys()}
