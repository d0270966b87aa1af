"""Shows our loggers' lines on the flow run's page."""

import logging

from prefect.settings import get_current_settings

from orchestration.set_up_observability import OURS


def show_logs_on_page() -> None:
    """Set our loggers to INFO where Prefect shows them: it gives an extra logger a handler but no level, so the root's
    WARNING would count.
    """
    for name in set(OURS).intersection(get_current_settings().logging.extra_loggers or ()):
        logging.getLogger(name).setLevel(logging.INFO)
