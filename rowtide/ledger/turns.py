"""The conversations of rows: model turns, tool results, corrections and quotations.

Appended, never rewritten. Any process can read a row's conversation back from here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from rowtide.agent.agent import RowAt
from rowtide.agent.states import MOVES, RowState, state_after, states_before
from rowtide.ledger.ledger import Run, fetch_all, insert_rows, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.rows import COLUMNS, check_moved
from rowtide.tiers.escalation import Quotation, quotation_from_json, quotation_to_json


class Reply(NamedTuple):
    """One model reply to be filed. Token counts; costs in micro-dollars."""

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
    model: str | None = None
    """Its name in the catalogue, if not the tier's own."""
    version_no: int = 0
    """The version it was asked under."""
    asked_at: str | None = None
    """When a live call was made; None for a turn in a batch."""


class ToolRecord(NamedTuple):
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


class ToolResult(NamedTuple):
    """A tool's result as the model reads it."""

    call_id: str
    tool: str
    output: str
    is_error: int


@dataclass(slots=True)
class PastTurn:
    """One turn of a conversation, with the tool results or the correction that the model got after it."""

    stop_reason: str
    content: bytes
    model: str | None = None
    tool_results: list[ToolResult] = field(default_factory=list)
    correction: str = ""


# The turns in table `t` that belong to the rows' present conversations.
HERE = "JOIN row r ON r.row_no = t.row_no WHERE t.row_no {these} AND t.turn > r.conversation_from"


def file_replies(tx: Connection, replies: Sequence[Reply], *, then: str | None = None) -> None:
    """Append replies and move their rows on, all or none. `then` names a second move to make at once."""
    if not replies:
        return
    row_nos = [reply.row_no for reply in replies]
    after = MOVES[state_after("reply"), then] if then else state_after("reply")
    insert_rows(
        tx, "turn", Reply._fields, replies, "ON CONFLICT DO NOTHING"
    )  # the move below raises if a turn exists: its row has moved on
    tokens = "t.input_tokens + t.cache_write_tokens + t.cache_read_tokens + t.output_tokens"
    legal = ", ".join(f"'{state.value}'" for state in states_before("reply"))
    moved = tx.execute(
        text(
            f"UPDATE row SET state = '{after.value}', turn = t.turn, "
            f"cost_micro = row.cost_micro + t.cost_micro, tokens = row.tokens + {tokens} FROM turn t "
            f"WHERE t.row_no = row.row_no AND t.turn = row.turn + 1 AND row.row_no {is_one_of(tx, 'rows')} "
            f"AND row.state IN ({legal})"
        ),
        _rows(row_nos),
    )
    check_moved("reply", moved.rowcount, row_nos)


def has_model_answered(tx: Connection, run: Run, tier: int, prefix_no: int) -> bool:
    """Return whether a model has replied, on this tier, to any row with this prefix."""
    query = text(
        "SELECT 1 FROM turn t JOIN row r ON r.row_no = t.row_no WHERE t.row_no BETWEEN :first AND :last "
        "AND t.tier = :tier AND r.prefix_no = :prefix LIMIT 1"
    )
    values = {"first": run.first_row_no, "last": run.last_row_no, "tier": tier, "prefix": prefix_no}
    return tx.execute(query, values).first() is not None


def record_tool_calls(tx: Connection, records: Sequence[ToolRecord], *, when_there: str = "") -> None:
    """Append tool outcomes."""
    insert_rows(tx, "tool_call", ToolRecord._fields, records, when_there)


def replied_page(tx: Connection, run: Run, *, after: int, last: int, limit: int) -> list[tuple[RowAt, str, bytes]]:
    """Return the next rows, up to `last`, whose reply is not followed up: (row, stop_reason, content)."""
    query = (
        f"SELECT {COLUMNS}, t.stop_reason, t.content FROM row r "
        "JOIN turn t ON t.row_no = r.row_no AND t.turn = r.turn "
        "WHERE r.run_no = :run AND r.state = :state AND r.row_no > :after AND r.row_no <= :last "
        "ORDER BY r.row_no LIMIT :limit"
    )
    values = {"run": run.run_no, "state": RowState.REPLIED.value, "after": after, "last": last, "limit": limit}
    return [(RowAt._make(each[:-2]), each[-2], each[-1]) for each in fetch_all(tx, query, values)]


def row_contents(tx: Connection, row_nos: Sequence[int]) -> dict[int, bytes]:
    """Return the rows' contents: row_no → canonical JSON."""
    return dict(fetch_all(tx, _of(tx, "row_content", "row_no, content"), _rows(row_nos)))


def row_answers(tx: Connection, row_nos: Sequence[int]) -> dict[int, bytes]:
    """Return the rows' answers: row_no → JSON."""
    return dict(fetch_all(tx, _of(tx, "answer", "row_no, content"), _rows(row_nos)))


