"""What operators do to a run, and what happens to it meanwhile: numbers, budgets, clocks, databases that go away."""

import asyncio
import logging
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from queue import Queue
from threading import Barrier, BrokenBarrierError, Event, Thread
from typing import Any

import postgres
import pytest
from conftest import NOW, ask_ledger, make_job, make_run, run, wait_until
from cyclopts import CycloptsError
from pydantic import BaseModel
from test_world_account import Go, api, emulator, go, of_all  # noqa: F401 # fixtures

from cli.main import app
from cli.open_ledger import open_existing_ledger
from cli.prefect_server import PrefectFailed
from cli.terminal_run import take
from rowtide import clock
from rowtide.database_url import database_url
from rowtide.environment_numbers import number_from_environment
from rowtide.errors import RowtideError, RunStopped, UserMistake
from rowtide.job.job_code import JobCodeFailure, run_job_code
from rowtide.job.job_file import read_spec
from rowtide.job.job_spec import SinkSpec
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.engine import LedgerUnavailable
from rowtide.ledger.ledger import Ledger, Run, ledger_url, to_timestamp
from rowtide.ledger.read import costs as ledger_costs
from rowtide.quarantine.sheet_edits import LIMITS, advice_for_reason
from rowtide.report.report_text import cost_line, headline
from rowtide.report.summary_text import money_lines, poor_tiers, too_few_loaded
from rowtide.sinks.sinks import open_sink
from rowtide.stages.orchestrator import is_retryable
from rowtide.stages.run_context import open_run
from rowtide.stages.submit.budget import BudgetExhausted
from rowtide.stages.submit.post_batches import pack_batch, void_unsent_batches

WHOLE = ["0", "-1", "1.5", "abc", "", "1e3", "nan", "inf", "99999999999999999999", "0x10", "true", "1,000", "½"]
AMOUNTS = ["0", "-1", "abc", "", "nan", "inf", "-inf", "1e300", "5 USD"]
ASKED = [
    *((["run", "jobs/companies", "--limit", text]) for text in WHOLE),
    *((["plan", "jobs/companies", "--sample", text]) for text in WHOLE),
    *((["run", "jobs/companies", "--budget", text]) for text in AMOUNTS),
    *((["run", "jobs/companies", "--finish-within", text]) for text in AMOUNTS),
    *((["run", "jobs/companies", "--min-loaded", text]) for text in AMOUNTS),
    *((["resume", "r", "--budget", text]) for text in AMOUNTS),
    *((["runs", "--limit", text]) for text in WHOLE),
    *((["results", "r", "--limit", text]) for text in WHOLE),
    *((["reconcile", "r", text]) for text in WHOLE),
    *((["metrics", "--port", text]) for text in ("-1", "65536", "80.5", "http")),
    *((["serve", "--body-bytes", text]) for text in WHOLE),
]


@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_a_number_of_the_command_line_that_cannot_be_meant_is_refused(words: list[str]) -> None:
    with pytest.raises(CycloptsError):
        app(words, result_action="return_value", exit_on_error=False, print_error=False)


KEYS = ["limits.turns", "limits.budget_usd", "limits.day_usd", "limits.max_tokens", "checks.corrections",
        "live.concurrency", "escalation.yield_floor", "slo.window_days", "finish_within_minutes", "sink.part_rows",
        "tools.t.timeout_seconds", "tools.t.calls_per_second", "difficulty.accuracy"]  # fmt: skip


