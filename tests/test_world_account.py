"""A fault of the account or of the job is no row's fault: the run stops, and no row is the worse for it."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from conftest import ask_ledger, make_job, run
from run_summaries import summarize

from emulator.server import start
from rowtide.agent.account_refusals import REFUSALS, account_refusal_of
from rowtide.agent.outcome_policies import Do, policy_of_error
from rowtide.agent.requests import conversation_messages
from rowtide.agent.shared_fault import FailedRow, error_signature, rows_failed_by_shared_fault
from rowtide.errors import StoppedByWorld
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.ledger.turns import PastTurn, ToolResult
from rowtide.tiers.catalogue import load_catalogue

# As people were shown them; each has its source in rowtide/agent/account_refusals.py.
SAID = {
    "limits": "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    "workspace": "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01.",
    "disabled": "This organization has been disabled.",
    "credit": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
    "identity": "Identity verification is required to continue.",
    "context": "The long context beta is not yet available for this subscription.",
    "retention": "data retention mode 'default' is not available for this model",
    "beta": "Unexpected value(s) `mcp-client-2025-11-20` for the `anthropic-beta` header. Please consult our docs.",
    "feature": "Structured outputs are not enabled for your organization.",
    "on hold": "Request refused (organization_on_hold)",
    "threshold": "Your organization crossed its monthly API usage threshold (enforced_spend_limit_reached)",
    "key": "invalid x-api-key",
}
UNFORESEEN = "The flux capacitor of request req_011CZLrUf{n} is misaligned."


@pytest.fixture(scope="module")
def emulator() -> Generator[Any]:
    with start(batch_seconds=(0.0, 0.05)) as server:
        yield server


@pytest.fixture
def api(emulator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The emulator, and a ROWTIDE_HOME of this test's own. There is no Prefect."""
    for name, value in {
        "ROWTIDE_HOME": str(tmp_path / "home"),
        "ROWTIDE_LEDGER_FROM_ENVIRONMENT": "1",
        "ROWTIDE_CONFIRM_WITHIN_SECONDS": "0.2",
        "ROWTIDE_PAGE": "0",
        "ANTHROPIC_API_KEY": f"key-{tmp_path.name}",
        "ANTHROPIC_BASE_URL": emulator.url,
    }.items():
        monkeypatch.setenv(name, value)
    yield emulator
    emulator.world.faults.clear()


Go = Callable[..., dict[str, Any]]


@pytest.fixture
def go(api: Any, tmp_path: Path) -> Go:
    """Take a run as far as it goes. Returns its summary, stopped or not."""

    def go(job: Path, lane: str = "batch") -> dict[str, Any]:
        try:
            return run(job, run_id="run", lane=lane)
        except StoppedByWorld as stopped:
            ledger = Ledger(ledger_url(None, tmp_path / "home"))
            with ledger.view() as tx:
                record = ledgers.find_run(tx, "run")
                found = summarize(tx, record, now=ledgers.from_timestamp(record.started_at))
            ledger.close()
            return {**found, "words": str(stopped)}

    return go


def of_all(message: str, status: int = 400) -> dict[str, Any]:
    return {"rows": {}, "result": {"errored": "invalid_request_error", "message": message}}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_what_the_api_says_of_an_account_is_known_and_says_what_to_do(said: str) -> None:
    assert (found := account_refusal_of(said)) is not None
    assert found.do
    assert found.source
    assert policy_of_error("invalid_request_error", said).do is Do.STOP_RUN
    assert len({each.regex for each in REFUSALS}) == len(REFUSALS)


@pytest.mark.parametrize(
    "said",
    [
        "messages.0.content.0.text: Field required",
        "prompt is too long: 215000 tokens > 200000 maximum",
        "messages: text content blocks must be non-empty",
        "This row's organization has a limit of access to the account",
        "max_tokens: 9999999 > 64000, which is the maximum allowed number of output tokens",
    ],
)
def test_what_one_row_did_is_not_taken_for_the_account(said: str) -> None:
    assert account_refusal_of(said) is None


