"""Where the ledger is, and where files wait on their way: a run of it, opened for work."""

import os
import stat
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from configuration.claude_settings import ClaudeSettings
from configuration.model_overrides import model_overrides_in_force
from configuration.operator import current_operator
from configuration.tool_places import tool_places_in_force
from rowtide.ledger.engine import PATIENCE_SECONDS
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.masking import register_secrets
from rowtide.sinks.rehearsal_sink import with_rehearsal_sink
from rowtide.sinks.sinks import open_sink
from rowtide.stages.preflight import Plan, plan_run
from rowtide.stages.run_context import RunContext, open_run
from rowtide.stages.worker import How, worker_of
from rowtide.tools.operator_servers import OperatorServers

ONLY_ENVIRONMENT = "ROWTIDE_LEDGER_FROM_ENVIRONMENT"  # set by the command line, for itself


@dataclass(frozen=True)
class LedgerSettings:
    """The database that never forgets where each row is."""

    url: str | None = field(repr=False)
    """SQLAlchemy's; None: a SQLite file in the home."""
    home: Path
    """The folder for the ledger's file, spooled bodies, results and reports."""

    @classmethod
    def from_environment(cls) -> "LedgerSettings":
        """As ROWTIDE_LEDGER and ROWTIDE_HOME say."""
        home = Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()
        return cls(os.environ.get("ROWTIDE_LEDGER") or None, home)

    @classmethod
    async def in_force(cls) -> "LedgerSettings":
        """As the environment says; what it leaves open, as the operator says. Raises WorldError.

        A command of `rowtide` has its ledger from the environment alone: what it shows afterwards is in that one.
        """
        configured = cls.from_environment()
        if os.environ.get("ROWTIDE_LEDGER") or os.environ.get(ONLY_ENVIRONMENT):
            return configured
        if (found := await current_operator().filled_in(cls)) is None:
            return configured
        return cls(found.url, configured.home if os.environ.get("ROWTIDE_HOME") else found.home.resolve())

    @contextmanager
    def get_ledger(self) -> Generator[Ledger]:
        """The ledger, open and migrated, for the length of the block. Closes the home to everybody but its owner."""
        _make_private(self.home)
        url = ledger_url(self.url, self.home)
        ledger = Ledger(url, patience_seconds=PATIENCE_SECONDS)
        try:
            yield ledger
        finally:
            ledger.close()

    async def get_plan(self, folder: Path, source: str | None, tiers: list[str] | None = None) -> Plan:
        """The job in a folder, found fit to run, maybe on another ladder, and to load into its sink.

        Raises UserMistake.
        """
        provided = await tool_places_in_force()
        environment = _known(provided)
        api = await ClaudeSettings.api_in_force()
        found = await plan_run(folder, source, environment, await model_overrides_in_force(), tiers, provided)
        found = replace(found, job=with_rehearsal_sink(found.job, api.name), api=api)
        open_sink(found.job.spec.sink, self.home, found.job.answer, os.environ, found.job.folder)[0].check()
        return found

    @asynccontextmanager
    async def get_run_alone(self, run_id: str) -> AsyncGenerator[RunContext]:
        """A run of this ledger, opened for work by this process alone; waits while another works on it alone."""
        async with self._opened(run_id, "alone") as context:
            yield context

    @asynccontextmanager
    async def get_run_if_free(self, run_id: str) -> AsyncGenerator[RunContext]:
        """The same without waiting: `work.worker.is_alone` says whether nobody else works on it alone."""
        async with self._opened(run_id, "alone if free") as context:
            yield context

    @asynccontextmanager
    async def get_shared_run(self, run_id: str) -> AsyncGenerator[RunContext]:
        """A run of this ledger, opened for what many workers may do at a time, each with what it has claimed.

        SQLite has one writer at a time: there they take turns.
        """
        async with self._opened(run_id, "with others") as context:
            yield context

    @asynccontextmanager
    async def _opened(self, run_id: str, how: How) -> AsyncGenerator[RunContext]:
        overrides, provided = await model_overrides_in_force(), await tool_places_in_force()
        with self.get_ledger() as ledger:
            if how == "with others" and ledger.engine.dialect.name == "sqlite":
                how = "alone"
            async with worker_of(ledger, run_id, how) as worker:
                environment = _known(provided)
                opened = open_run(ledger, self.home, run_id, environment, overrides, provided)
                yield replace(opened, worker=worker)


def _known(provided: OperatorServers) -> dict[str, str]:
    """The environment that a job's servers are let in with, whose secrets no error will say."""
    register_secrets(os.environ)
    register_secrets(provided.secrets, are_secret=True)
    return {**os.environ, **provided.secrets}


def _make_private(home: Path) -> None:
    """Make the home, or close it, and write what this process writes for its owner alone: it holds the customer's rows.

    A folder all share, such as /tmp, is left alone.
    """
    os.umask(0o077)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = home.stat().st_mode
    if mode & 0o077 and not mode & stat.S_ISVTX:
        home.chmod(0o700)
