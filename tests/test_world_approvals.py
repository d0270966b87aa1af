"""A person allows what was shown, page by page, and nothing else; and what is shown is what will be done, whole."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import NOW, PROMPT, make_rows, make_run
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import BaseModel
from sqlalchemy import text
from test_agents import calls as made
from test_agents import desk_job
from test_holds import REAL_MESSAGES, gated
from test_retry import answer_forms
from test_world_rendering import EXAMPLES, HOSTILE, UNSEEN, assert_is_plain

from cli.main import app
from flows.pump import pump
from rowtide.errors import DecisionOutdated
from rowtide.escaping import Markdown, one_line
from rowtide.gates.approval_forms import CallApproval, Verdict
from rowtide.gates.approvals import GateApproval, GateFailure, WaitingRows
from rowtide.gates.call_approvals import (
    PAGE_CALLS,
    PAGE_CHARACTERS,
    ApprovalRecord,
    PendingCall,
    approval_pages,
    call_hash,
)
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.ledger import Ledger, Run, find_run
from rowtide.report.approval_text import call_approval_text, gate_approval_text
from rowtide.stages.orchestrator import Orchestrator, orchestrated_by

MARKDOWN = MarkdownIt("commonmark").enable("table")
ARGUMENTS = orjson.dumps({"amount": 5})


class Suspended(Exception):  # it is no error
    """The flow has left its process: a form waits."""


class Forms(Orchestrator):
    """Prefect's part in it: a form is shown, the process ends, and who asks again with its key hears what was said."""

    can_suspend = True

    def __init__(self) -> None:
        super().__init__(pauses=[])
        self.shown: list[tuple[str, Markdown]] = []
        self.given: dict[str, BaseModel] = {}

    async def ask(self, form: Any, words: Markdown, *, key: str) -> Any:
        if key in self.given:
            return self.given[key]
        self.shown.append((key, words))
        raise Suspended

    def answer(self, **decision: str) -> None:
        """What a person says in the form that was shown last."""
        key, _ = self.shown[-1]
        self.given[key] = (CallApproval if key.startswith("callapproval") else Verdict).model_validate(decision)

    def go_on(self, job: Path, run_id: str) -> dict[str, Any] | None:
        """A process that runs the flow until a form is shown. Returns the summary of a run that is over."""
        with orchestrated_by(self):
            try:
                return asyncio.run(pump(str(job), run_id=run_id))
            except Suspended:
                return None


def command(*words: str) -> Any:
    return app([*words], result_action="return_value")


def texts(document: str) -> list[str]:
    """What stands after each name in bold. Nothing of a form stands in a table: Prefect hides what is too wide."""
    found: list[str] = []
    for token in MARKDOWN.parse(document):
        assert token.type in ("paragraph_open", "inline", "paragraph_close")
        parts: list[str] = []
        is_name = False
        for leaf in token.children or []:
            is_name = leaf.type == "strong_open" or (is_name and leaf.type != "strong_close")
            if leaf.type == "strong_close":
                parts.append("")
            elif parts and not is_name:
                parts[-1] += leaf.content
        found += parts
    return [each.strip(" ") for each in found if each.strip(" ")]


