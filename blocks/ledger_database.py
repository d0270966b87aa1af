"""Where the ledger is, and where files wait on their way."""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks.documents import stored
from blocks.model_ladder import overrides_in_force
from blocks.tool_server import servers_in_force
from rowtide.errors import LeaseLost
from rowtide.ledger import ledger_leases
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.sinks.sinks import open_sink
from rowtide.work import Plan, Work, open_work, plan

SLUG = "rowtide-ledger"
LOOK_AGAIN_SECONDS = 0.5
ONLY_ENVIRONMENT = "ROWTIDE_LEDGER_FROM_ENVIRONMENT"  # set by the command line, for itself

log = logging.getLogger(__name__)


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
        """The ledger, open and migrated, for the length of the block."""
        ledger = Ledger(ledger_url(self.url.get_secret_value() if self.url else None, self.home))
        try:
            yield ledger
        finally:
            ledger.close()

    async def get_plan(self, folder: Path, source: str | None, tiers: list[str] | None = None) -> Plan:
        """The job in a folder, found fit to run, maybe on another ladder, and to load into its sink.

        Raises UserMistake.
        """
        provided = await servers_in_force()
        environment = {**os.environ, **provided.secrets}
        found = await plan(folder, source, environment, await overrides_in_force(), tiers, provided)
        open_sink(found.job.spec.sink, self.home, found.job.answer, os.environ)[0].check()
        return found

    @asynccontextmanager
    async def get_work(self, run_id: str) -> AsyncGenerator[Work]:
        """A run of this ledger, opened for work by this process alone; waits while another works on it."""
        overrides, provided = await overrides_in_force(), await servers_in_force()
        with self.get_ledger() as ledger:
            async with _leased(ledger, run_id):
                environment = {**os.environ, **provided.secrets}
                yield open_work(ledger, self.home, run_id, environment, overrides, provided)


@asynccontextmanager
async def _leased(ledger: Ledger, run_id: str) -> AsyncGenerator[None]:
    me = ledger_leases.holder(secrets.token_hex(4))
    waits_for = None
    while other := _take(ledger, run_id, me):
        if other != waits_for:
            log.warning("run %s is being worked on by %s; this process waits its turn", run_id, other)
        waits_for = other
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    over = threading.Event()
    # A thread, because a stage may keep the event loop busy for longer than a lease.
    renewing = threading.Thread(target=_renew, args=(ledger, run_id, me, over), daemon=True)
    renewing.start()
    ledger.guard = partial(ledger_leases.guard, run_id=run_id, me=me)
    try:
        yield
    finally:
        over.set()
        renewing.join()
        ledger.guard = None
        with ledger.page() as tx:
            ledger_leases.release(tx, run_id, me)


def _take(ledger: Ledger, run_id: str, me: str) -> str | None:
    with ledger.page() as tx:
        return ledger_leases.take(tx, run_id, me, now=datetime.now(UTC))


def _renew(ledger: Ledger, run_id: str, me: str, over: threading.Event) -> None:
    while not over.wait(ledger_leases.RENEW_EVERY_SECONDS):
        try:
            with ledger.page() as tx:
                ledger_leases.renew(tx, run_id, me, now=datetime.now(UTC))
        except LeaseLost:
            return