@pytest.mark.parametrize("lane", ["batch", "live", "stream"])
@pytest.mark.parametrize("said", ["limits", "disabled", "retention"])
def test_an_account_that_is_refused_stops_the_run_and_every_row_is_asked_again(
    api: Any, go: Go, tmp_path: Path, lane: str, said: str
) -> None:
    job = make_job(tmp_path / "job", rows=30)
    message = SAID[said]
    api.world.faults.load([of_all(message), {"call": "messages", "do": {"status": 400, "message": message}}])
    found = go(job, lane)
    assert (found["stopped"], found["waiting"], found["quarantined"], found["bounces"]) == ("refused", 30, 0, {})
    assert message in found["words"]
    assert "rowtide resume run" in found["words"]
    api.world.faults.clear()
    found = go(job, lane)
    assert (found["stopped"], found["loaded"], found["quarantined"]) == (None, 30, 0)


@pytest.mark.parametrize(
    "do",
    [
        {"status": 400, "message": SAID["disabled"]},
        {"status": 402},
        {"status": 429, "error_code": "enforced_spend_limit_reached"},
        {"status": 400, "message": "something nobody foresaw"},
    ],
    ids=["disabled", "billing", "spend limit", "unforeseen"],
)
@pytest.mark.parametrize("call", ["create", "list"])
def test_a_batch_that_is_refused_for_everyone_leaves_its_rows_ready(
    api: Any, go: Go, tmp_path: Path, do: dict[str, Any], call: str
) -> None:
    if call == "list" and "foresaw" in do.get("message", ""):
        pytest.skip("that is tried again, for half an hour")
    job = make_job(tmp_path / "job", rows=4)
    api.world.faults.load([{"call": call, "do": do}])
    found = go(job)
    assert (found["stopped"], found["waiting"], found["quarantined"]) == ("refused", 4, 0)
    api.world.faults.clear()
    assert go(job)["loaded"] == 4


@pytest.mark.parametrize("lane", ["batch", "live"])
@pytest.mark.parametrize("rows", [3, 40])
def test_an_error_nobody_foresaw_that_strikes_the_first_rows_alike_stops_the_run(
    api: Any, go: Go, tmp_path: Path, lane: str, rows: int
) -> None:
    job = make_job(tmp_path / "job", rows=rows)
    rule = {"call": "messages", "do": {"status": 400, "message": UNFORESEEN.format(n=1)}}
    api.world.faults.load([of_all(UNFORESEEN.format(n=7)), rule])
    found = go(job, lane)
    assert (found["stopped"], found["waiting"], found["quarantined"]) == ("same_error", rows, 0)
    assert "flux capacitor" in found["words"]
    assert ask_ledger(tmp_path / "home", "SELECT sum(bounces), count(*) FROM row WHERE state = 'ready'") == [(0, rows)]
    api.world.faults.clear()
    assert go(job, lane)["loaded"] == rows


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_an_outage_that_outlasts_the_bounces_of_all_rows_sets_none_aside(
    api: Any, go: Go, tmp_path: Path, lane: str
) -> None:
    job = make_job(tmp_path / "job", rows=12, limits={"bounces": 1})
    calls = {"call": "messages", "do": {"status": 500, "retry_after": 0.001}}
    api.world.faults.load([{"rows": {}, "result": {"errored": "api_error"}}, calls])
    found = go(job, lane)
    assert (found["stopped"], found["waiting"], found["quarantined"]) == ("same_error", 12, 0)
    if lane == "batch":
        assert ask_ledger(tmp_path / "home", "SELECT sum(bounces) FROM row") == [(0,)]
    api.world.faults.clear()
    assert go(job, lane)["loaded"] == 12


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_the_same_error_beside_rows_that_are_answered_is_those_rows_own(
    api: Any, go: Go, tmp_path: Path, lane: str
) -> None:
    job = make_job(tmp_path / "job", rows=40)
    rows = {"rows": {"text": "(3"}, "result": {"errored": "invalid_request_error", "message": "odd"}}  # 3, 30 to 39
    calls = {"call": "messages", "nth": [1, 2, 3, 7], "do": {"status": 400, "message": "odd"}}
    api.world.faults.load([rows, calls])
    found = go(job, lane)
    struck = 11 if lane == "batch" else 4
    assert (found["stopped"], found["loaded"], found["reasons"]) == (None, 40 - struck, {"rejected": struck})


