"""Reads a row's conversation by its number: what each model replied, which tools it called, and what it was told."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, text

from rowtide.json_bytes import parse_json
from rowtide.report.transcript import TranscriptLine

MOVES = {
    "correct": "told what was wrong",
    "escalate": "sent one tier up",
    "quarantine": "quarantined",
    "extend_max_tokens": "asked again with more room",
}


def row_transcript(tx: Connection, row_no: int) -> list[TranscriptLine]:
    """Return the row's conversation, oldest first; empty for a row that was purged or does not exist."""
    found = tx.execute(
        text("SELECT u.tiers FROM row r JOIN run u ON u.run_no = r.run_no WHERE r.row_no = :row"), {"row": row_no}
    ).scalar()
    if found is None:
        return []
    tiers: list[str] = orjson.loads(found)

    def of_row(query: str) -> list[Mapping[Any, Any]]:
        return list(tx.execute(text(query), {"row": row_no}).mappings())

    calls = of_row("SELECT turn, tool, output, is_error FROM tool_call WHERE row_no = :row ORDER BY turn, position")
    notes = of_row("SELECT turn, move, reason, detail FROM note WHERE row_no = :row ORDER BY note_no")
    lines: list[TranscriptLine] = []
    for turn in of_row("SELECT turn, tier, kind, model, content FROM turn WHERE row_no = :row ORDER BY turn"):
        speaker = tiers[turn["tier"]] if turn["tier"] < len(tiers) else "model"
        lines += _reply(parse_json(turn["content"]), speaker)
        lines += [_call(call) for call in calls if call["turn"] == turn["turn"]]
        lines += [_note(note) for note in notes if note["turn"] == turn["turn"] and note["move"] in MOVES]
    return lines


def _reply(blocks: list[dict[str, Any]], speaker: str) -> Iterator[TranscriptLine]:
    for block in blocks:
        if block.get("type") == "text":
            yield TranscriptLine(speaker, block["text"])
        elif block.get("type") == "tool_use":
            yield TranscriptLine(speaker, f"calls {block['name']}({orjson.dumps(block['input']).decode()})")


def _call(call: Mapping[Any, Any]) -> TranscriptLine:
    return TranscriptLine(call["tool"], call["output"], is_fault=bool(call["is_error"]))


def _note(note: Mapping[Any, Any]) -> TranscriptLine:
    return TranscriptLine("Rowtide", f"{MOVES[note['move']]}: {note['detail'] or note['reason']}", is_fault=True)
