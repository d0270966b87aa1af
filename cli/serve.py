"""`rowtide serve`: the only module that imports uvicorn."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import uvicorn
from cyclopts import Parameter

from blocks.webhook_secrets import secrets_in_force
from cli.announcing import Announcer, has_prefect
from cli.homes import home
from cli.measuring import Meters
from cli.numbers import Count, Port
from cli.receiver import Limits, Receiver, application
from cli.say import err
from rowtide.errors import UserMistake
from rowtide.intake.inbox import Inbox
from rowtide.intake.signatures import Secrets
from rowtide.ledger.ledger import Ledger, ledger_url
from tasks.observe import observe

EXIT_STOPPED = 1


def serve(
    *,
    host: str = "127.0.0.1",
    port: Port = 8788,
    unsigned: Annotated[bool, Parameter(negative="")] = False,
    per_second: Count = 2000,
    body_bytes: Count = 1_000_000,
    flush_rows: Count = 1000,
    flush_seconds: Count = 60,
) -> int:
    """Receive rows by webhook for the jobs under jobs/, until interrupted.

    Messages are signed as Standard Webhooks says, with a secret of ROWTIDE_WEBHOOK_SECRETS: whsec_… for all jobs,
    JOB=whsec_… for one, several with a space between them. A job is read when its first message comes.

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port to listen on; 0 picks a free one.
    unsigned
        Take messages from anybody who can reach the port.
    per_second
        The most messages a second for one job, and the most at once; more are told to come again (429).
    body_bytes
        The longest body; a longer one is refused (413).
    flush_rows
        So many waiting rows of a job are due to be flushed.
    flush_seconds
        Rows of a job are due when the oldest has waited so long.
    """
    observe()
    receiver = _receiver(_secrets(unsigned=unsigned), Limits(body_bytes, per_second), flush_rows, flush_seconds)
    config = uvicorn.Config(application(receiver), host=host, port=port, access_log=False, log_config=None)
    server = _Server(config)
    server.run()
    receiver.ledger.close()
    return 0 if server.started else EXIT_STOPPED


def _secrets(*, unsigned: bool) -> Secrets | None:
    """Who may sign. Raises UserMistake where nobody may and nobody said that none need to."""
    if unsigned:
        err.print("warning: --unsigned: whoever can reach this port can send rows and have runs paid for", markup=False)
        return None
    if found := asyncio.run(secrets_in_force()):
        return found
    raise UserMistake(
        "no secret to check signatures with: set ROWTIDE_WEBHOOK_SECRETS, fill in the block "
        "rowtide-webhook-secrets/default, or say --unsigned"
    )


def _receiver(secrets: Secrets | None, limits: Limits, flush_rows: int, flush_seconds: int) -> Receiver:
    ledger = Ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home()), outlives_power=True)
    announcer = Announcer(ledger, flush_rows, flush_seconds) if has_prefect() else None
    if announcer is None:
        err.print("no PREFECT_API_URL: rows are kept, but nobody is told, and no run can be asked for", markup=False)
    inbox = Inbox(ledger, lambda: datetime.now(UTC))
    return Receiver(ledger, inbox, Path("jobs"), secrets, limits, announcer, Meters(ledger))


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        if self.started:
            name, port = self.servers[0].sockets[0].getsockname()[:2]
            err.print(f"receiving on http://{name}:{port}", markup=False)
