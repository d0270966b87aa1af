"""Sets up logs as JSON, and tracing. Off unless the environment says so."""

import logging
import os
import sys

from pythonjsonlogger.json import JsonFormatter

from rowtide import tracing
from rowtide.errors import UserMistake
from rowtide.masking import mask_logs, register_secrets

OURS = ("rowtide", "orchestration", "tasks", "blocks", "flows", "webhooks", "cli")
FORMATS = ("human", "json")
FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"
FOR_PEOPLE = "PrefectConsoleHandler"  # known by name: its import takes seconds, and without Prefect it is absent
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}


def set_up_observability() -> None:
    """Set up logs and tracing by ROWTIDE_LOG and the OTEL_* variables; repeating it changes nothing. Raises
    UserMistake.
    """
    register_secrets(os.environ)
    mask_logs()
    tracing.start_tracing(os.environ)
    asked = os.environ.get("ROWTIDE_LOG", "human")
    if asked not in FORMATS:
        raise UserMistake(f"ROWTIDE_LOG is one of {', '.join(FORMATS)}, not {asked!r}")
    if asked == "json":
        _log_in_json()


def _log_in_json() -> None:
    handlers = [each for each in logging.getLogger(OURS[0]).handlers if isinstance(each.formatter, JsonFormatter)]
    if handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(FIELDS, rename_fields=NAMES, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    for name in OURS:
        logger = logging.getLogger(name)
        # Prefect writes the same for people to the same place, here and at the root; its handler for the run's page
        # stays.
        logger.handlers = [each for each in logger.handlers if type(each).__name__ != FOR_PEOPLE]
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
