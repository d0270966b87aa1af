"""It may die anywhere, and anything may go wrong: `make chaos` in a shorter form."""

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chaos.commands import kill_commands
from chaos.faults import RULES, Disturbance, endure
from chaos.kill import Ground, Result, ground, kill_everywhere, kill_twice, sigkill, sigkill_live, two_workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ground]:
    with ground(tmp_path_factory.mktemp("chaos")) as prepared:
        yield prepared


def failed(result: Result) -> list[str]:
    assert result.trials
    return [f"{each.kind}: {each.after}: {each.detail}" for each in result.failures]


def test_it_may_die_at_any_effect(here: Ground) -> None:
    """Commits, requests, tool calls, files: each kind is died at, just after it, while what is buffered is lost."""
    result = kill_everywhere(here, sides=["after"], repeats=False)
    assert len(result.trials) > 60
    assert failed(result) == []


def test_what_a_person_does_to_a_run_may_die_at_any_effect(here: Ground) -> None:
    """Amend, recheck with and without taking out, reload into a lost or a second sink: given again, it ends whole."""
    result = kill_commands(here, sides=["after"], repeats=False)
    assert len(result.trials) > 25
    assert failed(result) == []


def test_it_may_die_at_two_of_them(here: Ground) -> None:
    assert failed(kill_twice(here, 10)) == []


def test_it_may_be_killed_at_any_time_and_often(here: Ground) -> None:
    """Sixty real SIGKILLs, less those that came when the run had ended."""
    assert failed(sigkill(here, 10, kills=6)) == []


def test_it_may_be_killed_with_live_calls_on_the_wire(here: Ground) -> None:
    """Only those are made again, each is noted, and what they may have cost stays reserved."""
    assert failed(sigkill_live(here, 6, kills=4)) == []


def test_two_may_work_on_one_run_and_one_may_be_killed(here: Ground) -> None:
    assert failed(two_workers(here, 4, is_one_killed=True)) == []
    assert failed(two_workers(here, 2, is_one_killed=False)) == []


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@example([{"result": "missing", "rows": {"share": 1}}], 1, 4, 1, None)  # results of which nothing is left
@given(
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique_by=str),
    rows=st.integers(1, 24),
    batch_rows=st.integers(4, 30),
    bounces=st.integers(0, 3),
    budget=st.none() | st.floats(0.0002, 0.005),
)
def test_whatever_goes_wrong_the_counts_add_up(
    here: Ground,
    tmp_path_factory: pytest.TempPathFactory,
    rules: list[dict[str, object]],
    rows: int,
    batch_rows: int,
    bounces: int,
    budget: float | None,
) -> None:
    """No row lost or loaded twice, no reply paid for twice, the budget never crossed, the bill the ledger's."""
    disturbance = Disturbance(rules, rows, batch_rows, bounces, budget)
    folder = tmp_path_factory.mktemp("faults") / "trial"
    trial = here.pool.submit(endure, folder, disturbance).result()
    assert trial.failures == []