@pytest.fixture
def named(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger that the environment names: one in SQLite, then one in PostgreSQL."""
    monkeypatch.setenv("ROWTIDE_LEDGER", address)
    return address


@pytest.fixture
def waiting(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[Ledger, Run, Callable[..., None]]]:
    """A run in the home of the commands, and what puts calls of it before a person."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    ledger = Ledger(named)
    run = make_run(ledger)
    numbers = iter(make_rows(ledger, run, 600))

    def ask(count: int, tool: str = "shop.refund", arguments: bytes = ARGUMENTS, key: str | None = None) -> None:
        with ledger.page() as tx:
            rows = [next(numbers) for _ in range(count)]
            ledger_tool_calls.request_approval(tx, [((row, 1, 0), tool, arguments) for row in rows], now=NOW)
            for row in rows:
                held = "UPDATE row SET state = 'held', reason = 'approval', turn = 1, row_key = coalesce(:key, row_key)"
                tx.execute(text(f"{held} WHERE row_no = :row"), {"row": row, "key": key})

    yield ledger, run, ask
    ledger.close()


def ask_ledger(query: str, **values: object) -> list[Any]:
    """The rows of a query on the ledger that the environment names; none, where it only writes."""
    with closing(Ledger(os.environ["ROWTIDE_LEDGER"])) as ledger, ledger.page() as tx:
        found = tx.execute(text(query), values)
        return list(found.all()) if found.returns_rows else []


def states() -> Counter[str]:
    return Counter(state for (state,) in ask_ledger("SELECT state FROM call_approval"))


def pending(ledger: Ledger, run: Run) -> list[PendingCall]:
    with ledger.view() as tx:
        return ledger_tool_calls.pending_calls(tx, run)


def test_five_hundred_calls_are_ten_pages_and_each_call_stands_on_one(
    waiting: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, run, ask = waiting
    ask(500)
    assert command("approve", "run-1") == 0
    said = capsys.readouterr().out
    assert "page 3 of 10: 50 of 500 calls that wait" in said
    for n in range(1, 501):
        assert f"key-{n}: shop.refund(" in said
    pages = approval_pages(pending(ledger, run))
    assert [(page.number, page.pages, len(page.calls)) for page in pages] == [(n, 10, 50) for n in range(1, 11)]
    form = call_approval_text("run-1", pages[2])
    assert "Page 3 of 10" in form
    assert texts(form)[::3] == [f"key-{n}" for n in range(101, 151)]
    command("approve", "run-1", "--all")
    assert states() == {"allowed": 500}


def test_a_call_that_came_after_the_list_is_not_allowed_by_it(
    waiting: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, ask = waiting
    ask(3)
    command("approve", "run-1")
    ask(2, arguments=orjson.dumps({"amount": 500_000}))
    capsys.readouterr()
    command("approve", "run-1", "--all")
    said = capsys.readouterr()
    assert "allowed 3 calls" in said.out
    assert "2 calls came or changed after the others were shown" in said.err
    assert states() == {"allowed": 3, "asked": 2}


def test_a_call_that_changed_after_it_was_listed_is_not_allowed(waiting: Any, tmp_path: Path) -> None:
    ledger, _, ask = waiting
    ask(2)
    for change in ("arguments = :other", "tool = 'shop.pay_out'"):
        command("approve", "run-1", "--json")
        with ledger.page() as tx:
            tx.execute(text(f"UPDATE call_approval SET {change}"), {"other": b"{}"} if ":" in change else {})
        for words in (["--all"], ["key-1", "key-2"], ["--all", "--deny"]):
            with pytest.raises(DecisionOutdated, match="2 calls came or changed"):
                command("approve", "run-1", *words)
        assert states() == {"asked": 2}
    command("approve", "run-1")
    command("approve", "run-1", "--all", "--deny")
    assert states() == {"denied": 2}


@pytest.mark.parametrize("change", ["tool", "arguments", "row_key", "gone"])
def test_a_decision_names_calls_by_hash_and_is_refused_whole_where_one_has_changed(
    waiting: Any, tmp_path: Path, change: str
) -> None:
    ledger, run, ask = waiting
    ask(4)
    shown = pending(ledger, run)
    with ledger.page() as tx:
        changed = {
            "tool": "UPDATE call_approval SET tool = 'shop.pay_out' WHERE row_no = :row",
            "arguments": "UPDATE call_approval SET arguments = :other WHERE row_no = :row",
            "row_key": "UPDATE row SET row_key = 'another' WHERE row_no = :row",
            "gone": "UPDATE call_approval SET state = 'denied' WHERE row_no = :row",
        }[change]
        values = {"row": shown[1].approval.row_no, "other": b"{}"}
        tx.execute(text(changed), {name: value for name, value in values.items() if f":{name}" in changed})
    refused = pytest.raises(DecisionOutdated, match="1 of 4 calls are not as they were shown, so nothing is decided")
    with refused, ledger.page() as tx:
        ledger_tool_calls.decide_calls(tx, run, shown, "allowed", who="Ada", why=None, now=NOW)
    assert states()["allowed"] == 0
    with ledger.page() as tx:
        now = pending(ledger, run)
        ledger_tool_calls.decide_calls(tx, run, now, "allowed", who="Ada", why=None, now=NOW + timedelta(hours=1))
    decided = ask_ledger("SELECT decided_hash FROM call_approval WHERE state = 'allowed'")
    assert {each for (each,) in decided} == {each.hash for each in now}


def test_a_hash_is_of_server_tool_arguments_and_row() -> None:
    about = [
        ("desk.open", b"{}", "a"),
        ("desk.opens", b"{}", "a"),
        ("desk.open", b"{ }", "a"),
        ("desk.open", b"{}", "b"),
    ]
    about += [("desk.open{}", b"", "a"), ("desk.open", b"{}a", "")]
    assert len({call_hash(*each) for each in about}) == len(about)


@pytest.mark.properties
@EXAMPLES
@given(st.lists(st.integers(0, 2 * PAGE_CHARACTERS), max_size=300))
def test_pages_hold_every_call_once_in_order_and_are_short_enough_to_be_read(lengths: list[int]) -> None:
    calls = [
        PendingCall(f"k{n}", "t", b"x" * length, None, ApprovalRecord(n, 0, 0, "t", b"", "asked", None))
        for n, length in enumerate(lengths)
    ]
    pages = approval_pages(calls)
    assert [call for page in pages for call in page.calls] == calls
    for page in pages:
        assert 1 <= len(page.calls) <= PAGE_CALLS
        size = sum(len(call.arguments) + len(call.row_key) for call in page.calls)
        assert size <= PAGE_CHARACTERS or len(page.calls) == 1
    assert [(page.number, page.pages) for page in pages] == [(n, len(pages)) for n in range(1, len(pages) + 1)]


def test_a_form_shows_texts_of_others_as_texts_and_forges_no_cell(waiting: Any) -> None:
    ledger, run, ask = waiting
    for words in HOSTILE:
        ask(1, tool=words, arguments=orjson.dumps({words: words}), key=words)
    (page,) = approval_pages(pending(ledger, run))
    form = call_approval_text(run.run_id, page)
    assert_is_plain(form)
    assert not UNSEEN.search(form)
    shown = texts(form)
    assert len(shown) == 3 * len(HOSTILE)
    assert shown[::3] == [one_line(words).strip(" ") for words in HOSTILE]
    for words, call in zip(HOSTILE, shown[1::3], strict=True):
        assert call == one_line(f"{words}({orjson.dumps({words: words}).decode()})").strip(" ")


def test_calls_are_shown_whole_however_long(waiting: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, run, ask = waiting
    long = orjson.dumps({"note": "x" * 9000, "amount": 99})
    ask(1, arguments=long)
    command("approve", run.run_id)
    assert long.decode() in capsys.readouterr().out.replace("\n", "")
    (page,) = approval_pages(pending(ledger, run))
    assert texts(call_approval_text(run.run_id, page))[1] == f"shop.refund({long.decode()})"


def rows_of(count: int) -> str:
    return "id,order,message\n" + "".join(f"m{n},A-{n % 3},the parcel {n} is late\n" for n in range(count))


def test_forms_of_a_flow_decide_page_by_page(api: Any, named: str, tmp_path: Path) -> None:
    """120 calls: three forms, each answered in a life of its own; what the second denies is not done."""
    job, forms = desk_job(tmp_path / "job", rows=rows_of(120), ask=["open_ticket"]), Forms()
    for page, decision in enumerate(("allow", "deny", "allow"), 1):
        assert forms.go_on(job, "r1") is None
        assert f"Page {page} of 3" in forms.shown[-1][1]
        assert (made(tmp_path / "job")["open_ticket"], states()) == (0, {"asked": 120})
        forms.answer(decision=decision, who="Ada")
    found = forms.go_on(job, "r1")
    assert found is not None
    assert (found["loaded"], made(tmp_path / "job")["open_ticket"]) == (120, 70)
    shown = [key for _, words in forms.shown for key in texts(words)[::3]]
    assert sorted(shown) == sorted(f"m{n}" for n in range(120))


def test_a_flow_run_of_prefects_suspends_for_each_page_and_for_a_page_that_has_changed(
    prefect_server: str, api: Any, postgres_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages, each in a process of its own, on PostgreSQL: a call is changed while its page is on the screen."""
    monkeypatch.setenv("ROWTIDE_LEDGER", postgres_ledger)
    job, shown = desk_job(tmp_path / "job", rows=rows_of(PAGE_CALLS + 2), ask=["open_ticket"]), list[str]()

    async def say(form: str) -> dict[str, str]:
        shown.append(form)
        assert (made(tmp_path / "job")["open_ticket"], states()) == (0, {"asked": PAGE_CALLS + 2})
        if len(shown) == 2:
            last = "WHERE row_no = (SELECT max(row_no) FROM call_approval)"
            ask_ledger(f"UPDATE call_approval SET arguments = :all {last}", all=b'{"message":"pay all"}')
        return {"decision": "deny" if len(shown) == 1 else "allow", "who": "Ada"}

    assert asyncio.run(answer_forms(job, say)) == ["Suspended"] * 3 + ["Completed"]
    assert [f"Page {n} of 2" in form for n, form in zip((1, 2, 2), shown, strict=True)] == [True] * 3
    assert ["pay all" in form for form in shown] == [False, False, True]
    assert "1 of these calls is new or changed since this page was shown" in shown[2]
    assert states() == {"denied": PAGE_CALLS, "done": 2}
    assert made(tmp_path / "job")["open_ticket"] == 2


def test_a_form_answered_before_the_calls_changed_is_refused_in_words(api: Any, named: str, tmp_path: Path) -> None:
    job, forms = desk_job(tmp_path / "job", ask=["open_ticket"]), Forms()
    assert forms.go_on(job, "r1") is None
    forms.answer(decision="allow")
    first = "WHERE row_no = (SELECT min(row_no) FROM call_approval)"
    ask_ledger(f"UPDATE call_approval SET arguments = :all {first}", all=b'{"message":"pay all"}')
    assert forms.go_on(job, "r1") is None
    assert made(tmp_path / "job")["open_ticket"] == 0
    words = forms.shown[-1][1]
    assert "1 of these calls is new or changed since this page was shown" in words
    assert "What was decided on it then was not carried out" in words
    assert 'desk.open_ticket({"message":"pay all"})' in texts(words)
    forms.answer(decision="deny")
    found = forms.go_on(job, "r1")
    assert found is not None
    assert (found["held"], made(tmp_path / "job")["open_ticket"]) == (0, 0)


def test_a_call_asked_about_twice_is_not_allowed_by_the_first_answer(api: Any, named: str, tmp_path: Path) -> None:
    """One that died on the wire is put before a person again, in the same words: the old form says nothing of it."""
    job, forms = desk_job(tmp_path / "job", ask=["open_ticket"]), Forms()
    assert forms.go_on(job, "r1") is None
    keys = [forms.shown[-1][0]]
    for _ in range(2):
        ask_ledger("UPDATE call_approval SET decided_at = :now", now=f"{len(keys)}")
        assert forms.go_on(job, "r1") is None
        keys.append(forms.shown[-1][0])
    assert len(set(keys)) == 3


def failure(words: str, rows: int = 12) -> GateFailure:
    return GateFailure("answers", "expect", words, rows, ["m1"])


def test_a_gates_form_shows_the_number_however_long_the_expectation_is() -> None:
    words = f"price: expect_column_values_to_be_in_set(value_set={'x' * 2000}), 1,234 of 5,678 rows failed"
    hold = GateApproval(1, "answers", "asked", [failure(words, 1234)], 5678, "")
    form = gate_approval_text("r1", [hold], WaitingRows(4444, 0))
    said = texts(form)[2]
    assert "1,234 of 5,678 rows failed: 1,234 rows, such as m1" in said
    assert said.startswith("price: expect")
    assert "4,444 rows are written" in form


def test_what_a_gate_held_when_it_was_shown_is_what_is_approved(
    waiting: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, run, _ = waiting
    with ledger.page() as tx:
        ledger_gate_approvals.record_gate_judgement(tx, run, "answers", [failure("x")], rows=30, now=NOW)
    command("approve", "run-1")
    with ledger.page() as tx:
        ledger_gate_approvals.record_gate_judgement(tx, run, "answers", [failure("x", 500)], rows=5000, now=NOW)
    for words in (["approve", "run-1", "--gates"], ["reject", "run-1"]):
        with pytest.raises(DecisionOutdated, match="not what was shown, so nothing is decided"):
            command(*words)
    assert ask_ledger("SELECT state FROM gate_approval") == [("asked",)]
    command("approve", "run-1")
    assert "500 rows" in capsys.readouterr().out
    command("approve", "run-1", "--gates")
    assert ask_ledger("SELECT state FROM gate_approval") == [("approved",)]


def test_a_form_about_a_gate_decides_about_the_figures_it_shows(api: Any, named: str, tmp_path: Path) -> None:
    blind = PROMPT.replace("{{ message }}", "{{ id }}")
    job, forms = gated(tmp_path / "job", "answers", REAL_MESSAGES, rows=6, prompt=blind), Forms()
    assert forms.go_on(job, "r1") is None
    before = forms.shown[-1][0]
    assert "6 rows failed" in forms.shown[-1][1]
    forms.answer(decision="approve")
    with closing(Ledger(named)) as ledger, ledger.page() as tx:
        tx.execute(text("UPDATE gate_approval SET shown_hash = 'other figures', rows = 5"))
        (hold,) = ledger_gate_approvals.pending_gate_approvals(tx, find_run(tx, "r1"))
    assert "The figures have changed since they were shown" in gate_approval_text("r1", [hold], WaitingRows(0, 0))
    found = forms.go_on(job, "r1")
    assert found is not None
    assert found["loaded"] == 6
    assert before == forms.shown[-1][0]
