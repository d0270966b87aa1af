"""The agent is a pure function of where its row is and what the model said."""

from pathlib import Path
from typing import Any

import pytest

from rowtide.agent.agent import (
    Accept,
    CallTools,
    Correct,
    Escalate,
    ExtendMaxTokens,
    GiveUp,
    RowAt,
    Verdict,
    max_reply_tokens,
    next_move,
)
from rowtide.job.job_spec import JobSpec

JOB = JobSpec.model_validate(
    {
        "source": {"path": "rows.csv"},
        "key": "id",
        "tiers": ["haiku", "sonnet"],
        "sink": {"path": "out"},
        "limits": {"turns": 4, "tool_calls": 3},
        "checks": {"corrections": 1},
    }
)


def at(**values: int) -> RowAt:
    given: dict[str, Any] = {
        "row_no": 1,
        "row_key": "k",
        "tier": 0,
        "turn": 1,
        "conversation_from": 0,
        "tool_calls": 0,
        "corrections": 0,
        "max_tokens_doublings": 0,
        "bounces": 0,
    }
    return RowAt(**{**given, **values})


def text(words: str) -> list[dict[str, Any]]:
    return [{"type": "thinking", "thinking": ""}, {"type": "text", "text": words}]


def asks(*ids: str) -> list[dict[str, Any]]:
    return [{"type": "tool_use", "id": each, "name": "s__t", "input": {"a": 1}} for each in ids]


def fine(words: str) -> Verdict:
    return Verdict(words.encode(), [])


def wrong(_: str) -> Verdict:
    return Verdict(b"", ["country: 'XX' is not a country"])


def test_unanswered_tool_calls_are_answered_all_of_them() -> None:
    move = next_move(JOB, at(), "tool_use", asks("1", "2"), fine)
    assert isinstance(move, CallTools)
    assert [call.call_id for call in move.calls] == ["1", "2"]


def test_a_pause_goes_on_without_a_word() -> None:
    assert next_move(JOB, at(), "pause_turn", text("hm"), fine) == CallTools([])


def test_an_answer_that_passes_is_an_answer_whatever_was_thought_before() -> None:
    assert next_move(JOB, at(), "end_turn", text("{}"), fine) == Accept(b"{}")


def test_a_wrong_answer_is_told_what_was_wrong() -> None:
    move = next_move(JOB, at(), "end_turn", text("{}"), wrong)
    assert isinstance(move, Correct)
    assert "'XX' is not a country" in move.feedback


def test_a_row_corrected_often_enough_goes_up_the_ladder_and_then_to_quarantine() -> None:
    assert isinstance(next_move(JOB, at(corrections=1), "end_turn", text("{}"), wrong), Escalate)
    assert isinstance(next_move(JOB, at(corrections=1, tier=1), "end_turn", text("{}"), wrong), GiveUp)


def test_a_cut_reply_is_asked_for_once_more_with_twice_the_room_and_its_cut_tool_call_never_runs() -> None:
    assert isinstance(next_move(JOB, at(), "max_tokens", asks("1"), fine), ExtendMaxTokens)
    assert max_reply_tokens(JOB, at(max_tokens_doublings=1)) == 2 * max_reply_tokens(JOB, at())
    again = next_move(JOB, at(max_tokens_doublings=1), "max_tokens", asks("1"), fine)
    assert isinstance(again, Escalate)
    assert again.reason == "truncated"


def test_a_reply_that_waits_for_a_tool_nobody_knows_goes_one_tier_up() -> None:
    move = next_move(JOB, at(), "tool_use", [{"type": "hologram_use"}], fine)
    assert isinstance(move, Escalate)
    assert (move.reason, "hologram_use" in move.detail) == ("unknown_block", True)


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("refusal", "refused"),
        ("model_context_window_exceeded", "context_full"),
        ("telepathy", "unknown_stop"),
    ],
)
def test_every_other_end_has_its_own_reason(stop_reason: str, reason: str) -> None:
    move = next_move(JOB, at(), stop_reason, text("{"), fine)
    assert isinstance(move, Escalate)
    assert move.reason == reason


def test_turns_are_counted_from_where_the_conversation_began() -> None:
    assert isinstance(next_move(JOB, at(turn=4), "tool_use", asks("1"), fine), Escalate)
    assert isinstance(next_move(JOB, at(turn=6, conversation_from=4), "tool_use", asks("1"), fine), CallTools)


def test_a_row_that_asks_for_too_many_tool_calls_is_stopped_before_they_are_made() -> None:
    move = next_move(JOB, at(tool_calls=2), "tool_use", asks("1", "2"), fine)
    assert isinstance(move, Escalate)
    assert move.reason == "tool_call_limit"


def test_a_cut_reply_is_never_taken_for_its_tool_calls() -> None:
    assert not isinstance(next_move(JOB, at(), "max_tokens", asks("1"), fine), CallTools)


def test_the_decision_module_does_no_effects() -> None:
    source = (Path(__file__).parent.parent / "rowtide" / "agent" / "agent.py").read_text()
    assert not any(word in source for word in ("open(", "sqlalchemy", "asyncio", "datetime"))