@pytest.mark.parametrize("value", ["-1", ".inf", "-.inf", ".nan", "true", "'8'", "eight", "1000000000000000000000"])
@pytest.mark.parametrize("key", KEYS)
def test_a_number_of_a_job_that_cannot_be_meant_is_refused_with_its_line(key: str, value: str, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", tools={"t": {"command": "x"}})
    *above, name = key.split(".")
    text = (job / "job.yaml").read_text()
    for depth, part in enumerate(above):
        if f"{part}:" not in text:
            text += f"{'  ' * depth}{part}:\n"
    place = f"{above[-1]}:\n" if above else ""
    put = f"{place}{'  ' * len(above)}{name}: {value}\n"
    text = text.replace(place, put, 1) if place else text + put
    (job / "job.yaml").write_text(text)
    with pytest.raises(UserMistake, match=rf"job\.yaml:\d+: {key.replace('.', r'[.]')}"):
        read_spec(job)


@pytest.mark.parametrize("said", ["soon", "nan", "inf", "-1", "1e99", "30 s"])
def test_a_number_of_the_environment_that_is_none_names_its_variable(said: str) -> None:
    with pytest.raises(UserMistake, match="ROWTIDE_CONFIRM_WITHIN_SECONDS"):
        number_from_environment(
            {"ROWTIDE_CONFIRM_WITHIN_SECONDS": said}, "ROWTIDE_CONFIRM_WITHIN_SECONDS", 30, least=0, most=86_400
        )


@pytest.mark.parametrize("said", ["", " ", "30", "3e1"])
def test_a_number_of_the_environment_may_be_left_empty(said: str) -> None:
    assert number_from_environment({"X": said}, "X", 30, least=0, most=86_400) == 30


def test_resume_sets_the_budget_or_lowers_it_and_says_what_it_was(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = make_job(tmp_path / "job", rows=4)
    api.world.faults.load([of_all("This organization has been disabled.")])
    assert go(job)["stopped"] == "refused"
    api.world.faults.clear()
    budgets = [("0.000001", "it was none"), ("20", "it was $0.000001"), ("10", "it was $20.00")]
    for asked, words in budgets:
        status = app(["resume", "run", "--budget", asked], result_action="return_value")
        assert words in capsys.readouterr().err
        assert status == (4 if asked == "0.000001" else 0)
        ((micro,),) = ask_ledger(tmp_path / "home", "SELECT budget_micro FROM run")
        assert micro == round(float(asked) * 1e6)


def test_a_flow_that_goes_on_gives_a_budget_where_there_was_none_and_says_when_it_lowers_none(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = make_job(tmp_path / "job", rows=4)
    api.world.faults.load([of_all("This organization has been disabled.")])
    assert go(job)["stopped"] == "refused"
    api.world.faults.clear()
    with pytest.raises(RunStopped, match="stopped at the budget"):
        run(job, run_id="run", budget=0.000001)
    assert run(job, run_id="run", budget=5.0)["budget_usd"] == 5.0
    assert "keeps its budget" not in caplog.text
    assert run(job, run_id="run", budget=1.0)["budget_usd"] == 5.0
    assert "run run keeps its budget of $5.00 and is not given $1.00" in caplog.text


def test_rows_that_are_all_in_an_earlier_runs_quarantine_are_told_so_with_the_command(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = "\n\ndef check_nothing(answer, row):\n    return 'no'\n"
    job = make_job(tmp_path / "job", rows=3, tiers=["haiku"])
    (job / "answer.py").write_text((job / "answer.py").read_text() + check)
    assert go(job)["quarantined"] == 3
    again = run(job, run_id="again")
    assert (again["unchanged"], again["quarantined_in"]) == (3, {"run": 3})
    assert app(["run", str(job), "--limit", "2"], result_action="return_value") == 5
    said = capsys.readouterr()
    for words in ("2 of the 2 unchanged rows are in quarantine since run run", "rowtide quarantine retry run --all"):
        assert words in said.out
    assert "rowtide quarantine list run" in said.err
    assert "in quarantine since an earlier run" in headline(again)
    assert "rowtide quarantine list run" in too_few_loaded({**again, "too_few_loaded": True})


@pytest.mark.parametrize(("reason", "key"), LIMITS.items())
def test_a_row_at_a_limit_is_told_which_one_and_of_a_tier_only_where_there_is_one(reason: str, key: str) -> None:
    assert f"limits.{key}" in advice_for_reason(reason, can_escalate=False)
    assert "tier" not in advice_for_reason(reason, can_escalate=False)
    assert "higher tier" in advice_for_reason(reason, can_escalate=True)


@pytest.mark.parametrize("reason", ["not_verified", "gate_failed", "check_failed", "missing_key", "bounced_out"])
def test_no_other_advice_names_a_tier_that_is_not_there(reason: str) -> None:
    assert "tier" not in advice_for_reason(reason, can_escalate=False)


COST = {"turns": 4, "cost_usd": 1.04, "baseline_cost_usd": 1.0, "budget_usd": None, "at_stake_usd": 0.0,
        "baselines_usd": {"one_model_live": 1.0, "one_model_batch": None, "ladder_live": None}}  # fmt: skip


def test_what_cost_more_is_not_called_so_much_less() -> None:
    assert "less" not in "".join(money_lines(COST)) + cost_line(COST)
    assert "4% less" in "".join(money_lines({**COST, "cost_usd": 0.96}))


def test_a_tier_that_takes_the_money_and_settles_next_to_nothing_is_named() -> None:
    tier = {"in": 100, "yield": 0.04, "cost_usd": 2.14}
    found = {"cost_usd": 2.49, "tiers": {"haiku": tier, "opus": {"in": 96, "yield": 0.9, "cost_usd": 0.35}}}
    (said,) = poor_tiers(found)
    assert "$2.14 of $2.49 went to haiku, which settled 4% of the 100 rows" in said
    for changes in ({"yield": 0.3}, {"in": 5}, {"cost_usd": 0.1}, {"yield": None}):
        assert poor_tiers({**found, "tiers": {"haiku": {**tier, **changes}}}) == []


def test_the_warning_about_the_cache_is_said_once(
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app(["run", str(make_job(tmp_path / "job", rows=2))], result_action="return_value") == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("paid for in full") == 1


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_relative_database_of_a_job_is_in_its_folder_wherever_it_is_started(
    kind: str,
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    source = {"url": "sqlite:///rows.db", "query": "SELECT * FROM rows ORDER BY id"}
    job = make_job(tmp_path / "job", source=source, sink={"kind": "sql", "url": f"{kind}:///out.db", "table": "t"})
    with sqlite3.connect(job / "rows.db") as db:
        db.execute("CREATE TABLE rows (id TEXT, message TEXT)")
        db.execute("INSERT INTO rows VALUES ('m1', 'the parcel is late')")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(job)["loaded"] == 1
    assert (job / "out.db").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


URLS = [
    ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
    ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
    ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ("postgresql+psycopg2://u@h/d", "postgresql+psycopg://u@h/d"),
    ("postgresql+asyncpg://u@h/d?ssl=require", "postgresql+psycopg://u@h/d?sslmode=require"),
    ("POSTGRES://u@H/d?sslmode=verify-full", "postgresql+psycopg://u@H/d?sslmode=verify-full"),
    ("  PostgreSQL://u@h:5433/d\n", "postgresql+psycopg://u@h:5433/d"),
    ("postgres://u:p%40s%2Fs%3A%23@h/d", "postgresql+psycopg://u:p%40s%2Fs%3A%23@h/d"),
    ("postgres://u:p@s/s:#?%@h:5432/d", "postgresql+psycopg://u:p%40s%2Fs%3A%23%3F%25@h:5432/d"),
    ("postgresql:///d?host=/var/run/postgresql", "postgresql+psycopg:///d?host=%2Fvar%2Frun%2Fpostgresql"),
    ("postgresql://u@%2Fvar%2Frun/d", "postgresql+psycopg://u@/d?host=%2Fvar%2Frun"),
    ("postgresql://u@[::1]:5432/d", "postgresql+psycopg://u@[::1]:5432/d"),
    ("sqlite:///x.db", "sqlite:////job/x.db"),
    ("SQLITE:///../x.db", "sqlite:////x.db"),
    ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
    ("duckdb:///x.duckdb", "duckdb:////job/x.duckdb"),
    ("mysql+pymysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), URLS)
def test_a_database_is_reached_however_its_url_is_written(written: str, meant: str) -> None:
    assert database_url(written, "K", Path("/job")).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize(
    "text", ["", "x", "h:5432/d", "/var/db", "postgresql:u@h/d", "://u@h/d", "postgresql://u:secret@h:abc/d",
             "sqlite://", "sqlite:///:memory:", "duckdb:///:memory:", "sqlite://x.db", "duckdb://x.duckdb"]
)  # fmt: skip
def test_a_url_of_no_database_is_refused_by_the_name_of_its_key_and_without_its_password(text: str) -> None:
    with pytest.raises(UserMistake, match="^ROWTIDE_LEDGER: ") as refused:
        database_url(text, "ROWTIDE_LEDGER")
    assert "secret" not in str(refused.value)
    assert os.environ.get("ROWTIDE_LEDGER") is None


def reserve(ledger: Ledger, run: Run, micro: int, tag: str) -> None:
    with ledger.page() as tx:
        ledger_batches.mark_packed(
            tx, ledger_batches.begin_packing(tx, run, tag, now=NOW), rows=1, size=1, reserved_micro=micro
        )


def test_two_runs_of_a_job_at_once_reserve_a_day_once(address: str) -> None:
    first = Ledger(address)
    runs, both = [make_run(first, "a"), make_run(first, "b")], Barrier(2)

    def spend(run: Run) -> int:
        ledger = Ledger(address)
        with ledger.page() as tx:
            left = ledger_batches.left_to_spend_micro(tx, run, 1.0, now=NOW, reserves=True)
            with suppress(BrokenBarrierError):  # whoever comes second waits for the first to commit
                both.wait(1)
            if fits := int(left is not None and left >= 600_000):
                batch_no = ledger_batches.begin_packing(tx, run, run.run_id, now=NOW)
                ledger_batches.mark_packed(tx, batch_no, rows=1, size=1, reserved_micro=600_000)
        ledger.close()
        return fits

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(spend, runs)) == 1
    first.close()


def test_a_batch_is_not_packed_over_what_another_run_has_reserved_meanwhile(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=4, limits={"day_usd": 0.2, "max_tokens": 200})
    api.world.faults.load([of_all("This organization has been disabled.")])
    assert go(job)["stopped"] == "refused"
    ledger, other = (Ledger(ledger_url(None, tmp_path / "home")) for _ in range(2))
    with ledger.page() as tx:
        ledgers.continue_run(tx, "run", None)
    context = open_run(ledger, tmp_path / "home", "run", os.environ)
    void_unsent_batches(context, everything=True)
    calls = count()

    def ticking() -> datetime:
        if next(calls) == 2:  # it has looked at what is left, and fills its body
            reserve(other, make_run(other, "other", job="job", api=context.run.api), 199_999, "other")
        return NOW

    assert pack_batch(context, "tag", clock=ticking) is None
    assert isinstance(pack_batch(context, "again", clock=lambda: NOW), BudgetExhausted)
    assert ask_ledger(tmp_path / "home", "SELECT sum(reserved_micro) FROM batch") == [(199_999,)]
    for each in (ledger, other):
        each.close()


class Steps:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


ELSEWHERE = "elsewhere:1:1.0:b"


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_a_step_of_the_clock_ends_no_lease_and_prolongs_none(hours: int) -> None:
    seconds = Steps()
    watch, stepped = ledger_leases.LeaseWatch(seconds), NOW + timedelta(hours=hours)
    until = ""
    for living in (ELSEWHERE, ledger_leases.new_lease_holder("a")):
        for n in range(10):  # renewed every 15 seconds, by a clock that was not set
            until = to_timestamp(NOW + timedelta(seconds=15 * n) + ledger_leases.LEASE)
            assert not watch.has_run_out(living, until, now=stepped + timedelta(seconds=15 * n))
            seconds.now += ledger_leases.RENEW_EVERY_SECONDS
        seconds.now += 60
        assert watch.has_run_out(living, until, now=stepped)


def test_a_lease_that_is_over_by_its_own_word_is_taken_when_it_was_not_renewed_before_our_eyes() -> None:
    seconds = Steps()
    watch, until = ledger_leases.LeaseWatch(seconds), to_timestamp(NOW - timedelta(days=1))
    assert not watch.has_run_out(ELSEWHERE, until, now=NOW)
    seconds.now += ledger_leases.UNSEEN_SECONDS
    assert watch.has_run_out(ELSEWHERE, until, now=NOW)


def test_a_process_knows_itself_again_whatever_the_wall_clock_says(sqlite_ledger: Ledger) -> None:
    me, run = ledger_leases.new_lease_holder("me"), make_run(sqlite_ledger)
    began = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]  # counted from the machine's own start
    assert me.rsplit(":", 3)[2].startswith(f"{began}@")
    with sqlite_ledger.page() as tx:
        ledger_claims.join_run(tx, run.run_id, me, now=NOW)
        assert not ledger_leases.is_holder_dead(me)
        late = NOW + timedelta(hours=5)
        assert ledger_claims.dead_workers(tx, run.run_id, me, now=late) == []
        assert ledger_claims.dead_workers(tx, run.run_id, now=late) == [(me, to_timestamp(NOW + ledger_leases.LEASE))]


def test_the_time_of_a_process_goes_on_from_where_it_began() -> None:
    seconds = Steps()
    now = clock.steady_clock(NOW, seconds)
    seconds.now += 7
    assert now() == NOW + timedelta(seconds=7)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def waiting(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if "out of reach" in each]


def test_a_sqlite_ledger_that_another_program_has_locked_is_waited_for_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = ledger_url(None, tmp_path)
    ledger = Ledger(url, patience_seconds=60)
    make_run(ledger)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    looks = count()

    class Unlock(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # the program ends when it has been noticed
            if "out of reach" in record.getMessage() and next(looks) == 0:
                other.rollback()

    handler = Unlock()
    logging.getLogger("rowtide").addHandler(handler)
    try:
        with ledger.page() as tx:
            ledger_costs.set_budget(tx, ledgers.find_run(tx, "run-1"), 5)
    finally:
        logging.getLogger("rowtide").removeHandler(handler)
        other.close()
    assert ask_ledger(tmp_path, "SELECT budget_micro FROM run") == [(5,)]
    assert len(waiting(caplog)) == 1
    assert "is there again after" in caplog.text
    ledger.close()


def test_a_postgresql_that_goes_away_is_waited_for_and_a_transaction_that_it_breaks_is_the_worlds_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres.server() as folder:
        url = f"postgresql://postgres@/postgres?host={folder}"
        ledger = Ledger(ledger_url(url, tmp_path), patience_seconds=60)
        make_run(ledger)
        postgres.restart(folder, "stop")
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(lambda: set_budget(ledger, 5))
            wait_until(lambda: waiting(caplog), within_seconds=60)
            postgres.restart(folder, "start")
            waits.result()
        with pytest.raises(LedgerUnavailable), ledger.page() as tx:
            postgres.restart(folder, "restart")
            ledger_costs.set_budget(tx, ledgers.find_run(tx, "run-1"), 6)
        set_budget(ledger, 7)
        assert len(waiting(caplog)) == 1
        postgres.restart(folder, "stop")
        with pytest.raises(LedgerUnavailable, match="ledger .* is out of reach") as away:
            Ledger(ledger_url(url, tmp_path))
        assert is_retryable(away.value)
        postgres.restart(folder, "start")
        ledger.close()


def set_budget(ledger: Ledger, micro: int) -> None:
    with ledger.page() as tx:
        ledger_costs.set_budget(tx, ledgers.find_run(tx, "run-1"), micro)


LEDGERS = ["postgresql://nobody:secret@127.0.0.1:1/none", "postgres://u:secret@nowhere.invalid/d", "mysql://u:secret@h/d",
           "sqlite:////proc/none/ledger.db", "sqlite:///{here}/file", "not a url", "duckdb:///x.duckdb"]  # fmt: skip


@pytest.mark.parametrize("url", LEDGERS)
def test_a_ledger_that_cannot_be_had_is_told_by_its_variable(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("this is no database, and long enough to be seen as none" * 20)
    monkeypatch.setenv("ROWTIDE_LEDGER", url.format(here=tmp_path))
    with pytest.raises(UserMistake, match="^ROWTIDE_LEDGER: ") as refused, open_existing_ledger():
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "duckdb"])
def test_a_ledger_that_fails_during_a_load_is_not_told_as_the_sinks_fault(kind: str, tmp_path: Path) -> None:
    named = {"path": "out"} if kind == "parquet" else {"kind": "sql", "url": f"{kind}:///out.db", "table": "t"}
    sink, _ = open_sink(SinkSpec.model_validate(named), tmp_path, Said, {}, tmp_path)
    with pytest.raises(LedgerUnavailable, match="^the ledger x is out of reach"), sink.writing("part"):
        raise LedgerUnavailable("the ledger x is out of reach")


class Said(BaseModel):
    topic: str


def test_a_run_that_is_done_is_not_failed_by_prefect(
    go: Go,  # noqa: F811 # a fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert go(make_job(tmp_path / "job", rows=2))["loaded"] == 2

    async def fails(**_: object) -> dict[str, Any]:
        raise PrefectFailed("Prefect's server failed: ConnectError: all connection attempts failed")

    found = asyncio.run(take(fails, "run", {}))
    assert (found["loaded"], found["too_few_loaded"], found["stopped"]) == (2, False, None)
    assert "Prefect was not told that the run is over" in capsys.readouterr().err
    with pytest.raises(RowtideError, match="rowtide resume other --no-prefect"):
        asyncio.run(take(fails, "other", {}))


@pytest.mark.parametrize(("answered_by", "seen"), [("", 1), ("http://a", 1), ("http://b", 0)])
def test_resume_runs_leaves_runs_of_another_api_alone(answered_by: str, seen: int, sqlite_ledger: Ledger) -> None:
    run = make_run(sqlite_ledger, api=answered_by)
    with sqlite_ledger.page() as tx:
        ledger_flow_runs.record_flow_run(tx, run, "flow", now=NOW)
    day = timedelta(days=1)
    with sqlite_ledger.view() as tx:
        found = ledger_flow_runs.unfinished_runs(tx, "http://a", day, day, now=NOW + day / 2)
    assert len(found) == seen


HANGS = {
    "a loop": "while True: pass",
    "a loop that swallows everything": """while True:
        try:
            while True: pass
        except Exception: pass""",
    "a regular expression without end": "re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "a sleep": "time.sleep(1000)",
}


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_code_of_a_jobs_that_never_returns_is_ended_and_costs_its_row(code: str) -> None:
    space: dict[str, Any] = {}
    exec(f"import re, time\ndef hangs():\n    {code}\n", space)
    failed = run_job_code("check_failed", "hangs", Path("answer.py"), space["hangs"], 1)
    assert isinstance(failed, JobCodeFailure)
    assert (failed.reason, failed.message) == ("check_failed", "it did not return within 1 s")


def test_code_that_another_thread_runs_does_not_lengthen_the_time_of_what_hangs() -> None:
    begun, ended, was_ended = Event(), Event(), Queue[object]()

    def waits() -> bool:
        begun.set()
        return ended.wait(5)

    def hangs() -> None:
        Thread(target=lambda: was_ended.put(run_job_code("c", "waits", Path("a"), waits, 60))).start()
        begun.wait()
        while True:
            pass

    assert isinstance(run_job_code("check_failed", "hangs", Path("answer.py"), hangs, 1), JobCodeFailure)
    ended.set()
    assert was_ended.get() is True


def test_a_validator_that_never_returns_is_ended_too_and_what_returns_in_time_is_not() -> None:
    assert run_job_code("check_failed", "quick", Path("answer.py"), lambda: 7, 1) == 7
    nested = run_job_code("check_failed", "outer", Path("answer.py"), lambda: run_job_code("c", "i", Path("a"), int, 1))
    assert nested == 0
