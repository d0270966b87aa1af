"""What was said: the turns of a row, what its tools answered, and what it was told.

Appended, never rewritten. A row's conversation is read back from here, whatever process asks.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, TextClause, text

from rowtide.agent import RowAt
from rowtide.ledger import Run, as_list, one_of
from rowtide.ledger_rows import COLUMNS, move
from rowtide.states import RowState


@dataclass(frozen=True, slots=True)
class Reply:
    """One model reply, as it is filed. Token counts and micro-dollars."""

    row_no: int
    turn: int
    batch_no: int
    tier: int
    stop_reason: str
    content: bytes
    input_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_micro: int
    baseline_micro: int
    kind: str = "answer"

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.cache_write_tokens + self.cache_read_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ToolRecord:
    """One tool call and its outcome."""

    row_no: int
    turn: int
    position: int
    call_id: str
    tool: str
    arguments: bytes
    output: str
    is_error: int
    milliseconds: int
    remembered: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a conversation."""

    turn: int
    stop_reason: str
    content: bytes


@dataclass(slots=True)
class Conversation:
    """A row's present conversation, oldest first."""

    turns: list[Said] = field(default_factory=list)
    tool_records: dict[int, list[ToolRecord]] = field(default_factory=lambda: defaultdict(list))
    corrections: dict[int, str] = field(default_factory=dict)


REPLY_COLUMNS = list(Reply.__dataclass_fields__)
TOOL_COLUMNS = list(ToolRecord.__dataclass_fields__)


def reply(tx: Connection, replies: Sequence[Reply]) -> None:
    """File replies: each is appended and its row moves on, or none is."""
    if not replies:
        return
    moved: list[dict[str, object]] = [
        {"row_no": r.row_no, "turn": r.turn, "cost": r.cost_micro, "tokens": r.tokens} for r in replies
    ]
    move(tx, "reply", moved, "turn = :turn, cost_micro = cost_micro + :cost, tokens = tokens + :tokens")
    _append(tx, "turn", REPLY_COLUMNS, replies)


def record_tools(tx: Connection, records: Sequence[ToolRecord]) -> None:
    """Append tool outcomes."""
    if records:
        _append(tx, "tool_call", TOOL_COLUMNS, records)


def replied_page(tx: Connection, run: Run, *, after: int, limit: int) -> list[tuple[RowAt, str, bytes]]:
    """The next rows whose reply nobody has acted on: (row, stop_reason, content)."""
    query = text(
        f"SELECT {COLUMNS}, t.stop_reason, t.content FROM row r "
        "JOIN turn t ON t.row_no = r.row_no AND t.turn = r.turn "
        "WHERE r.run_no = :run AND r.state = :state AND r.row_no > :after ORDER BY r.row_no LIMIT :limit"
    )
    values = {"run": run.run_no, "state": RowState.REPLIED.value, "after": after, "limit": limit}
    return [(RowAt(*each[:-2]), each[-2], each[-1]) for each in tx.execute(query, values).all()]


def contents(tx: Connection, row_nos: Sequence[int]) -> dict[int, bytes]:
    """The rows themselves: row_no → canonical JSON."""
    return dict(tx.execute(_of(tx, "row_content", "row_no, content"), _rows(row_nos)).tuples().all())


def answers(tx: Connection, row_nos: Sequence[int]) -> dict[int, bytes]:
    """The rows' answers: row_no → JSON."""
    return dict(tx.execute(_of(tx, "answer", "row_no, content"), _rows(row_nos)).tuples().all())


def conversations(tx: Connection, rows: Sequence[RowAt]) -> dict[int, Conversation]:
    """The present conversation of each row that has one."""
    talking = [row.row_no for row in rows if row.turns_here]
    if not talking:
        return {}
    found: dict[int, Conversation] = defaultdict(Conversation)
    here = f"JOIN row r ON r.row_no = t.row_no WHERE t.row_no {one_of(tx, 'rows')} AND t.turn > r.conversation_from"
    said = "AND t.kind = 'answer'"  # a second look is no part of what is said
    query = f"SELECT t.row_no, t.turn, t.stop_reason, t.content FROM turn t {here} {said} ORDER BY t.row_no, t.turn"
    for row_no, *turn in tx.execute(text(query), _rows(talking)).all():
        found[row_no].turns.append(Said(*turn))
    for record in _tool_records(tx, here, talking):
        found[record.row_no].tool_records[record.turn].append(record)
    for row_no, turn, detail in tx.execute(
        text(f"SELECT t.row_no, t.turn, t.detail FROM note t {here} AND t.move = 'correct'"), _rows(talking)
    ):
        found[row_no].corrections[turn] = detail
    return found


def tool_outputs(tx: Connection, rows: Sequence[RowAt]) -> dict[int, list[ToolRecord]]:
    """What the tools said in each row's present conversation."""
    talking = [row.row_no for row in rows if row.tool_calls]
    found: dict[int, list[ToolRecord]] = defaultdict(list)
    if talking:
        here = f"JOIN row r ON r.row_no = t.row_no WHERE t.row_no {one_of(tx, 'rows')} AND t.turn > r.conversation_from"
        for record in _tool_records(tx, here, talking):
            found[record.row_no].append(record)
    return found


def _tool_records(tx: Connection, where: str, row_nos: Sequence[int]) -> list[ToolRecord]:
    names = ", ".join(f"t.{name}" for name in TOOL_COLUMNS)
    query = text(f"SELECT {names} FROM tool_call t {where} ORDER BY t.row_no, t.turn, t.position")
    return [ToolRecord(*each) for each in tx.execute(query, _rows(row_nos)).all()]


def _append(tx: Connection, table: str, names: list[str], records: Sequence[Reply] | Sequence[ToolRecord]) -> None:
    places = ", ".join(f":{name}" for name in names)
    values = [{name: getattr(record, name) for name in names} for record in records]
    tx.execute(text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"), values)


def _of(tx: Connection, table: str, names: str) -> TextClause:
    return text(f"SELECT {names} FROM {table} WHERE row_no {one_of(tx, 'rows')}")


def _rows(row_nos: Sequence[int]) -> dict[str, str]:
    return {"rows": as_list(row_nos)}
