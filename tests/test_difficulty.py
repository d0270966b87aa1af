"""Where rows start by estimate: what is learnt of a history, how it is applied, and what is promised of it."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import NOW, ask_ledger, make_job

from cli.fit_router import router_lines as tell_router
from cli.show import history_lines
from rowtide.binomial import clopper_pearson_lower
from rowtide.errors import UserMistake
from rowtide.intake.admission import Admission
from rowtide.job.job_folder import load_job
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.read.row_history import row_history
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import Reply
from rowtide.routing.difficulty import (
    Outcome,
    Router,
    TierFit,
    estimate_start,
    expected_micro,
    read_router,
    tier_chance,
)
from rowtide.routing.features import build_vocabulary, row_features
from rowtide.routing.thresholds import choose_thresholds, is_golden_row_right
from rowtide.stages.extract.begin_run import RunOptions, begin_new_run
from rowtide.stages.preflight import plan_run
from rowtide.stages.route.router_fit import classifier_as_data, fit_router, new_classifier
from tasks.route import route

PRICES = [0.5, 10.0]
COST = [800, 1500]  # micro-dollars of a row's stay on each tier
Row = dict[str, str]


def planted(count: int, seed: int = 0) -> list[Row]:
    """Rows whose city is missing now and then: those are the hard ones."""
    pick = random.Random(seed)
    return [
        {"id": f"r{seed}-{n}", "name": f"company {pick.choice('abcdefgh') * pick.randint(1, 9)} {n}",
         "city": "" if pick.random() < 0.3 else pick.choice(["Paris", "Oslo", "Rome"])}
        for n in range(count)
    ]  # fmt: skip


def true_chance(row: Row) -> float:
    """That the lowest tier can do it."""
    return 0.95 if row["city"] else 0.15


def climbs_at_random(seed: int = 1) -> Callable[[Row], int | None]:
    """On which tier a row is accepted; None for one that is quarantined."""
    pick = random.Random(seed)

    def accepted_at(row: Row) -> int | None:
        if pick.random() < true_chance(row):
            return 0
        return 1 if pick.random() < 0.9 else None

    return accepted_at


def job_in(tmp_path: Path, **spec: Any) -> Path:
    return make_job(tmp_path / "job", rows="id,name,city\n", prompt="{{ name }} {{ city }}\n", **spec)


def begun(ledger: Ledger, job: Path, run_id: str, rows: list[Row]) -> Run:
    run = begin_new_run(ledger, asyncio.run(plan_run(job, None, {})), RunOptions(run_id, lane="batch"), now=NOW)
    admissions = [
        Admission(run.first_row_no + n, row["id"], f"{n:032}", orjson.dumps(row)) for n, row in enumerate(rows, 1)
    ]
    with ledger.page() as tx:
        ledger_rows.admit_rows(tx, run, admissions, read_before=0, read_after=len(rows), now=NOW)
    return run


def live_through(
    ledger: Ledger, job: Path, run_id: str, rows: list[Row], accepted_at: Callable[[Row], int | None], start: int = 0
) -> None:
    """A whole run, as the ledger would remember it: one reply a tier, from `start` to where the row ends."""
    run = begun(ledger, job, run_id, rows)
    with ledger.page() as tx:
        ledger_rows.route_rows(tx, run, start)
        going = {run.first_row_no + n: accepted_at(row) for n, row in enumerate(rows, 1)}
        for fit in range(start, 2):
            batch = ledger_batches.begin_packing(tx, run, f"{run_id}-{fit}", now=NOW)
            ledger_rows.put_in_batch(tx, batch, list(going))
            said = (b"[]", 10, 0, 0, 5, COST[fit], 70)
            ledger_turns.file_replies(tx, [Reply(no, fit - start + 1, batch, fit, "end_turn", *said) for no in going])
            done = [no for no, at in going.items() if at is not None and at <= fit]
            ledger_rows.record_answers(tx, run, dict.fromkeys(done, b'{"topic":"billing"}'))
            ledger_rows.accept_rows(tx, done)
            going = {no: at for no, at in going.items() if no not in done}
            if fit == 0:
                ledger_rows.move_rows(
                    tx, "escalate", [{"row_no": no} for no in going], "tier = 1, conversation_from = turn"
                )
        ledger_rows.quarantine_rows(tx, [MoveReason(no, 1, "not_verified") for no in going], now=NOW)


def fitted(ledger: Ledger, job: Path) -> Router:
    return fit_router(ledger, load_job(job), PRICES, now=NOW)


@pytest.fixture
def learnt(sqlite_ledger: Ledger, tmp_path: Path) -> tuple[Path, Router]:
    job = job_in(tmp_path, difficulty={"lookup": "name"})
    live_through(sqlite_ledger, job, "past", planted(1200), climbs_at_random())
    return job, fitted(sqlite_ledger, job)


def test_a_relation_that_was_planted_is_found_and_its_chances_come_true(learnt: tuple[Path, Router]) -> None:
    _, router = learnt
    fit = router.tier_fits[0]
    assert fit.brier is not None
    assert fit.brier_base is not None
    assert fit.brier < 0.6 * fit.brier_base
    assert all(abs(each.chance - each.accepted) < 0.08 for each in fit.calibration)
    fresh = planted(600, seed=9)
    said = [estimate_start(router, row).chances["haiku"] for row in fresh]
    assert np.mean([abs(each - true_chance(row)) for each, row in zip(said, fresh, strict=True)]) < 0.05
    strongest = max(fit.weights, key=lambda name: abs(fit.weights[name].weight))
    assert strongest in {"missing", "something_missing", "missing:city", "length:city"}


def test_rows_that_would_climb_start_higher_and_that_saves_what_it_says(learnt: tuple[Path, Router]) -> None:
    """What it says is held against a history it has not seen."""
    _, router = learnt
    fresh, accepted_at = planted(4000, seed=7), climbs_at_random(seed=8)
    ends = [accepted_at(row) for row in fresh]
    starts = [estimate_start(router, row).tier_no for row in fresh]
    assert {row["city"] == "" for row, start in zip(fresh, starts, strict=True) if start} == {True}
    lowest = [COST[0] + (0 if end == 0 else COST[1]) for end in ends]
    here = [COST[1] if start else cost for start, cost in zip(starts, lowest, strict=True)]
    saved = 1 - sum(here) / sum(lowest)
    assert 0 < router.saving.low < saved < router.saving.high


def test_a_rung_is_not_thought_less_of_for_the_hard_rows_it_was_given(learnt: tuple[Path, Router]) -> None:
    """Sonnet saw only what haiku had failed, nine in ten of which it could do. Of all rows it could do far more."""
    _, router = learnt
    share = router.tier_fits[1].accepted / router.tier_fits[1].rows
    assert share > 0.94
    assert router.tier_fits[1].rows == 1200


def test_it_says_why_in_words(learnt: tuple[Path, Router]) -> None:
    _, router = learnt
    why = estimate_start(router, {"id": "x", "name": "company x", "city": ""}).why
    assert "against haiku: city is empty (usually 2 characters)" in why
    assert any(
        "for haiku" in each for each in estimate_start(router, {"id": "x", "name": "company", "city": "Oslo"}).why
    )
    told = "\n".join(tell_router(router))
    assert "Brier score" in told
    assert "A row starts on haiku with a chance of" in told
    assert "Golden rows: 0 in the history cannot show 95%" in told


def test_what_is_kept_gives_the_very_chances_that_were_fitted() -> None:
    pick = np.random.default_rng(0)
    matrix = pick.normal(3, 2, (400, 3))
    labels = pick.random(400) < 1 / (1 + np.exp(3 - matrix[:, 0]))
    model, names = new_classifier().fit(matrix, labels), ["a", "b", "c"]
    costs = {"accepted_micro": 1.0, "failed_micro": 1.0}
    fit = TierFit(tier="t", rows=400, accepted=int(labels.sum()), **costs, **classifier_as_data(model, names))
    again = TierFit.model_validate_json(fit.model_dump_json())
    ours = [tier_chance(again, dict(zip(names, row, strict=True))) for row in matrix.tolist()]
    assert np.allclose(ours, model.predict_proba(matrix)[:, 1], rtol=0, atol=1e-12)


def test_the_same_row_has_the_same_features_and_they_say_what_they_are() -> None:
    rows = [{"name": f"Acme group {n}", "city": "N/A" if n % 2 else "Oslo", "n": n} for n in range(10)]
    usual = build_vocabulary(rows, [], "name")
    found = row_features({"name": "Группа 7", "city": None}, usual)
    assert found == row_features({"city": None, "name": "Группа 7"}, usual)
    assert found["missing:city"] == found["missing:n"] == found["something_missing"] == 1
    assert found["not_latin"] == 1
    assert found["lookup_words"] == 2
    assert row_features(rows[0], usual)["lookup_common"] > found["lookup_common"]


def test_too_little_history_is_refused_with_what_there_is_and_what_it_takes(ledger: Ledger, tmp_path: Path) -> None:
    job = job_in(tmp_path)
    with pytest.raises(UserMistake, match="0 settled rows on the ladder haiku, sonnet, of which 0 were escalated"):
        fitted(ledger, job)
    live_through(ledger, job, "past", planted(400), lambda _: 0)
    with pytest.raises(UserMistake, match="400 settled rows .* 0 were escalated or quarantined; it takes 200 rows, 30"):
        fitted(ledger, job)


def test_rows_that_no_rule_speaks_of_start_by_estimate_and_show_says_why(
    learnt: tuple[Path, Router], sqlite_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    job, router = learnt
    job_in(tmp_path, difficulty={"lookup": "name"}, start=[{"when": "id LIKE '%-7'", "effort": "low"}])
    (job / "router.json").write_text(router.model_dump_json())
    assert read_router(job) == router
    rows = planted(40, seed=5)
    run = begun(sqlite_ledger, job, "now", rows)
    assert asyncio.run(route("now")) == 40
    query = (
        f"SELECT row_key, tier, rule, chances FROM row LEFT JOIN estimate USING (row_no) WHERE run_no = {run.run_no}"
    )
    found = {key: tuple(rest) for key, *rest in ask_ledger(tmp_path, query)}
    assert found.pop("r5-7") == (0, 1, None)
    for row in rows:
        if row["id"] in found:
            expected = estimate_start(router, row)
            assert found[row["id"]][:2] == (expected.tier_no, 0)
            assert orjson.loads(found[row["id"]][2]) == expected.chances
    hard = next(row["id"] for row in rows if not row["city"])
    with sqlite_ledger.view() as tx:
        told = "\n".join(history_lines(row_history(tx, hard, "now"), width=None))
    assert "start    on sonnet, by estimate; chance that it goes no higher: haiku " in told
    assert "against haiku: " in told


def test_what_was_learnt_for_another_ladder_is_left_alone(
    learnt: tuple[Path, Router], sqlite_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    job, router = learnt
    job_in(tmp_path, tiers=["haiku", "opus"])
    (job / "router.json").write_text(router.model_dump_json())
    assert any("`rowtide fit-router` again" in each for each in asyncio.run(plan_run(job, None, {})).warnings)
    run = begun(sqlite_ledger, job, "now", planted(5, seed=5))
    asyncio.run(route("now"))
    query = f"SELECT DISTINCT tier, rule FROM row WHERE run_no = {run.run_no}"
    assert ask_ledger(tmp_path, query) == [(0, None)]


RUNGS = [
    TierFit(tier="a", rows=9, accepted=9, weights={}, intercept=0, accepted_micro=10, failed_micro=30),
    TierFit(tier="b", rows=9, accepted=9, weights={}, intercept=0, accepted_micro=100, failed_micro=200),
]


def test_what_a_row_is_expected_to_cost_is_what_each_rung_costs_it_there_and_beyond() -> None:
    assert expected_micro(RUNGS, [0.8, 0.9], 0) == pytest.approx(0.8 * 10 + 0.2 * 30 + 0.1 * 100 + 0.1 * 200)
    assert expected_micro(RUNGS, [0.8, 0.9], 1) == pytest.approx(0.9 * 100 + 0.1 * 200)


def test_golden_rows_raise_the_threshold_where_the_lowest_rung_is_accepted_but_wrong() -> None:
    """Each was asked on both tiers, in two runs. The cheap one's answers pass all checks, and one in five is wrong."""
    past = [Outcome(f"k{n}", 0, -1, {0: 10}) for n in range(300)]
    chances = np.array([[0.55 if n % 5 == 0 else 0.95, 0.99] for n in range(300)])
    right = {f"k{n}": {0: n % 5 != 0, 1: True} for n in range(300)}
    chosen = choose_thresholds(RUNGS, past, chances, right, 0.95)
    assert 0.55 < chosen.thresholds[0] <= 0.95
    assert (chosen.golden.right, chosen.golden.rows) == (300, 300)
    assert chosen.golden.lower_bound >= 0.95
    assert chosen.golden.verdict.startswith("shown")
    assert chosen.saving.share < 0
    few = choose_thresholds(RUNGS, past[:40], chances[:40], {key: right[key] for key in list(right)[:40]}, 0.95)
    assert few.thresholds == [0.0]
    assert "40 in the history cannot show 95%" in few.golden.verdict


def test_what_nobody_knows_of_a_golden_row_counts_as_wrong() -> None:
    assert is_golden_row_right({0: False}, 0) is False
    assert is_golden_row_right({0: False}, 1) is False
    assert is_golden_row_right({0: True}, 1) is True
    assert is_golden_row_right({1: True}, 0) is True
    assert is_golden_row_right({}, 0) is False
    # Clopper and Pearson's own closed form where all are right.
    assert clopper_pearson_lower(59, 59, 0.95) == pytest.approx(0.05 ** (1 / 59))
    assert clopper_pearson_lower(0, 10, 0.95) == 0
