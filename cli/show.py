"""`rowtide show ROW_KEY`: tell the whole history of one row."""

from collections.abc import Mapping
from typing import Any

import orjson

from cli.open_ledger import open_existing_ledger
from cli.output import out
from rowtide.api.api_identity import describe_api
from rowtide.json_bytes import parse_json
from rowtide.lanes.lane_table import LANES
from rowtide.ledger.batches import Batch
from rowtide.ledger.purge_text import PURGED
from rowtide.ledger.read.row_history import RowHistory, row_history
from rowtide.ledger.rows import MADE_UP
from rowtide.report.summary_text import on_call_lines
from rowtide.text_format import shorten_text
from rowtide.tiers.escalation import quotation_from_json
from rowtide.tiers.pricing import MICRO

WIDTH = 400  # characters of a tool's output before it is cut, unless --full


def show(row_key: str, *, run: str | None = None, full: bool = False) -> int:
    """Tell the whole story of one row: its moves, each turn, each tool call and what it said, its cost.

    Parameters
    ----------
    row_key
        The row's key, as it stands in the source.
    run
        A run's id; by default the newest run that has the row.
    full
        Print long texts whole.
    """
    with open_existing_ledger(run, row_key) as ledger, ledger.view() as tx:
        found = row_history(tx, row_key, run)
    out.lines(history_lines(found, width=None if full else WIDTH))
    return 0


def history_lines(found: RowHistory, *, width: int | None) -> list[str]:
    """Return the history of a row, line by line."""
    row = found.row
    tiers: list[str] = orjson.loads(found.run.tiers)
    lines = [
        f"{row['row_key']}  {row['state']}" + (f": {row['reason']}" if row["reason"] else ""),
        f"run {found.run.run_id}, row {row['row_no'] - found.run.first_row_no:,} of {found.run.source}",
        *([f"skills   {', '.join(found.skills)}"] if found.skills else []),
        *([f"answers  made up by {describe_api(found.run.api, is_made_up=True)}"] if found.run.made_up else []),
        *on_call_lines(found.run.owner, found.run.runbook),
        *_purged(found),
        *_start(found),
        "",
        "The row",
        *_fields(found.content, width),
    ]
    lines += _feedback_lines(found, 0, width)
    for turn in found.turns:
        model = tiers[turn["tier"]] + (f" (answered by {turn['model']})" if turn["model"] else "")
        blocks = parse_json(turn["content"])
        model += f", version {turn['version_no']}" if found.run.version_no else ""
        lines += [
            "",
            f"Turn {turn['turn']}, {model}, {_sent(turn)}",
            f"  {_tokens(turn)} → stopped: {turn['stop_reason']}, ${turn['cost_micro'] / MICRO:.6f}",
            *_reply_lines(blocks, width),
            *_tools(found, turn["turn"], width),
            *_unmade(found, turn["turn"], blocks, width),
            *_feedback_lines(found, turn["turn"], width),
        ]
    return lines + _ending(found, width)


def _purged(found: RowHistory) -> list[str]:
    """The line that says when the row's text was purged."""
    when = [note["noted_at"][:19] for note in found.notes if note["move"] == PURGED]
    return [f"purged   {when[-1]}: its text was purged, what it was asked, what it and its tools said"] if when else []


def _start(found: RowHistory) -> list[str]:
    """The lines that say why the row started where it did, if anything decided it."""
    row, tiers = found.row, orjson.loads(found.run.tiers)
    began = tiers[found.turns[0]["tier"] if found.turns else row["tier"] or 0]
    if row["rule"]:
        effort = f", effort {row['effort']}" if row["effort"] else ""
        turns = f", at most {row['turn_limit']} turns a tier" if row["turn_limit"] else ""
        return [f"start    on {began}, by rule {row['rule']} of `start`{effort}{turns}"]
    if found.estimate is None:
        return []
    chances: dict[str, float] = orjson.loads(found.estimate["chances"])
    given = ", ".join(f"{tier} {chance:.0%}" for tier, chance in chances.items())
    return [
        f"start    on {began}, by estimate; chance that it goes no higher: {given}",
        *(f"         {each}" for each in orjson.loads(found.estimate["why"])),
    ]


def _sent(turn: Mapping[Any, Any]) -> str:
    """The lane and time of a turn's request."""
    if LANES[turn["lane"]].in_batches:
        return f"batch {turn['api_id']} of {turn['batch_rows']:,} rows, sent {(turn['posted_at'] or '')[:19]}"
    sent = turn["asked_at"]
    return f"{turn['lane']} call, " + (f"sent {sent[:19]}" if sent else f"sent after {turn['posted_at'][:19]}")


def _tokens(turn: Any) -> str:
    read = turn["input_tokens"] + turn["cache_write_tokens"] + turn["cache_read_tokens"]
    return f"{read:,} tokens read ({turn['cache_read_tokens']:,} from cache), {turn['output_tokens']:,} written"


