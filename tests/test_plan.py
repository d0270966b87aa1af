"""What `rowtide plan` foresees, what it stands on, and that it leaves no trace."""

import csv
import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ask_ledger, make_job, run

from cli.main import app
from rowtide.errors import UserMistake
from rowtide.forecast.forecast import Forecast, forecast_run
from rowtide.forecast.tier_visits import PlannedWork, TierVisit, VisitHistory
from rowtide.lanes.lane_table import BATCH
from rowtide.lanes.lanes import LaneHistory
from rowtide.tiers.catalogue import load_catalogue

COMPANIES = Path(__file__).parent.parent / "jobs" / "companies"
CATALOGUE = load_catalogue()
PROSPECT = PlannedWork(
    models=[CATALOGUE.tier(tier) for tier in ("haiku", "sonnet", "opus")],
    tier_count=3,
    starts=[900, 100, 0],
    sample_tokens=[980, 1000, 1020] * 10,
    prefix_tokens=800,
    has_tools=True,
    lane=BATCH,
    concurrency=16,
)


@pytest.fixture
def emulated(emulator_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The emulator, without a Prefect server. Gives the ROWTIDE_HOME of this test's own."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"key-{tmp_path.name}")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator_server.url)
    return tmp_path / "home"


def plan(job: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What the command prints as JSON, last."""
    app(["plan", str(job), *arguments, "--json"], result_action="return_value")
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def seen(rows: int, escalations: int, tokens: float = 3000) -> VisitHistory:
    """A history of rows that took three turns each on haiku; so many escalated to sonnet, and none further."""
    visit = TierVisit(0, 3, tokens / 3, tokens, 0, 2400, 300)
    visits = [*[visit] * (rows - escalations), *[visit._replace(escalated=True)] * escalations]
    return VisitHistory(rows, 1, True, [*visits, *[visit._replace(tier=1, is_start=False)] * escalations])


def build_forecast(history: VisitHistory | None, **values: Any) -> Forecast:
    return forecast_run(replace(PROSPECT, **values), history, LaneHistory(), random.Random(1))


def width(told: Forecast) -> float:
    return (told.high_usd - told.low_usd) / told.likely_usd


def test_more_history_narrows_the_range_and_none_leaves_it_wide() -> None:
    told = [build_forecast(history) for history in (None, seen(20, 2), seen(200, 20), seen(5000, 500))]
    widths = [width(each) for each in told]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1
    assert all(each.low_usd < each.likely_usd < each.high_usd for each in told)


def test_rows_climb_as_they_did_and_cost_at_every_rung_they_come_to() -> None:
    haiku, sonnet, opus = build_forecast(seen(200, 20)).tiers
    assert (haiku.rows, haiku.seen) == (900, 200)
    assert sonnet.rows == pytest.approx(100 + 90, rel=0.01)
    assert opus.seen == 0, "no row was seen on opus: what it is taken to need there was seen on sonnet"
    assert opus.turns == 3
    assert sonnet.usd == pytest.approx(190 * (600 * 2 + 2400 * 0.1 + 300 * 10) / 2 / 1e6, rel=0.02)


def test_longer_rows_than_before_cost_more_by_their_own_tokens_on_every_turn() -> None:
    before = build_forecast(seen(200, 0), starts=[1000, 0, 0])
    longer = build_forecast(seen(200, 0), starts=[1000, 0, 0], sample_tokens=[1500] * 30)
    added = longer.tiers[0].usd - before.tiers[0].usd
    assert added == pytest.approx(1000 * 3 * 500 * 0.10 / 2 / 1e6)


def test_the_ways_are_compared_at_the_same_tokens() -> None:
    ways = {way.name: way for way in build_forecast(seen(200, 20)).ways}
    pool, batch = ways["live call pool, top tier"], ways["batch, top tier"]
    assert batch.usd == pytest.approx(pool.usd / 2)
    assert ways["one by one, top tier"].seconds == pytest.approx(16 * pool.seconds)
    assert [way.name for way in ways.values() if way.is_this] == ["batch, ladder"]
    assert ways["batch, ladder"].usd < ways["live call pool, ladder"].usd < batch.usd < batch.uncached_usd


def test_a_plan_reads_the_whole_source_as_a_run_would_and_leaves_no_ledger(
    emulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "id,message\n" + "".join(f"m{n},the invoice number {n} is wrong\n" for n in range(12_000))
    rows += "m7,the same key on another page\n,no key\nm-wide,one,cell too many\n"
    start = [{"when": "message LIKE '%number 9%'", "tier": "sonnet"}]
    job = make_job(tmp_path / "job", rows=rows, start=start, limits={"budget_usd": 0.01})
    found = plan(job, capsys, "--sample", "20")
    assert found["refused"] == {"duplicate_key": 1, "missing_key": 1, "wrong_width": 1}
    assert (found["read"], found["rows"], found["unchanged"]) == (12_003, 12_000, 0)
    assert found["starts"] == {"haiku": 12_000 - 1111, "sonnet": 1111}
    assert len(found["first_tokens"]) == 20
    assert found["history"] is None
    assert any("rowtide run job --limit 200" in each for each in found["warnings"])
    assert any("less than the likely cost" in each for each in found["warnings"])
    assert not list(emulated.glob("ledger*")), "a plan makes no ledger"

    app(["plan", str(job), "--limit", "10"], result_action="return_value")
    text = capsys.readouterr().out
    assert "10 rows to ask, all that were read, by lane batch (as asked): likely $" in text
    assert "batch, ladder (this run)" in text
    app(["plan", str(job), "--limit", "10", "--lane", "live", "--budget", "9"], result_action="return_value")
    text = capsys.readouterr().out
    assert "by lane live (as asked)" in text and "live call pool, ladder (this run)" in text
    assert "budget_usd" not in text, "nine dollars would do"
    with pytest.raises(UserMistake, match="no job"):
        app(["plan", "no-such-job"], result_action="return_value")


@pytest.mark.usefixtures("api")
def test_after_200_rows_the_cost_of_1000_more_is_foreseen_within_a_quarter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The promise of `plan`. What it says with guesses alone is printed, and promised to nobody."""
    job = tmp_path / "companies"
    shutil.copytree(COMPANIES, job, ignore=shutil.ignore_patterns("__pycache__"))
    with (job / "data" / "companies.csv").open(newline="") as source:
        reader = csv.DictReader(source)
        rows = list(reader)
    # Keys that are new, and rows in no order of the alphabet: the first are not the largest companies.
    rows = [{**row, "company_id": f"{row['company_id']}-{n}"} for n, row in enumerate([*rows, *rows][:1200])]
    random.Random(1).shuffle(rows)
    with (job / "data" / "companies.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(rows)

    guessed = plan(job, capsys)
    past = run(job, limit=200, lane="batch")
    foreseen = plan(job, capsys)
    (before,) = ask_ledger(tmp_path / "home", "SELECT count(*) FROM row")
    actual = run(job, lane="batch")
    with capsys.disabled():
        for name, each in (("guesses", guessed), ("history", foreseen)):
            told = each["forecast"]
            error = told["likely_usd"] / actual["cost_usd"] - 1
            sys.stdout.write(
                f"\n{name}: ${told['likely_usd']:.4f} ({told['low_usd']:.4f} to {told['high_usd']:.4f}), "
                f"{told['turns']:,.0f} turns; actual ${actual['cost_usd']:.4f}, {actual['turns']:,} turns: {error:+.1%}"
            )
    assert (before[0], past["rows"]) == (200, 200), "a plan writes no row"
    assert (foreseen["unchanged"], foreseen["rows"]) == (200, 1000)
    assert foreseen["history"] == {"rows": 200, "runs": 1, "is_of_this_version": True}
    told = foreseen["forecast"]
    assert told["likely_usd"] == pytest.approx(actual["cost_usd"], rel=0.25)
    assert told["turns"] == pytest.approx(actual["turns"], rel=0.1)
