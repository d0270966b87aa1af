"""What operators do to a run, and what happens to it meanwhile: numbers, budgets, clocks, databases that go away."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import ask_ledger, make_job, run
from cyclopts import CycloptsError
from test_world_account import Go, api, emulator, go, of_all  # noqa: F401 # fixtures

from cli.main import app
from rowtide.database_url import database_url
from rowtide.environment import number_in
from rowtide.errors import Stopped, UserMistake
from rowtide.job.job_file import read_spec
from rowtide.quarantine.mending import LIMITS, advice
from rowtide.report.report_words import cost_line, headline
from rowtide.report.summary import money, poor_tiers, too_few

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
    *((["settle", "r", text]) for text in WHOLE),
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
    with pytest.raises(UserMistake, match="ROWTIDE_SETTLE_SECONDS"):
        number_in({"ROWTIDE_SETTLE_SECONDS": said}, "ROWTIDE_SETTLE_SECONDS", 30, least=0, most=86_400)


@pytest.mark.parametrize("said", ["", " ", "30", "3e1"])
def test_a_number_of_the_environment_may_be_left_empty(said: str) -> None:
    assert number_in({"X": said}, "X", 30, least=0, most=86_400) == 30


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
    with pytest.raises(Stopped, match="stopped at the budget"):
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
    assert (again["unchanged"], again["set_aside_in"]) == (3, {"run": 3})
    assert app(["run", str(job), "--limit", "2"], result_action="return_value") == 5
    said = capsys.readouterr()
    for words in ("2 of the 2 unchanged rows are in quarantine since run run", "rowtide quarantine retry run --all"):
        assert words in said.out
    assert "rowtide quarantine list run" in said.err
    assert "in quarantine since an earlier run" in headline(again)
    assert "rowtide quarantine list run" in too_few({**again, "too_few_loaded": True})


@pytest.mark.parametrize(("reason", "key"), LIMITS.items())
def test_a_row_at_a_limit_is_told_which_one_and_of_a_tier_only_where_there_is_one(reason: str, key: str) -> None:
    assert f"limits.{key}" in advice(reason, can_climb=False)
    assert "tier" not in advice(reason, can_climb=False)
    assert "higher tier" in advice(reason, can_climb=True)


@pytest.mark.parametrize("reason", ["not_verified", "gate_failed", "check_failed", "missing_key", "bounced_out"])
def test_no_other_advice_names_a_tier_that_is_not_there(reason: str) -> None:
    assert "tier" not in advice(reason, can_climb=False)


COST = {"turns": 4, "cost_usd": 1.04, "baseline_cost_usd": 1.0, "budget_usd": None, "at_stake_usd": 0.0,
        "baselines_usd": {"one_model_live": 1.0, "one_model_batch": None, "ladder_live": None}}  # fmt: skip


def test_what_cost_more_is_not_called_so_much_less() -> None:
    assert "less" not in "".join(money(COST)) + cost_line(COST)
    assert "4% less" in "".join(money({**COST, "cost_usd": 0.96}))


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