def _reply_lines(blocks: list[dict[str, Any]], width: int | None) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        if block.get("type") == "text":
            lines += _quoted("  it said: ", block["text"], width)
        elif block.get("type") == "thinking":
            lines.append("  it thought (the API keeps the words)" if not block.get("thinking") else "  it thought")
    return lines


def _tools(found: RowHistory, turn: int, width: int | None) -> list[str]:
    lines: list[str] = []
    for call in found.tool_calls:
        if call["turn"] == turn:
            outcome = "failed" if call["is_error"] else "said"
            lines.append(f"  it called {call['tool']}({_arguments(parse_json(call['arguments']), width)})")
            when = "remembered of an earlier call" if call["remembered"] else f"{call['milliseconds']} ms"
            lines += _quoted(f"    which {outcome} ({when}): ", call["output"], width)
    return lines


def _unmade(found: RowHistory, turn: int, blocks: list[dict[str, Any]], width: int | None) -> list[str]:
    """The calls that a reply asked for and that were not made: one too many, a repetition, or one still waiting."""
    made = {call["call_id"] for call in found.tool_calls if call["turn"] == turn}
    waits = turn == found.row["turn"] and found.row["state"] in ("replied", "held")
    return [
        f"  it asked for {block['name']}({_arguments(block['input'], width)}), "
        + ("which is not made yet" if waits else "which was not made")
        for block in blocks
        if block.get("type") == "tool_use" and block["id"] not in made
    ]


def _arguments(arguments: Mapping[str, Any], width: int | None) -> str:
    return shorten_text(", ".join(f"{name}={value!r}" for name, value in arguments.items()), width)


def _feedback_lines(found: RowHistory, turn: int, width: int | None) -> list[str]:
    words = {
        "bounce": "the API sent it back",
        MADE_UP: "the emulator says of it",
        "correct": "it was told",
        "extend_max_tokens": "its reply was cut, so it was asked again with twice the room",
        "escalate": "it went up the ladder",
        "quote": "it was told there of what came before",
        "hold": "it was held for a person",
        "quarantine": "it was quarantined",
        "edit": "it was mended",
        "override_answer": "a person answered",
        "retry": "it was sent again",
        "discard": "it was given up",
    }
    return [
        f"  {note['noted_at'][:19]} {words.get(note['move'], note['move'])}"
        + (f" by {note['who']}" if note["who"] else "")
        + (": " if note["move"] == MADE_UP else f" ({note['reason']}): ")
        + shorten_text(_detail(note).replace("\n", " "), width)
        for note in found.notes
        if note["turn"] == turn and note["move"] != PURGED
    ]


def _detail(note: Mapping[Any, Any]) -> str:
    if note["move"] != "quote":
        return str(note["detail"])
    tools = [each.tool for each in quotation_from_json(note["detail"]).outputs]
    return "why it escalated" + "".join(f", what {tool} said" for tool in tools)


def _ending(found: RowHistory, width: int | None) -> list[str]:
    lines = [""]
    if found.answer is not None:
        lines += ["The answer", *_fields(found.answer, width)]
    if found.batch is not None:
        lines.append(_where(found.batch))
    if found.load is not None and found.load["done_at"]:
        lines.append(f"Loaded {found.load['done_at'][:19]} in part {found.load['part']}")
    lines.append(f"Cost ${found.row['cost_micro'] / MICRO:.6f} in {found.row['turn']} turns")
    return lines


def _where(batch: Batch) -> str:
    """What is known of the batch that a row waits for."""
    place = f"batch {batch.batch_no} of {batch.rows:,} rows"
    match batch.state:
        case "orphaned":
            return f"Held with {place}: {batch.detail}; ${batch.reserved_micro / MICRO:.4f} at stake; rowtide reconcile"
        case "posting" if batch.unconfirmed_at:
            seen = ", ".join(batch.candidate_ids) or "not seen yet"
            return f"In {place}, whose POST was never answered ({batch.detail}); it is looked for at the API: {seen}"
        case "open":
            return f"In {place}, at the API as {batch.api_id} since {(batch.opened_at or '')[:19]}"
        case _:
            return f"In {place}, which is about to be sent"


def _fields(values: dict[str, Any], width: int | None) -> list[str]:
    longest = max((len(name) for name in values), default=0)
    return [line for name, value in values.items() for line in _quoted(f"  {name:<{longest}}  ", value, width)]


def _quoted(before: str, text: object, width: int | None) -> list[str]:
    """Other people's text of several lines, each marked, so that none is mistaken for one of ours."""
    first, *rest = shorten_text(text, width).split("\n")
    return [before + first, *(f"      │ {line}" for line in rest)]