def test_a_job_may_say_that_no_error_is_everyones(api: Any, go: Go, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=12, limits={"same_errors": 0})
    api.world.faults.load([of_all("something nobody foresaw")])
    found = go(job)
    assert (found["stopped"], found["reasons"]) == (None, {"rejected": 12})


def test_rows_that_are_too_long_are_their_own_fault_however_many(api: Any, go: Go, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=12)
    api.world.faults.load([of_all("prompt is too long: 215000 tokens > 200000 maximum")])
    assert go(job)["reasons"] == {"rejected": 12}


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_output_that_was_blocked_is_a_refusal_and_the_next_tier_is_asked(
    api: Any, go: Go, tmp_path: Path, lane: str
) -> None:
    job = make_job(tmp_path / "job", rows=12)
    words = "Output blocked by content filtering policy"
    haiku = {"model": load_catalogue().tier("haiku").id}
    rows = {"rows": haiku, "result": {"errored": "invalid_request_error", "message": words}}
    api.world.faults.load([rows, {"call": "messages", **haiku, "do": {"status": 400, "message": words}}])
    found = go(job, lane)
    assert (found["stopped"], found["loaded"]) == (None, 12)
    noted = ask_ledger(tmp_path / "home", "SELECT DISTINCT move, reason FROM note WHERE move <> 'quote'")
    assert noted == [("escalate", "refused")]
    assert ask_ledger(tmp_path / "home", "SELECT DISTINCT tier FROM row") == [(1,)]


def test_output_that_every_tier_is_blocked_for_sets_the_row_aside_as_refused(api: Any, go: Go, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=12)
    api.world.faults.load([of_all("Output blocked by content filtering policy")])
    assert go(job)["reasons"] == {"refused": 12}


def failed(said: list[str], about: tuple[int, int] = (0, 0)) -> list[FailedRow]:
    return [FailedRow(n, about, each) for n, each in enumerate(said)]


def test_errors_are_alike_when_only_ids_and_numbers_differ() -> None:
    one, other = "messages.3.content: no req_01Ab9", "messages.12.content: no  req_99"
    assert error_signature(one) == error_signature(other)
    assert error_signature(one) != error_signature("messages.3.content: no luck")


def test_how_many_alike_are_everyones_fault() -> None:
    """Ten; two or more when there are no others and nothing ever succeeded; never beside one that was answered."""
    few, many = failed(["odd 1", "odd 2"]), failed([f"odd {n}" for n in range(10)])
    assert rows_failed_by_shared_fault(few, set(), set(), enough=10) == few
    assert rows_failed_by_shared_fault(few, set(), {(0, 0)}, enough=10) == []
    assert rows_failed_by_shared_fault(few[:1], set(), set(), enough=10) == []
    assert rows_failed_by_shared_fault(many, set(), {(0, 0)}, enough=10) == many
    assert rows_failed_by_shared_fault(many, {(0, 0)}, set(), enough=10) == []
    assert rows_failed_by_shared_fault(many, {(1, 0)}, set(), enough=10) == many, (
        "another tier's answers say nothing of this one"
    )
    assert rows_failed_by_shared_fault([*many, *failed(["strange"])], set(), set(), enough=10) == many
    assert rows_failed_by_shared_fault(many, set(), set(), enough=0) == []


BLANK = b'[{"type":"text","text":"%b"},{"type":"tool_use","id":"t1","name":"a__b","input":{}}]'


@pytest.mark.parametrize("blank", [b"", b" ", b"\\n\\n", b"\xc2\xa0", b"\xe2\x80\x83\\t"])
def test_blank_text_beside_a_call_is_not_sent_back(blank: bytes) -> None:
    """The API refuses it: text content blocks must be non-empty, or must contain non-whitespace text."""
    sent = conversation_messages(
        "row", [PastTurn("tool_use", BLANK % blank, tool_results=[ToolResult("t1", "a.b", "said", 0)])]
    )
    assert b'"type":"text"' not in sent
    assert b'"id":"t1"' in sent


def test_a_call_nobody_answered_is_not_sent_back() -> None:
    sent = conversation_messages("row", [PastTurn("end_turn", BLANK % b"hm", correction="again")])
    assert b"tool_use" not in sent
    assert b"hm" in sent
