"""`rowtide metrics`: serve the metrics of all runs for Prometheus."""

from cli.numbers import Port
from cli.open_ledger import open_existing_ledger
from cli.output import err
from webhooks.prometheus import ReceiverMetrics


def metrics(*, host: str = "127.0.0.1", port: Port = 9464) -> int:
    """Serve figures of all runs for Prometheus, at /metrics, until interrupted. One for a ledger is enough.

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port to listen on; 0 picks a free one.
    """
    with open_existing_ledger() as ledger:
        taken, thread = ReceiverMetrics(ledger).serve(host, port)
        err.print(f"metrics on http://{host}:{taken}/metrics")
        thread.join()
    return 0
