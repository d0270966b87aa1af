"""Records what was loaded into a sink: which part holds which row, and which row stands under which key.

A load is recorded, with its rows fixed, before its part is written, so writing again after a kill writes the same part.
What a later run has loaded stays: an earlier run's row under that key is superseded.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection, text

from rowtide.agent.states import state_after, states_before
from rowtide.errors import IllegalMove
from rowtide.ledger.ledger import Run, fetch_all, is_one_of, list_parameter, refresh_statistics, to_timestamp
from rowtide.ledger.rows import MoveReason, quarantine_rows

SUPERSEDED = "superseded"  # the reason of a loaded row whose key a later run had already loaded
AT_ONCE = 5_000  # rows; SQLite keeps every page that one statement changes in memory
# The versions that asked row r and judged its answer; they differ only in a run that was amended.
ASKED = "(SELECT v.asking FROM version v WHERE v.run_no = r.run_no AND v.version_no = r.version_no)"
JUDGED = (
    "(SELECT v.judging FROM answer a JOIN version v USING (version_no) WHERE a.row_no = r.row_no "
    "AND v.run_no = r.run_no)"
)
OF_LOAD = "r.row_no BETWEEN :first AND :last AND r.load_no = :load"  # by number: there is no index on load_no


@dataclass(frozen=True, slots=True)
class Load:
    """A part and its fixed rows."""

    load_no: int
    part: str
    first_row: int
    last_row: int
    rows: int
    begun_at: str

    def of(self, run: Run) -> dict[str, object]:
        """Return the parameters of the condition OF_LOAD."""
        return {"run": run.run_no, "load": self.load_no, "first": self.first_row, "last": self.last_row}


class AcceptedRow(NamedTuple):
    """A row of a part, with its answer as JSON."""

    row_no: int
    row_key: str
    content: bytes
    tier: int
    turn: int
    cost_micro: int


@dataclass
class CompetingParts:
    """Other parts of the sink that hold keys of this one: part → keys."""

    older: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    newer: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    begun: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Newer parts that are not finished: written, half written, or not at all."""


COLUMNS = ", ".join(Load.__dataclass_fields__)


def unfinished_loads(tx: Connection, run: Run, sink: str) -> list[Load]:
    """Return loads that an earlier process began; they go into this sink, even if the job named another then."""
    tx.execute(
        text("UPDATE load SET sink = :sink WHERE run_no = :run AND done_at IS NULL AND sink <> :sink"),
        {"run": run.run_no, "sink": sink},
    )
    query = text(f"SELECT {COLUMNS} FROM load WHERE run_no = :run AND done_at IS NULL ORDER BY load_no")
    return [Load(*each) for each in tx.execute(query, {"run": run.run_no})]


def begin_load(tx: Connection, run: Run, sink: str, *, rows: int, size: int, now: datetime) -> Load | None:
    """Fix the rows of the next part: at most `rows` accepted rows that are in no part, about `size` bytes. Returns None
    when there are none.
    """
    accepted = "FROM row r JOIN answer a ON a.row_no = r.row_no WHERE r.run_no = :run AND r.state = 'accepted'"
    sizes = f"SELECT r.row_no, length(a.content) size {accepted} AND r.load_no IS NULL ORDER BY r.row_no LIMIT :rows"
    sums = f"SELECT row_no, sum(size) OVER (ORDER BY row_no) - size before FROM ({sizes}) sizes"
    fitting = text(f"SELECT min(row_no), max(row_no), count(*) FROM ({sums}) sums WHERE before < :size")
    first, last, count = tx.execute(fitting, {"run": run.run_no, "rows": rows, "size": size}).one()
    if not count:
        return None
    parts = tx.execute(text("SELECT count(*) FROM load WHERE run_no = :run"), {"run": run.run_no}).scalar_one()
    part, begun_at = f"{quote(run.run_id, safe='')}-{parts + 1:06d}", to_timestamp(now)
    load_no = tx.execute(
        text(
            "INSERT INTO load (run_no, part, sink, first_row, last_row, rows, begun_at) "
            "VALUES (:run, :part, :sink, :first, :last, :rows, :now) RETURNING load_no"
        ),
        {"run": run.run_no, "part": part, "sink": sink, "first": first, "last": last, "rows": count, "now": begun_at},
    ).scalar_one()
    load = Load(load_no, part, first, last, count, begun_at)
    tx.execute(
        text(
            "UPDATE row SET load_no = :load WHERE run_no = :run AND state = 'accepted' AND load_no IS NULL "
            "AND row_no BETWEEN :first AND :last"
        ),
        load.of(run),
    )
    refresh_statistics(tx, "row", "answer", "loaded")
    return load


def rows_of_load_page(tx: Connection, run: Run, load: Load, *, after: int, limit: int) -> list[AcceptedRow]:
    """Return the next rows of a part by number."""
    query = (
        "SELECT r.row_no, r.row_key, a.content, r.tier, r.turn, r.cost_micro "
        f"FROM row r JOIN answer a ON a.row_no = r.row_no WHERE {OF_LOAD} AND r.row_no > :after "
        "ORDER BY r.row_no LIMIT :limit"
    )
    return [AcceptedRow(*each) for each in fetch_all(tx, query, {**load.of(run), "after": after, "limit": limit})]


