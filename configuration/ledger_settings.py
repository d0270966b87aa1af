"""Settings of the ledger and its home folder, and runs opened for work."""

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
from rowtide.stages.worker_lease import How, worker_of
from rowtide.tools.operator_servers import OperatorServers

ONLY_ENVIRONMENT = "ROWTIDE_LEDGER_FROM_ENVIRONMENT"  # set by the command line for itself


@dataclass(frozen=True)
class LedgerSettings:
    """The ledger's URL, and the home folder."""

    url: str | None = field(repr=False)
    """An SQLAlchemy URL; None means a SQLite file in the home."""
    home: Path
    """The folder for the ledger's file, spooled bodies, results and reports."""

    @classmethod
    def from_environment(cls) -> "LedgerSettings":
        """Read ROWTIDE_LEDGER and ROWTIDE_HOME."""
        home = Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()
        return cls(os.environ.get("ROWTIDE_LEDGER") or None, home)

    @classmethod
    async def in_force(cls) -> "LedgerSettings":
        """Return the environment's settings; what it leaves open, from the operator. Raises WorldError.

        A `rowtide` command uses the environment alone, so that what it shows afterwards is in the same ledger.
        """
        configured = cls.from_environment()
        if os.environ.get("ROWTIDE_LEDGER") or os.environ.get(ONLY_ENVIRONMENT):
            return configured
        if (found := await current_operator().filled_in(cls)) is None:
            return configured
        return cls(found.url, configured.home if os.environ.get("ROWTIDE_HOME") else found.home.resolve())

    @contextmanager
    def get_ledger(self) -> Generator[Ledger]:
        """Open the ledger, migrated, for the length of the block. Makes the home private to its owner."""
        _make_private(self.home)
        url = ledger_url(self.url, self.home)
        ledger = Ledger(url, patience_seconds=PATIENCE_SECONDS)
        try:
            yield ledger
        finally:
            ledger.close()

    async def get_plan(self, folder: Path, source: str | None, tiers: list[str] | None = None) -> Plan:
        """Return the job in a folder, checked with its sink, on the ladder `tiers` if given.

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
        """Open a run for work by this process alone; waits while another process works on it alone."""
        async with self._opened(run_id, "alone") as context:
            yield context

    @asynccontextmanager
    async def get_run_if_free(self, run_id: str) -> AsyncGenerator[RunContext]:
        """Open a run without waiting: `context.worker.is_alone` says whether this process holds its lease."""
        async with self._opened(run_id, "alone if free") as context:
            yield context

    @asynccontextmanager
    async def get_shared_run(self, run_id: str) -> AsyncGenerator[RunContext]:
        """Open a run for work that many workers share, each on what it has claimed.

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
    """Return the environment for a job's servers, and register its secrets, so that no error shows them."""
    register_secrets(os.environ)
    register_secrets(provided.secrets, are_secret=True)
    return {**os.environ, **provided.secrets}


def _make_private(home: Path) -> None:
    """Create the home, or make it private, and let this process write files for their owner only: they hold customers'
    rows.

    A folder that all share, such as /tmp, is left alone.
    """
    os.umask(0o077)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = home.stat().st_mode
    if mode & 0o077 and not mode & stat.S_ISVTX:
        home.chmod(0o700)
