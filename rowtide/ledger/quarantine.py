"""The quarantine: the rows that wait for a person, and the moves that only a person makes.

Each move is recorded with who made it and when. Content or an answer that a person replaces is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, text

from rowtide.agent.agent import text_of
from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.source_rows import row_id
from rowtide.ledger.ledger import Run, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.read.costs import CHECK
from rowtide.ledger.rows import FRESH_CONVERSATION, MoveReason, move_rows, move_rows_alike, write_answers
from rowtide.ledger.turns import row_contents
from rowtide.quarantine.cause_groups import Cause
from rowtide.quarantine.quarantine_cells import value_kinds
from rowtide.quarantine.quarantine_sheet import SelectedRow, SheetEntry, SheetShape
from rowtide.quarantine.sheet_edits import SheetEdit

DISCARDED, EDITED = "discarded", "edited"  # reasons of rows given up; edited and not sent again
SEEN = 1000  # how many readable rows of the run are scanned for column names
CAUSES_READ = 10_000  # rows whose causes are grouped for a person
PAGE_ROWS = 200  # a row's content may be long

NOTED = "EXISTS (SELECT 1 FROM note n WHERE n.row_no = r.row_no AND"
# A row refused at admission has no content, or no key of its own, until it is edited.
IS_REFUSED = (
    f"NOT {NOTED} n.move = 'edit') AND (length(c.content) = 2 OR "
    f"{NOTED} n.move = 'quarantine' AND n.reason IN ('missing_key', 'unusable_key', 'duplicate_key')))"
)
# The note of when the row was quarantined, or the last one a person wrote there.
WHY = (
    "coalesce((SELECT n.detail FROM note n WHERE n.row_no = r.row_no AND n.move IN ('quarantine', 'edit', 'discard') "
    "ORDER BY n.note_no DESC LIMIT 1), '')"
)
FRESH = f"{FRESH_CONVERSATION}, bounces = 0, tokens = 0, batch_no = NULL, load_no = NULL, reason = NULL"
# An edited row is routed like a new one; others start where they first did; a person's tier overrides both.
IS_EDITED = "EXISTS (SELECT 1 FROM note n WHERE n.row_no = row.row_no AND n.move = 'edit' AND n.turn = row.turn)"
FIRST_TIER = "(SELECT t.tier FROM turn t WHERE t.row_no = row.row_no ORDER BY t.turn LIMIT 1)"
ROUTED = (
    f"tier = coalesce(:tier, CASE WHEN {IS_EDITED} OR tier IS NULL THEN NULL ELSE coalesce({FIRST_TIER}, tier) END), "
    + ", ".join(
        f"{name} = CASE WHEN {IS_EDITED} THEN {unset} ELSE {name} END"
        for name, unset in {
            "effort": "NULL",
            "turn_limit": "NULL",
            "rule": "NULL",
            "prefix_no": ":base",
            "version_no": ":version",
        }.items()
    )
)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a move and when, and the hash of the sheet it came in."""

    who: str
    now: datetime
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """The quarantined rows with one reason, and the first of them."""

    reason: str
    rows: int
    row_key: str
    detail: str
    can_escalate: bool
    """Whether the ladder has a tier above the lowest of them."""


def reason_groups(tx: Connection, run: Run) -> list[ReasonGroup]:
    """Return the quarantined rows by reason, most frequent first."""
    query = text(
        "SELECT reason, count(*), min(tier), min(row_no) FROM row WHERE run_no = :run AND state = 'quarantined' "
        "GROUP BY reason ORDER BY count(*) DESC, reason"
    )
    found = tx.execute(query, {"run": run.run_no}).all()
    top = sum(not name.endswith(CHECK) for name in orjson.loads(run.tiers)) - 1
    firsts = {each.row_no: each for each in _entries(tx, "r.row_no {rows}", rows=[row_no for *_, row_no in found])}
    return [
        ReasonGroup(reason, rows, firsts[first].row_key, firsts[first].detail, (tier or 0) < top)
        for reason, rows, tier, first in found
    ]


def quarantine_causes(tx: Connection, run: Run, *, limit: int = CAUSES_READ) -> list[Cause]:
    """Return why rows are in quarantine, discarded ones aside, in the order of the source."""
    query = text(
        f"SELECT r.row_key, r.reason, {WHY} FROM row r WHERE r.run_no = :run AND r.state = 'quarantined' "
        f"AND {reason_condition(None)} ORDER BY r.row_no LIMIT :limit"
    )
    return [Cause(*each) for each in tx.execute(query, {"run": run.run_no, "limit": limit})]


def sheet_shape(tx: Connection, run: Run, key_columns: Sequence[str], fields: Sequence[str]) -> SheetShape:
    """Return the columns of the run's sheet: key columns first, then the others by name."""
    read = "SELECT row_no FROM row_content WHERE row_no BETWEEN :first AND :last AND length(content) > 2"
    query = text(
        "SELECT c.content FROM row r JOIN row_content c ON c.row_no = r.row_no WHERE r.run_no = :run "
        f"AND (r.state = 'quarantined' OR r.row_no IN ({read} ORDER BY row_no LIMIT {SEEN}))"
    )
    seen: dict[str, frozenset[str]] = {}
    values = {"run": run.run_no, "first": run.first_row_no, "last": run.last_row_no}
    for content in tx.execute(query, values, execution_options={"yield_per": PAGE_ROWS}).scalars():
        for name, value in orjson.loads(content).items():
            seen[name] = seen.get(name, frozenset()) | value_kinds([value])
    names = [*(name for name in key_columns if name in seen), *sorted(seen.keys() - set(key_columns))]
    return SheetShape({name: seen[name] for name in names}, tuple(fields))


