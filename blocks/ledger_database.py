"""Where the ledger is, and where files wait on their way."""

import asyncio
import os
import secrets
import stat
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks.claude_credentials import ClaudeCredentials
from blocks.documents import stored
from blocks.model_ladder import overrides_in_force
from blocks.tool_server import servers_in_force
from rowtide import clock
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.claims import Worker
from rowtide.ledger.engine import PATIENCE_SECONDS, LedgerAway
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.masking import know_secrets
from rowtide.observing.event_log import logger
from rowtide.observing.supervision import Background, supervise_thread
from rowtide.sinks.rehearsal_sink import in_rehearsal
from rowtide.sinks.sinks import open_sink
from rowtide.stages.preflight import Plan, plan
from rowtide.stages.run_context import RunContext, open_run
from rowtide.tools.provided import Provided

SLUG = "rowtide-ledger"
LOOK_AGAIN_SECONDS = 0.5
ONLY_ENVIRONMENT = "ROWTIDE_LEDGER_FROM_ENVIRONMENT"  # set by the command line, for itself

WATCH = ledger_leases.LeaseWatch()  # what this process has seen of others' leases

How = Literal["alone", "alone if free", "with others"]

log = logger(__name__)


class LedgerDatabase(Block):
    """The database that never forgets where each row is.

    Example:
        Load the block and open the ledger:
        ```python
        from blocks.ledger_database import LedgerDatabase

        database = LedgerDatabase.load("BLOCK_NAME")
        database.get_ledger()
        ```
    """

    _block_type_name = "Rowtide Ledger"
    _block_type_slug = SLUG
    _description = "The database that never forgets where each row is, and the folder beside it."
    _documentation_url = HttpUrl("https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls")

    url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL; by default a SQLite file in the folder below."
    )
    home: Path = Field(
        default=Path(".rowtide"), description="Folder for the ledger file, spooled bodies, results and reports."
    )

    @classmethod
    def from_environment(cls) -> "LedgerDatabase":
        """As ROWTIDE_LEDGER and ROWTIDE_HOME say."""
        url = os.environ.get("ROWTIDE_LEDGER")
        home = Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()
        return cls(url=SecretStr(url) if url else None, home=home)

    @classmethod
    async def in_force(cls) -> "LedgerDatabase":
        """As the environment says; what it leaves open, as the block `default` says. Raises WorldError.

        A command of `rowtide` has its ledger from the environment alone: what it shows afterwards is in that one.
        """
        said = cls.from_environment()
        if os.environ.get("ROWTIDE_LEDGER") or os.environ.get(ONLY_ENVIRONMENT) or not (found := await stored(SLUG)):
            return said
        block = cls.model_validate(found)
        return cls(url=block.url, home=said.home if os.environ.get("ROWTIDE_HOME") else block.home.resolve())

    @contextmanager
    def get_ledger(self) -> Generator[Ledger]:
        """The ledger, open and migrated, for the length of the block. Closes the home to everybody but its owner."""
        _make_private(self.home)
        url = ledger_url(self.url.get_secret_value() if self.url else None, self.home)
        ledger = Ledger(url, patience_seconds=PATIENCE_SECONDS)
        try:
            yield ledger
        finally:
            ledger.close()

    async def get_plan(self, folder: Path, source: str | None, tiers: list[str] | None = None) -> Plan:
        """The job in a folder, found fit to run, maybe on another ladder, and to load into its sink.

        Raises UserMistake.
        """
        provided = await servers_in_force()
        environment = _known(provided)
        api = await ClaudeCredentials.api_in_force()
        found = await plan(folder, source, environment, await overrides_in_force(), tiers, provided)
        found = replace(found, job=in_rehearsal(found.job, api.name), api=api)
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
        overrides, provided = await overrides_in_force(), await servers_in_force()
        with self.get_ledger() as ledger:
            if how == "with others" and ledger.engine.dialect.name == "sqlite":
                how = "alone"
            async with _worker(ledger, run_id, how) as worker:
                environment = _known(provided)
                opened = open_run(ledger, self.home, run_id, environment, overrides, provided)
                yield replace(opened, worker=worker)


def _known(provided: Provided) -> dict[str, str]:
    """The environment that a job's servers are let in with, whose secrets no error will say."""
    know_secrets(os.environ)
    know_secrets(provided.secrets, are_secret=True)
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


@asynccontextmanager
async def _worker(ledger: Ledger, run_id: str, how: How) -> AsyncGenerator[Worker]:
    """Be a worker of a run for the length of the block."""
    me = ledger_leases.holder(secrets.token_hex(4))
    is_alone = await _join(ledger, run_id, me, how)
    over = threading.Event()
    # A thread, because a stage may keep the event loop busy for longer than a lease.
    renewal = Background(
        f"the lease renewer of run {run_id}",
        "the lease runs out a minute after its last renewal: then another process may take the run over, and this one "
        "commits nothing more",
    )
    renew = partial(_renew, ledger, run_id, me, over, renewal)
    # In our context: Prefect shows what the thread logs on this run's page.
    renewing = threading.Thread(target=copy_context().run, args=(supervise_thread, renewal, renew, over), daemon=True)
    renewing.start()
    guards = [ledger_claims.guard, *([ledger_leases.guard] if is_alone else [])]
    ledger.guards += [partial(guard, run_id=run_id, me=me) for guard in guards]
    try:
        yield Worker(me, is_alone)
    finally:
        over.set()
        renewing.join()
        ledger.guards.clear()
        with suppress(LedgerAway), ledger.page(waits=False) as tx:  # else the lease runs out by itself
            ledger_leases.release(tx, run_id, me)
            ledger_claims.leave(tx, me)


async def _join(ledger: Ledger, run_id: str, me: str, how: How) -> bool:
    """Become a worker; waits where it must be alone. Returns whether it is."""
    waits_for, run_out = None, WATCH.has_run_out
    while True:
        reap_dead(ledger, run_id, me)
        now = clock.now()
        with ledger.page() as tx:
            other = None if how == "with others" else ledger_leases.take(tx, run_id, me, now=now, has_run_out=run_out)
            if other is None or how != "alone":
                ledger_claims.join(tx, run_id, me, now=now)
                return how != "with others" and other is None
        if other != waits_for:
            log.warning("run %s is being worked on by %s; this process waits its turn", run_id, other)
        waits_for = other
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def reap_dead(ledger: Ledger, run_id: str, me: str) -> None:
    """Let others have what dead workers of a run had in hand. Nobody buries itself."""
    now = clock.now()
    with ledger.view() as tx:
        dead = ledger_claims.dead(tx, run_id, me, now=now, has_run_out=WATCH.has_run_out)
    for holder, until in dead:
        with ledger.page(is_guarded=False) as tx:  # it may have to wait, so it holds on to nothing
            if ledger_claims.reap(tx, holder, until):
                log.warning("run %s: worker %s died; what it had in hand is free", run_id, holder)


def _renew(ledger: Ledger, run_id: str, me: str, over: threading.Event, renewal: Background) -> None:
    while not over.wait(0 if renewal.is_failing else ledger_leases.RENEW_EVERY_SECONDS):
        now = clock.now()
        with ledger.page(is_guarded=False, waits=False) as tx:
            ledger_claims.renew(tx, me, now=now)
            ledger_leases.renew(tx, run_id, me, now=now)
        renewal.succeeded()
        reap_dead(ledger, run_id, me)
