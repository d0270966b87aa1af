"""Benchmarks: what is measured, what is said of it, and that figures outlive the run that took them."""

import asyncio
from pathlib import Path

import anyio
import pytest

from benchmarks.cases import Case, cases, chosen, smaller
from benchmarks.findings import findings
from benchmarks.mcp_meter import Meter
from benchmarks.recording import Record
from benchmarks.stages import Stages
from benchmarks.tables import line, peers, stages


def used(rows: int, cpu_seconds: float, **more: object) -> dict[str, object]:
    return {"rows": rows, "cpu_seconds": cpu_seconds, "wall_seconds": 2 * cpu_seconds, "peak_mb": 300.0, **more}


def test_every_case_has_a_name_of_its_own_and_a_word_of_what_it_is() -> None:
    names = [each.name for each in cases()]
    assert len(set(names)) == len(names)
    assert all(each.what for each in cases())


def test_cases_are_chosen_by_name_by_pattern_or_all() -> None:
    assert [each.name for each in chosen(["one-turn-1m"], full=False)] == ["one-turn-1m"]
    assert {each.family for each in chosen(["one-t*-1k"], full=False)} == {"one-turn", "one-trip"}
    assert len(chosen([], full=True)) == len(cases()) > len(chosen([], full=False))
    with pytest.raises(SystemExit, match="no case is called one-trun"):
        chosen(["one-trun-1k"], full=False)


def test_a_row_costs_what_one_more_row_costs() -> None:
    """What a run costs once, such as Prefect, must not hide in it."""
    figures = {"one-turn-10k": used(10_000, 3.0), "one-turn-100k": used(100_000, 21.0)}
    (large,) = chosen(["one-turn-100k"], full=True)
    assert smaller(large) == chosen(["one-turn-10k"], full=True)[0]
    assert " 0.200 " in line(large, figures)
    found = {each.name: each.value for each in findings(figures)}
    assert found["cpu_ms_per_row_one_turn"] == pytest.approx(0.2)
    assert "ratio_to_floor" not in found, "the floor was not measured"


def test_stages_are_told_in_microseconds_a_row() -> None:
    figures = {
        "one-turn-1k": used(1_000, 1.0, stages={"submit": 0.5}),
        "one-turn-10k": used(10_000, 2.8, stages={"submit": 1.4, "load": 0.9}),
    }
    *_, told = stages(chosen(["one-turn-1*k"], full=True), figures)
    assert told.split() == ["one-turn-10k", "0", "0", "100", "0", "0", "0", "0", "100", "0", "0"]


def test_a_peer_that_cannot_be_measured_says_why() -> None:
    figures = {"parallem-one-turn-500": {"failed": "cannot be installed here"}}
    assert any("parallem, one-turn" in told and "cannot be installed here" in told for told in peers(figures))


def test_figures_are_on_disk_at_once_and_a_later_run_goes_on_from_them(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    record = Record(file)
    record.add("one-turn-1k", used(1_000, 1.0))
    record.add("one-turn-10k", {"failed": "out of disk"})
    assert set(Record(file).of_this_commit()) == {"one-turn-1k"}, "what failed is measured again"


def test_a_span_within_a_stage_is_part_of_it() -> None:
    begun: list[str] = []
    measured = Stages(begun.append)
    tracer = measured.get_tracer("rowtide")
    with tracer.start_as_current_span("rowtide.submit"), tracer.start_as_current_span("rowtide.post_batch"):
        pass
    assert (begun, measured.task_runs) == (["submit"], 1)


async def test_a_metered_coroutine_ends_as_it_would_have_and_its_tasks_are_counted_by_whose_they_are() -> None:
    meter = Meter()

    async def ours() -> str:
        to_us, heard = anyio.create_memory_object_stream[str](0)
        speaking = asyncio.create_task(to_us.send("heard"))  # a coroutine of anyio's
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        said = await heard.receive()
        await speaking
        return said

    assert await meter.run(ours()) == "heard"
    assert set(meter.seconds()) == {"ours", "mcp", "loop"}


def test_a_size_is_part_of_a_name() -> None:
    assert [Case("x", rows, "").name for rows in (500, 6_000, 1_000_000)] == ["x-500", "x-6k", "x-1m"]