def quarantine_page(tx: Connection, run: Run, reason: str | None, *, after: int) -> list[SheetEntry]:
    """Return the quarantine's next rows by number: of one reason, or all that are not discarded."""
    where = f"r.run_no = :run AND r.state = 'quarantined' AND {reason_condition(reason)} AND r.row_no > :after"
    where = f"{where} ORDER BY r.row_no LIMIT {PAGE_ROWS}"
    return _entries(tx, where, run=run.run_no, reason=reason, after=after)


def quarantine_entries(tx: Connection, run: Run, keys: Sequence[str]) -> dict[str, SheetEntry]:
    """Return the rows with these keys that are or were in quarantine, by key."""
    where = f"r.run_no = :run AND r.row_key {{keys}} AND {NOTED} n.move IN ('quarantine', 'edit'))"
    return {each.row_key: each for each in _entries(tx, where, run=run.run_no, keys=keys)}


def reason_condition(reason: str | None) -> str:
    """Return an SQL condition: has the reason `:reason`, or is not discarded."""
    return "r.reason = :reason" if reason else f"r.reason <> '{DISCARDED}'"


def check_quarantine_reason(reason: str | None, waiting: Mapping[str, int]) -> None:
    """Raise UserMistake for a reason that no quarantined row has."""
    if reason is not None and reason not in waiting:
        known = ", ".join(waiting) or "none"
        raise UserMistake(
            f"no row has this reason; those there are: {known}", key=reason, meant=nearest_name(reason, waiting)
        )


def sample_quarantined_keys(tx: Connection, run: Run, *, limit: int = 1000) -> list[str]:
    """Return quarantined keys, among which to find the nearest to a mistyped one."""
    query = text("SELECT row_key FROM row WHERE run_no = :run AND state = 'quarantined' ORDER BY row_no LIMIT :limit")
    return list(tx.execute(query, {"run": run.run_no, "limit": limit}).scalars())


def edit_rows(tx: Connection, found: Sequence[SheetEdit], hand: Signature) -> None:
    """Replace the contents of edited rows; the old contents are kept in notes."""
    edited = [(each, each.content) for each in found if each.content is not None]
    _note(tx, "edit", [_move_reason(each) for each, _ in edited], hand, was="row_content")
    changes = [
        {"row_no": each.row_no, "row_key": each.row_key, "row_id": row_id(content), "content": content}
        for each, content in edited
    ]
    if changes:
        tx.execute(text("UPDATE row_content SET content = :content WHERE row_no = :row_no"), changes)
    move_rows(tx, "edit", changes, f"row_key = :row_key, row_id = :row_id, reason = '{EDITED}'")


def override_answers(tx: Connection, run: Run, found: Sequence[SheetEdit], hand: Signature) -> None:
    """Send a person's answers on to the gate; the answers they replace are kept in notes."""
    given = [(each, each.answer) for each in found if each.answer is not None]
    if not given:
        return
    _note(tx, "override_answer", [_move_reason(each) for each, _ in given], hand, was="answer")
    write_answers(tx, run, {each.row_no: answer for each, answer in given})
    also = f"tier = coalesce(tier, {FIRST_TIER}, 0), in_self_check = 0, batch_no = NULL, load_no = NULL, reason = NULL"
    move_rows_alike(tx, "override_answer", [each.row_no for each, _ in given], also)
    reopen_run(tx, run)


def retry_rows(tx: Connection, run: Run, reasons: Sequence[MoveReason], tier: int | None, hand: Signature) -> None:
    """Make rows ready again: a fresh conversation with all attempts. What they have cost stays spent.

    An edited row may belong to another group now: see `edited_contents`.
    """
    rows = [move_reason.row_no for move_reason in reasons]
    if not rows:
        return
    these = f"row_no {is_one_of(tx, 'rows')}"
    values = {"rows": list_parameter(rows), "job": run.job}
    settled = f"SELECT row_key, row_id FROM row WHERE {these}"
    tx.execute(text(f"DELETE FROM unverified WHERE job = :job AND (row_key, row_id) IN ({settled})"), values)
    # An edited row's estimate was made from other content.
    edited = f"SELECT row_no FROM row WHERE {these} AND {IS_EDITED}"
    tx.execute(text(f"DELETE FROM estimate WHERE row_no IN ({edited})"), values)
    move_rows_alike(tx, "retry", rows, f"{ROUTED}, {FRESH}", tier=tier, base=run.base_prefix, version=run.version_no)
    _note(tx, "retry", reasons, hand)
    reopen_run(tx, run)