def conversations(tx: Connection, rows: Sequence[RowAt]) -> dict[int, list[PastTurn]]:
    """Return the present conversation of each row that has one, oldest turn first."""
    talking = _rows([row.row_no for row in rows if row.turns_here])
    here = HERE.format(these=is_one_of(tx, "rows"))
    found: dict[int, list[PastTurn]] = defaultdict(list)
    at: dict[tuple[int, int], PastTurn] = {}
    ANSWER_TURNS = "t.kind = 'answer'"  # self-checks are not part of the conversation
    # Sorted here: the database would build a sorting tree of all the text.
    query = f"SELECT t.row_no, t.turn, t.stop_reason, t.content, t.model FROM turn t {here} AND {ANSWER_TURNS}"
    for row_no, turn, *words in sorted(fetch_all(tx, query, talking)):
        at[row_no, turn] = past_turn = PastTurn(*words)
        found[row_no].append(past_turn)
    names = ", ".join(f"t.{name}" for name in ToolResult._fields)
    query = f"SELECT t.row_no, t.turn, t.position, {names} FROM tool_call t {here}"
    for each in sorted(fetch_all(tx, query, talking)):
        if past_turn := at.get(each[:2]):
            past_turn.tool_results.append(ToolResult._make(each[3:]))
    query = f"SELECT t.row_no, t.turn, t.detail FROM note t {here} AND t.move = 'correct'"
    for row_no, turn, detail in fetch_all(tx, query, talking):
        if past_turn := at.get((row_no, turn)):
            past_turn.correction = detail
    return found


def tool_calls_of_conversations(tx: Connection, rows: Sequence[RowAt]) -> dict[int, list[ToolRecord]]:
    """Return the tool calls of each row's present conversation."""
    here = HERE.format(these=is_one_of(tx, "rows"))
    names = ", ".join(f"t.{name}" for name in ToolRecord._fields)
    query = f"SELECT {names} FROM tool_call t {here}"
    found: dict[int, list[ToolRecord]] = defaultdict(list)
    for each in sorted(fetch_all(tx, query, _rows([row.row_no for row in rows if row.tool_calls]))):
        found[each[0]].append(ToolRecord._make(each))
    return found


def conversation_outputs(tx: Connection, row_nos: Sequence[int]) -> dict[int, list[tuple[str, str, str]]]:
    """Return successful tool outputs in the rows' present conversations: (tool, arguments, output)."""
    here = HERE.format(these=is_one_of(tx, "rows"))
    query = f"SELECT t.row_no, t.tool, t.arguments, t.output FROM tool_call t {here} AND t.is_error = 0 ORDER BY 1, "
    found: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for row_no, tool, arguments, output in tx.execute(text(query + "t.turn, t.position"), _rows(row_nos)):
        found[row_no].append((tool, arguments.decode(), output))
    return found


def write_quotations(tx: Connection, quoted: Mapping[int, Quotation], *, now: datetime) -> None:
    """Store the quotations that rows' fresh conversations begin with."""
    query = text(
        "INSERT INTO note (row_no, turn, move, reason, detail, noted_at) "
        "SELECT row_no, conversation_from, 'quote', 'quoted', :kept, :now FROM row WHERE row_no = :row"
    )
    if quoted:
        values = [
            {"row": row_no, "kept": quotation_to_json(each), "now": to_timestamp(now)}
            for row_no, each in quoted.items()
        ]
        tx.execute(query, values)


def quotations(tx: Connection, rows: Sequence[RowAt]) -> dict[int, Quotation]:
    """Return the quotation at the beginning of each row's present conversation, where there is one."""
    escalated = [row.row_no for row in rows if row.conversation_from]
    if not escalated:
        return {}
    query = text(
        f"SELECT t.row_no, t.move, t.detail FROM note t JOIN row r ON r.row_no = t.row_no "
        f"WHERE t.row_no {is_one_of(tx, 'rows')} AND t.turn = r.conversation_from "
        "AND t.move IN ('quote', 'retry', 'edit', 'amend') ORDER BY t.note_no"
    )
    # A row that was sent again, or restarted under another version, begins without a quotation.
    last = {row_no: (move, kept) for row_no, move, kept in tx.execute(query, _rows(escalated))}
    return {row_no: quotation_from_json(kept) for row_no, (move, kept) in last.items() if move == "quote"}


def _of(tx: Connection, table: str, names: str) -> str:
    return f"SELECT {names} FROM {table} WHERE row_no {is_one_of(tx, 'rows')}"


def _rows(row_nos: Sequence[int]) -> dict[str, str]:
    return {"rows": list_parameter(row_nos)}