def competing_parts(tx: Connection, run: Run, load: Load, sink: str) -> CompetingParts:
    """Return the other parts that hold, or are about to hold, keys of this part in this sink.

    CROSS JOIN keeps SQLite to this order of tables; another order reads every row ever loaded, for each part.
    """
    found = CompetingParts()
    values = {**load.of(run), "job": run.job, "sink": sink, "part": load.part}
    done = text(
        "SELECT l.part, l.row_key, l.row_no > :last FROM row r CROSS JOIN loaded l "
        f"WHERE {OF_LOAD} AND l.job = :job AND l.row_key = r.row_key AND l.sink = :sink AND l.part <> :part"
    )
    for part, key, is_newer in tx.execute(done, values):
        (found.newer if is_newer else found.older)[part].add(key)
    begun = text(
        "SELECT o.part, r.row_key, o.run_no > :run FROM load o CROSS JOIN row i CROSS JOIN row r "
        "WHERE o.sink = :sink AND o.done_at IS NULL AND o.run_no <> :run "
        "AND o.run_no IN (SELECT run_no FROM run WHERE job = :job) "
        "AND i.row_no BETWEEN o.first_row AND o.last_row AND i.load_no = o.load_no "
        "AND r.run_no = :run AND r.row_key = i.row_key AND r.load_no = :load"
    )
    for part, key, is_newer in tx.execute(begun, values):
        (found.begun if is_newer else found.older)[part].add(key)
    return found


def exclude_refused_rows(tx: Connection, run: Run, load: Load, refused: Sequence[MoveReason], *, now: datetime) -> Load:
    """Quarantine the rows that the sink refused, before the part is written. Returns the part without them."""
    quarantine_rows(tx, refused, now=now)
    # A row that a person edits is loaded in another part.
    alone = f"UPDATE row AS r SET load_no = NULL WHERE {OF_LOAD} AND r.state = 'quarantined'"
    gone = tx.execute(text(alone), load.of(run)).rowcount
    left = replace(load, rows=load.rows - gone)
    tx.execute(text("UPDATE load SET rows = :rows WHERE load_no = :load"), {"rows": left.rows, "load": load.load_no})
    return left


def has_loaded_any_row(tx: Connection, run: Run) -> bool:
    """Return whether a sink has taken rows of this run."""
    done = text("SELECT 1 FROM load WHERE run_no = :run AND done_at IS NOT NULL AND rows > 0 LIMIT 1")
    return tx.execute(done, {"run": run.run_no}).first() is not None


def finish_load(
    tx: Connection,
    run: Run,
    load: Load,
    sink: str,
    *,
    superseded: Collection[str] = (),
    now: datetime,
) -> None:
    """Mark the part's rows loaded now that it stands in the sink, and record them by key."""
    values = {**load.of(run), "job": run.job, "sink": sink, "part": load.part}
    values |= {"asking": run.asking, "judging": run.judging, "api": run.api}
    legal = ", ".join(f"'{state.value}'" for state in states_before("load"))
    changes = (
        f"state = '{state_after('load').value}', reason = CASE WHEN r.row_key {is_one_of(tx, 'keys', kind='text')} "
    )
    moved_on = text(f"UPDATE row AS r SET {changes} THEN '{SUPERSEDED}' END WHERE {OF_LOAD} AND r.state IN ({legal})")
    versions = f"{ASKED}, {JUDGED}" if run.version_no else ":asking, :judging"
    remember = text(
        "INSERT INTO loaded (job, row_key, sink, row_id, asking, judging, part, row_no, api) "
        f"SELECT :job, r.row_key, :sink, r.row_id, {versions}, :part, r.row_no, :api FROM row r WHERE {OF_LOAD} "
        "AND r.state = 'loaded' AND r.reason IS NULL ON CONFLICT (job, row_key, sink) DO UPDATE SET "
        "row_id = excluded.row_id, asking = excluded.asking, judging = excluded.judging, part = excluded.part, "
        "row_no = excluded.row_no, api = excluded.api WHERE excluded.row_no > loaded.row_no"
    )
    moved = 0
    for first in range(load.first_row, load.last_row + 1, AT_ONCE):
        some = {**values, "first": first, "last": min(first + AT_ONCE - 1, load.last_row)}
        moved += tx.execute(moved_on, {**some, "keys": list_parameter(superseded)}).rowcount
        tx.execute(remember, some)
    if moved != load.rows:
        raise IllegalMove(f"'load': {moved} rows of part {load.part} were in {legal}, not {load.rows}")
    tx.execute(
        text("UPDATE load SET done_at = :now WHERE load_no = :load"), {"now": to_timestamp(now), "load": load.load_no}
    )


def last_sink_of_job(tx: Connection, run: Run) -> str | None:
    """Return the sink that the job's rows were last loaded to, or None."""
    query = text("SELECT sink FROM load JOIN run USING (run_no) WHERE run.job = :job ORDER BY load_no DESC LIMIT 1")
    return tx.execute(query, {"job": run.job}).scalar()


def remember_unverified(tx: Connection, run: Run) -> None:
    """Record by key the rows that could not be verified; rows that bounced out or were edited are left out."""
    tx.execute(
        text(
            "INSERT INTO unverified (job, row_key, row_id, asking, judging, row_no, api) "
            f"SELECT :job, r.row_key, r.row_id, {ASKED}, :judging, r.row_no, :api FROM row r "
            "WHERE run_no = :run AND state = 'quarantined' AND turn > 0 AND reason NOT IN ('bounced_out', 'edited') "
            "ON CONFLICT (job, row_key) DO UPDATE SET "
            "row_id = excluded.row_id, asking = excluded.asking, judging = excluded.judging, row_no = excluded.row_no, "
            "api = excluded.api"
        ),
        {"job": run.job, "run": run.run_no, "judging": run.judging, "api": run.api},
    )
