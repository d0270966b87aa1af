"""What tests stand on: a clock, a ledger on disk, a run with rows in any state."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import postgres
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, settings
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    get_current_settings,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from emulator.faults import Call, untroubled_call
from emulator.server import start
from emulator.world import workspace_of
from flows.pump import pump
from flows.run_job import run_job
from rowtide.intake.admission import Admission
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, Run, begin_run, ledger_url
from rowtide.stages.orchestrator import Orchestrator, orchestrated_by

# A slow minute of the machine is no fault of what is tried.
settings.register_profile("rowtide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rowtide")

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a server of Prefect's or of Claude's is slow: `make check` leaves it out. `make test` keeps on one
    worker what shares something that takes seconds to start.
    """
    for item in items:
        if {"prefect_server", "emulator_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if group := shared_with(item):
            item.add_marker(pytest.mark.xdist_group(group))


def shared_with(item: pytest.Item) -> str | None:
    """The name of the tests that share a server of Prefect's, or a fixture of their module, with this one."""
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    if "prefect_server" in fixtures:
        return "prefect"
    return item.path.stem if any(each.scope == "module" for made in fixtures.values() for each in made) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines what was not tried, why, and how it can be."""
    skipped = (report.longrepr for report in terminalreporter.stats.get("skipped", []))
    for reason, times in Counter(reason.removeprefix("Skipped: ") for _, _, reason in skipped).items():
        terminalreporter.write_line(f"skipped {times} test{'s' * (times > 1)}: {reason}")


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger of this test's own, on one engine after the other."""
    return ledger_url(None, tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_ledger")


@pytest.fixture
def ledger(address: str) -> Generator[Ledger]:
    """A ledger, on one engine after the other."""
    opened = Ledger(address)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Generator[Ledger]:
    """A ledger on SQLite alone: for what does not depend on the engine."""
    opened = Ledger(ledger_url(None, tmp_path))
    yield opened
    opened.close()


def make_run(ledger: Ledger, run_id: str = "run-1", **values: object) -> Run:
    """A run, begun."""
    given = {
        "run_id": run_id,
        "job": "job",
        "job_folder": "jobs/job",
        "asking": "asked-1",
        "judging": "judged-1",
        "parts": '{"asking":{},"judging":{}}',
        "tiers": '["haiku","sonnet"]',
        "request": b'"tools":[]',
        "servers": "{}",
        "source": "rows.csv",
        "lane": "auto",
    }
    with ledger.page() as tx:
        return begin_run(tx, {**given, **values}, now=NOW)


def make_rows(ledger: Ledger, run: Run, count: int, *, tier: int | None = 0) -> list[int]:
    """That many ready rows, routed unless `tier` is None. Returns their numbers."""
    rows = [
        Admission(run.first_row_no + n, f"key-{n}", f"id-{n}", orjson.dumps({"name": f"row {n}"}))
        for n in range(1, count + 1)
    ]
    with ledger.page() as tx:
        assert ledger_rows.admit_rows(tx, run, rows, read_before=0, read_after=count, now=NOW)
        if tier is not None:
            ledger_rows.route_rows(tx, run, tier)
    return [row.row_no for row in rows]


@pytest.fixture(scope="session")
def postgres_server() -> Generator[Path]:
    """A real PostgreSQL of the tests' own. Gives the folder of its socket."""
    with postgres.server() as socket:
        yield socket


@pytest.fixture
def postgres_url(postgres_server: Path) -> Generator[str]:
    """The URL of a database of this test's own."""
    with postgres.database(postgres_server, f"test_{uuid4().hex}") as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Path) -> Generator[str]:
    """A ledger nobody has used: to copy it takes a fifth of the time of making its tables."""
    name = "an_empty_ledger"
    with postgres.database(postgres_server, name) as url:
        Ledger(url).close()
        yield name


@pytest.fixture
def postgres_ledger(postgres_server: Path, postgres_template: str) -> Generator[str]:
    """The URL of a ledger of this test's own in PostgreSQL."""
    with postgres.database(postgres_server, f"test_{uuid4().hex}", template=postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def prefect_server() -> Generator[str]:
    """A real Prefect server of the tests' own. Gives its URL, for child processes too."""
    quiet = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120):
        yield str(get_current_settings().api.url)


@pytest.fixture(scope="session")
def emulator_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """A real server that speaks the API, in a thread of its own."""
    with start(tmp_path_factory.mktemp("emulator"), batch_seconds=(0.0, 0.2)) as server:
        yield server


@pytest.fixture
def api(emulator_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The emulator, with an account and a ROWTIDE_HOME of this test's own."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"key-{tmp_path.name}")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator_server.url)
    monkeypatch.setenv("ROWTIDE_CONFIRM_WITHIN_SECONDS", "1")
    monkeypatch.setenv("ROWTIDE_PREFECT_PORT", "0")  # whoever has a server of Prefect's here, it is not for tests
    monkeypatch.setenv("ROWTIDE_PAGE", "0")  # a report's page takes seconds to draw
    yield emulator_server
    emulator_server.world.faults.clear()
    emulator_server.world.faults.on_call = untroubled_call


@pytest.fixture
def faults(api: Any) -> Callable[..., None]:
    """Loads a plan of faults for this test's account."""
    key = os.environ["ANTHROPIC_API_KEY"]

    def of_account(rule: dict[str, Any]) -> dict[str, Any]:
        kind = next(kind for kind in ("call", "rows", "batch") if kind in rule)
        return {**rule, "key": key} if kind == "call" else {**rule, kind: {**rule[kind], "key": key}}

    return lambda *rules: api.world.faults.load([of_account(rule) for rule in rules])


def batch_was_made(api: Any) -> asyncio.Event:
    """Is set as soon as this test's account has made a batch, before the API says so."""
    workspace, loop, event = workspace_of(os.environ["ANTHROPIC_API_KEY"]), asyncio.get_running_loop(), asyncio.Event()

    def on_call(call: Call) -> None:
        if (call.name, call.workspace, call.moment) == ("POST /v1/messages/batches", workspace, "after"):
            loop.call_soon_threadsafe(event.set)

    api.world.faults.on_call = on_call
    return event


ANSWER = """
from typing import Literal
from pydantic import BaseModel, Field


class Answer(BaseModel):
    topic: Literal["billing", "delivery", "product"] = Field(description="What the message is about.")
    message: str = Field(description="The message, as written.")
"""
PROMPT = """Sort the message.

- billing: invoice, refund
- delivery: parcel, late
- product: broken, manual
---
message: {{ message }}
"""
SPEC: dict[str, Any] = {
    "source": {"path": "rows.csv"},
    "key": "id",
    "tiers": ["haiku", "sonnet"],
    "lane": "batch",
    "sink": {"path": "results"},
}


def make_job(
    folder: Path, *, rows: str | bytes | int = 6, answer: str = ANSWER, prompt: str = PROMPT, **spec: Any
) -> Path:
    """A job in `folder`: sort messages, unless told otherwise. `rows` is how many, or the source itself."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, int):
        words = ("the invoice is wrong", "the parcel is late", "the manual is missing")
        rows = "id,message\n" + "".join(f"m{n},{words[n % 3]} ({n})\n" for n in range(rows))
    (folder / "rows.csv").write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    (folder / "answer.py").write_text(answer)
    (folder / "prompt.md").write_text(prompt)
    (folder / "job.yaml").write_text(yaml.safe_dump({**SPEC, **spec}, sort_keys=False))
    return folder


class ThisProcess(Orchestrator):
    """Calls stages in this process; what the world fails is tried again at once. `on_stage` hears each stage's name."""

    def __init__(self, on_stage: Callable[[str], None] | None) -> None:
        super().__init__(pauses=[0.1] * 4)
        self._on_stage = on_stage

    async def call(self, stage: Callable[..., Awaitable[Any]], *args: Any, **parameters: Any) -> Any:
        if self._on_stage:
            self._on_stage(stage.__name__)
        return await super().call(stage, *args, **parameters)


def run(job: Path, *, on_stage: Callable[[str], None] | None = None, **parameters: Any) -> dict[str, Any]:
    """The pump over a job, in this process. Returns the run's summary."""
    with orchestrated_by(ThisProcess(on_stage)):
        return asyncio.run(pump(str(job), **parameters))


def run_flow(job: Path, **parameters: Any) -> dict[str, Any]:
    """The same as Prefect's flow: for tests of what Prefect has to do with it, which ask for `prefect_server`."""
    return asyncio.run(run_job(str(job), **parameters))


def wait_until(seen: Callable[[], object], *, within_seconds: float = 300) -> None:
    """Look until it is seen, and leave the processor to what is looked at. What takes minutes has gone wrong."""
    end = time.monotonic() + within_seconds
    while not seen():
        assert time.monotonic() < end, "it takes too long"
        threading.Event().wait(0.02)


def ask_ledger(home: Path, query: str) -> list[Any]:
    """The rows of a query on the ledger under `home`."""
    ledger = Ledger(ledger_url(None, home))
    with ledger.view() as tx:
        found = list(tx.exec_driver_sql(query).all())
    ledger.close()
    return found


def answers_of(home: Path, results: str = "results") -> dict[str, dict[str, Any]]:
    """What stands in a Parquet sink: key → answer. Fails when a key stands there twice."""
    found: dict[str, dict[str, Any]] = {}
    for part in sorted((home / results).glob("*.parquet")):
        for row in pq.read_table(part).to_pylist():
            assert row["row_key"] not in found, f"{row['row_key']} was loaded twice"
            found[row.pop("row_key")] = row
    return found
