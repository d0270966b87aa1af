"""What our loggers say, on the flow run's page."""

import logging

from prefect.settings import get_current_settings

from orchestration.set_up_observability import OURS


def show_logs_on_page() -> None:
    """Let INFO through where Prefect takes our lines: it gives an extra logger a handler, and no level, so that the
    root's WARNING would count."""
    for name in set(OURS).intersection(get_current_settings().logging.extra_loggers or ()):
        logging.getLogger(name).setLevel(logging.INFO)
