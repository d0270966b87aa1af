"""Measure, print a table, and leave the figures as JSON.

One emulator and one Prefect server serve all runs; only the client process is measured. A row's cost is the slope
between a small run and a large one, so that what a run costs once (Prefect, imports of engines) does not hide in it.
"""

import contextlib
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import orjson

from rowtide.ladder.catalogue import load_catalogue

HERE = Path(__file__).parent
ONE_TURN, THREE_TRIPS = HERE / "jobs" / "one_turn", HERE / "jobs" / "three_trips"
TRIP_SIZES = (500, 5_000)
FLOOR_SIZES = (20_000, 100_000)  # a smaller one is over before its CPU can be told from noise
SIZES = (2_000, 20_000, 100_000, 200_000)
FLOOR_MODEL = load_catalogue().tier("haiku").id


def main() -> None:
    """Run every measurement and print what came of it."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as environment:
        place = Path(folder)
        floor = _floor(place, environment)
        runs = {size: _run(place, size, environment) for size in SIZES}
        trips = [_trips(place, size, environment) for size in TRIP_SIZES]
        mcp = _json_of([sys.executable, "-m", "benchmarks.mcp_calls", str(THREE_TRIPS), "5000"], environment)
        task_runs = {size: _task_runs(environment, found["run_id"]) for size, found in runs.items()}
    small, twenty = runs[2_000], runs[20_000]
    per_row = _slope(small, twenty)
    trip, call = _slope(*trips), mcp["cpu_seconds"] / mcp["rows"] * 1000
    calls = trips[1]["tool_calls"] - trips[1]["tools_remembered"]
    ours = trip - call * calls / trips[1]["rows"]
    figures = {
        "cpu_ms_per_row_three_trips": trip,
        "cpu_ms_per_row_three_trips_outside_mcp": ours,
        "cpu_ms_per_mcp_call": call,
        "batches_three_trips": trips[1]["batches"],
        "cpu_ms_per_row_20k": per_row,
        "cpu_ms_per_row_200k": _slope(twenty, runs[200_000]),
        "floor_cpu_ms_per_row": floor,
        "ratio_to_floor": per_row / floor,
        "peak_mb": {str(size): found["peak_mb"] for size, found in runs.items()},
        "peak_ratio_200k_to_20k": runs[200_000]["peak_mb"] / twenty["peak_mb"],
        "task_runs": {str(size): count for size, count in task_runs.items()},
        "batches": {str(size): found["batches"] for size, found in runs.items()},
    }
    print(f"{'rows':>8} {'cpu s':>8} {'wall s':>8} {'peak MB':>8} {'batches':>8} {'task runs':>10}")
    for size, found in runs.items():
        print(
            f"{size:>8,} {found['cpu_seconds']:>8.1f} {found['wall_seconds']:>8.1f} {found['peak_mb']:>8.0f}"
            f" {found['batches']:>8} {task_runs[size]:>10}"
        )
    print(f"client CPU a row, one turn      {per_row:.3f} ms   (target 0.15)")
    print(f"the floor, hand-written         {floor:.3f} ms   ratio {per_row / floor:.1f}")
    trips_made = f"{trips[1]['batches']} batches, {trips[1]['tool_calls']:,} calls"
    print(f"client CPU a row, three trips   {trip:.3f} ms   {trips_made}")
    print(f"  of it outside the MCP client  {ours:.3f} ms   (target 0.5; one MCP call {call:.3f} ms)")
    print(f"peak memory, 200,000 to 20,000  {figures['peak_ratio_200k_to_20k']:.2f} ×  (target 1.3)")
    Path("benchmarks.json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def _slope(small: dict[str, Any], large: dict[str, Any]) -> float:
    """Milliseconds of client CPU one more row costs."""
    return (large["cpu_seconds"] - small["cpu_seconds"]) / (large["rows"] - small["rows"]) * 1000


def _run(place: Path, rows: int, environment: dict[str, str]) -> dict[str, Any]:
    home = place / f"home-{rows}"
    command = [sys.executable, "-m", "benchmarks.client", str(ONE_TURN), str(_source(place, rows)), f"bench-{rows}"]
    found = _json_of(command, {**environment, "ROWTIDE_HOME": str(home)})
    assert found["loaded"] == rows, found
    return found


def _trips(place: Path, rows: int, environment: dict[str, str]) -> dict[str, Any]:
    """A run whose every row makes three tool calls, each needing what the one before said."""
    source = place / f"orders-{rows}.csv"
    source.write_text("id,order_number\n" + "".join(f"r{n},{n}\n" for n in range(rows)))
    command = [sys.executable, "-m", "benchmarks.client", str(THREE_TRIPS), str(source), f"trips-{rows}"]
    found = _json_of(command, {**environment, "ROWTIDE_HOME": str(place / f"trips-{rows}")})
    # The emulator's best mind is wrong once in some hundred rows, too.
    assert found["loaded"] + found["quarantined"] == rows and found["tool_calls"] > 2.9 * rows, found
    return found


def _floor(place: Path, environment: dict[str, str]) -> float:
    """Milliseconds of CPU a row, as a slope too."""
    used = {}
    for rows in FLOOR_SIZES:
        out = place / f"floor-{rows}.parquet"
        source = str(_source(place, rows))
        url = environment["ANTHROPIC_BASE_URL"]
        used[rows] = _json_of(
            [sys.executable, "-m", "benchmarks.floor", url, str(ONE_TURN), source, str(out), FLOOR_MODEL], environment
        )
    return _slope(*used.values())


def _source(place: Path, rows: int) -> Path:
    """Rows of about 200 bytes."""
    file = place / f"rows-{rows}.csv"
    if not file.exists():
        with file.open("w", newline="") as out:
            table = csv.writer(out)
            table.writerow(["id", "customer", "message"])
            topics = ("the invoice shows a charge twice", "the parcel came late", "the manual is missing, colour wrong")
            for n in range(rows):
                words = f"Hello, this is about order {n}: {topics[n % 3]}. " + "Please look into it soon. " * 4
                table.writerow([f"c-{n}", f"Customer {n % 977}", words])
    return file


def _task_runs(environment: dict[str, str], flow_run_name: str) -> int:
    """How many task runs Prefect was told of, once its events have settled."""
    wanted = {"flow_runs": {"name": {"any_": [flow_run_name]}}}
    count, before = 0, -1
    while count != before or count == 0:
        time.sleep(6)
        before = count
        answer = httpx2.post(f"{environment['PREFECT_API_URL']}/task_runs/count", json=wanted, timeout=60)
        count = int(answer.raise_for_status().json())
    return count


def _json_of(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return orjson.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _servers(place: Path) -> Generator[dict[str, str]]:
    """An emulator and a Prefect server, for as long as the block lasts."""
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "ROWTIDE_PAGE": "0",
    }
    environment = {**os.environ, **quiet, "PREFECT_HOME": str(place / "prefect"), "ANTHROPIC_API_KEY": "bench"}
    emulator = [sys.executable, "-m", "emulator", "--port", "0", "--data", str(place / "emulator")]
    port = "4299"
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with (
        subprocess.Popen(emulator, stdout=subprocess.PIPE, text=True, env=environment) as api,
        subprocess.Popen(prefect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as server,
    ):
        try:
            assert api.stdout
            environment["ANTHROPIC_BASE_URL"] = api.stdout.readline().rpartition(" ")[2].strip()
            environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            _until_healthy(environment["PREFECT_API_URL"])
            yield environment
        finally:
            api.terminate()
            server.terminate()


def _until_healthy(url: str) -> None:
    for _ in range(240):
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit("Prefect's server did not come up")


if __name__ == "__main__":
    main()
