"""`rowtide serve`: receive rows by webhook."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from cli.home_folders import home_folder
from cli.numbers import Count, Port
from cli.output import err
from configuration.webhook_secrets import webhook_secrets_in_force
from orchestration.set_up_observability import set_up_observability
from rowtide.errors import UserMistake
from rowtide.intake.signatures import WebhookSecretSet
from rowtide.intake.webhook_row_rules import RowRulesOfJobs
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.observing.repeated_log_lines import limit_logs
from rowtide.stages.extract.inbox import Inbox
from webhooks.http_server import Connections, build_server, connection_limit
from webhooks.prefect_notifier import Announcer, has_prefect
from webhooks.prometheus import ReceiverMetrics
from webhooks.readiness import Lookout
from webhooks.receiver import Receiver, ReceiverLimits, build_application

EXIT_STOPPED = 1


def serve(
    *,
    host: str = "127.0.0.1",
    port: Port = 8788,
    unsigned: bool = False,
    per_second: Count = 2000,
    body_bytes: Count = 1_000_000,
    flush_rows: Count = 1000,
    flush_seconds: Count = 60,
    connections: Count = 1000,
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
    connections
        The most connections at once; with more, the one goes that has been idle or unfinished for longest.
    """
    set_up_observability()
    secrets = _secrets(unsigned=unsigned)
    open_ones = Connections(connection_limit(connections))
    if open_ones.most < connections:
        err.print(f"this process may open so few files that it takes {open_ones.most} connections")
    receiver = _receiver(secrets, ReceiverLimits(body_bytes, per_second), flush_rows, flush_seconds, open_ones)
    limit_logs()
    serving = build_server(build_application(receiver), host, port, open_ones, lambda words: err.print(words))
    serving.run()
    receiver.ledger.close()
    return 0 if serving.started else EXIT_STOPPED


def _secrets(*, unsigned: bool) -> WebhookSecretSet | None:
    """Who may sign. Raises UserMistake where nobody may and nobody said that none need to."""
    if unsigned:
        err.print("warning: --unsigned: whoever can reach this port can send rows and have runs paid for")
        return None
    if found := asyncio.run(webhook_secrets_in_force()):
        return found
    raise UserMistake(
        "no secret to check signatures with: set ROWTIDE_WEBHOOK_SECRETS, fill in the block "
        "rowtide-webhook-secrets/default, or say --unsigned"
    )


def _receiver(
    secrets: WebhookSecretSet | None,
    limits: ReceiverLimits,
    flush_rows: int,
    flush_seconds: int,
    connections: Connections,
) -> Receiver:
    ledger = Ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder()), outlives_power=True)
    announcer = Announcer(ledger, flush_rows, flush_seconds) if has_prefect() else None
    if announcer is None:
        err.print("no PREFECT_API_URL: rows are kept, but nobody is told, and no run can be asked for")
    inbox = Inbox(ledger, lambda: datetime.now(UTC), is_announced=announcer is None)
    row_rules, meters = RowRulesOfJobs(Path("jobs"), os.environ), ReceiverMetrics(ledger, connections.dropped)
    return Receiver(ledger, inbox, row_rules, secrets, limits, announcer, meters, Lookout(ledger))