def discard_rows(tx: Connection, found: Iterable[SheetEntry | SelectedRow], why: str, hand: Signature) -> int:
    """Mark rows discarded; they stay in quarantine. Returns how many were not discarded before."""
    reasons = [MoveReason(each.row_no, each.turn, each.reason, why) for each in found if each.reason != DISCARDED]
    move_rows_alike(tx, "discard", [move_reason.row_no for move_reason in reasons], f"reason = '{DISCARDED}'")
    _note(tx, "discard", reasons, hand)
    return len(reasons)


def reopen_run(tx: Connection, run: Run) -> None:
    """Mark the run unfinished: it has rows to work on again."""
    tx.execute(text("UPDATE run SET finished_at = NULL WHERE run_no = :run"), {"run": run.run_no})


def earlier_import_of_sheet(tx: Connection, run: Run, sheet: str) -> tuple[str, str] | None:
    """Return (who, when) of the import of the sheet with this hash, or None."""
    query = text(
        "SELECT who, noted_at FROM note WHERE row_no BETWEEN :first AND :last AND sheet = :sheet "
        "ORDER BY note_no LIMIT 1"
    )
    found = tx.execute(query, {"first": run.first_row_no, "last": run.last_row_no, "sheet": sheet}).first()
    return (found[0], found[1]) if found else None


def rows_with_overridden_answer(tx: Connection, row_nos: Sequence[int]) -> set[int]:
    """Return those of `row_nos` whose answer a person gave: no model is asked when a gate refuses it."""
    query = text(
        f"SELECT n.row_no FROM note n JOIN row r ON r.row_no = n.row_no AND n.turn = r.turn "
        f"WHERE n.move = 'override_answer' AND n.row_no {is_one_of(tx, 'rows')}"
    )
    return set(tx.execute(query, {"rows": list_parameter(row_nos)}).scalars())


def _entries(tx: Connection, where: str, **values: Any) -> list[SheetEntry]:
    """Return the rows `where`; `{rows}` and `{keys}` in it stand for lists."""
    lists = {name: list_parameter(value) for name, value in values.items() if name in ("rows", "keys")}
    where = where.format(rows=is_one_of(tx, "rows"), keys=is_one_of(tx, "keys", kind="text"))
    query = text(
        "SELECT r.row_no, r.turn, r.row_key, r.state, coalesce(r.reason, ''), "
        f"{WHY}, coalesce((SELECT max(n.note_no) FROM note n WHERE n.row_no = r.row_no), 0), "
        f"CASE WHEN {IS_REFUSED} THEN 1 ELSE 0 END, c.content, "
        f"CASE WHEN {NOTED} n.move = 'override_answer' AND n.turn = r.turn) THEN a.content END, t.content "
        "FROM row r JOIN row_content c ON c.row_no = r.row_no LEFT JOIN answer a ON a.row_no = r.row_no "
        "LEFT JOIN turn t ON t.row_no = r.row_no AND t.turn = "
        "(SELECT max(s.turn) FROM turn s WHERE s.row_no = r.row_no AND s.kind = 'answer') "
        f"WHERE {where}"
    )
    return [_entry(each) for each in tx.execute(query, values | lists)]


def _entry(found: Row[Any]) -> SheetEntry:
    row_no, turn, row_key, state, reason, detail, as_of, is_refused, content, overridden, reply = found
    return SheetEntry(
        row_no=row_no,
        turn=turn,
        row_key=row_key,
        state=state,
        reason=reason,
        detail=detail,
        as_of=as_of,
        is_refused=bool(is_refused),
        content=orjson.loads(content),
        answer=_last_answer(overridden, reply),
    )


def _last_answer(overridden: bytes | None, reply: bytes | None) -> dict[str, Any] | None:
    """Return the person's answer, else the model's last reply if it is a JSON object, else None."""
    answer_text = overridden or (text_of(orjson.loads(reply)) if reply else "")
    try:
        answer = orjson.loads(answer_text)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def edited_contents(tx: Connection, row_nos: Sequence[int]) -> dict[int, bytes]:
    """Return the contents (row_no → JSON) of those of the rows that a person has edited."""
    query = text(f"SELECT row_no FROM row WHERE row_no {is_one_of(tx, 'rows')} AND {IS_EDITED}")
    return row_contents(tx, list(tx.execute(query, {"rows": list_parameter(row_nos)}).scalars()))


def _move_reason(found: SheetEdit) -> MoveReason:
    return MoveReason(found.row_no, found.turn, found.reason, found.note)


def _note(tx: Connection, name: str, reasons: Sequence[MoveReason], hand: Signature, *, was: str | None = None) -> None:
    """Record a person's move, with the content that the table `was` held before it."""
    if reasons:
        kept = f"(SELECT content FROM {was} WHERE row_no = :row_no)" if was else "NULL"
        signed = {"move": name, "who": hand.who, "now": to_timestamp(hand.now), "sheet": hand.sheet}
        tx.execute(
            text(
                "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who, sheet, was) "
                f"VALUES (:row_no, :turn, :move, :reason, :detail, :now, :who, :sheet, {kept})"
            ),
            [asdict(move_reason) | signed for move_reason in reasons],
        )
