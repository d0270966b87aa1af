"""The secrets of a tool server: filled in for `${NAME}`, and masked in all that the server says.

A secret is every value that is filled in from the environment, and what is written out as a password, a token or a
key.
"""

import logging
import re
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ToolServerSpec
from rowtide.masking import SOUNDS_SECRET, Mask

PLAIN = {"HOME", "PATH", "LANG", "TMPDIR", "USER", "PWD"}  # names of no secrets: every program is told them
INHERITED = ("HOME", "PATH", "LANG", "TMPDIR")
FILLED = re.compile(r"\$\{(\w+)\}")

# Loggers of libraries that write URLs, and what servers say.
TALKATIVE = (
    *("httpx2", "httpcore", "client", "mcp.client.client", "mcp.client.streamable_http", "mcp.client.caching"),
    *("mcp.shared.jsonrpc_dispatcher", "mcp.shared.tool_name_validation"),
)


def environment_of_servers(specs: Mapping[str, ToolServerSpec], environment: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that servers are told: what every program is, and each `${NAME}` of their specs."""
    named = [name for spec in specs.values() for name in FILLED.findall(spec.model_dump_json())]
    return {name: environment[name] for name in (*INHERITED, *named) if name in environment}


class ServerSecrets(Mask):
    """The secrets of one server, or one registry; `place` is its key in job.yaml."""

    def __init__(self, place: str, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._place, self._environment = place, environment

    def fill(self, value: str, *, key: str = "", name: str = "") -> str:
        """Fill in every `${NAME}` of a value that is called `name`. Raises UserMistake for one that is not set."""

        def known(found: re.Match[str]) -> str:
            if found[1] not in self._environment:
                where = ".".join(filter(None, [self._place, key]))
                raise UserMistake(f"{found[1]} is not set in the environment", file="job.yaml", key=where)
            if found[1] not in PLAIN:
                self.keep(f"${{{found[1]}}}", self._environment[found[1]])
            return self._environment[found[1]]

        filled = FILLED.sub(known, value)
        if SOUNDS_SECRET.search(name):
            self.keep(f"[{name}]", filled)
            self.keep(f"[{name}]", filled.rpartition(" ")[2])  # what stands after `Bearer`
        return filled

    def fill_url(self, url: str, *, key: str = "") -> str:
        """Fill in every `${NAME}` of a URL; its password and tokens count as secrets too."""
        filled = self.fill(url, key=key)
        parts = urlsplit(filled)
        if parts.password:
            self.keep("[password]", unquote(parts.password))
        for name, value in parse_qsl(parts.query):
            if SOUNDS_SECRET.search(name):
                self.keep(f"[{name}]", value)
        return filled


@contextmanager
def mask_library_logs(hide: Callable[[str], str]) -> Generator[None]:
    """Keep secrets out of the logs of the libraries that servers are reached with."""

    def hide_in(record: logging.LogRecord) -> bool:
        traceback_text = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        record.msg, record.args = hide(f"{record.getMessage()}\n{traceback_text}".strip()), ()
        record.exc_info = record.exc_text = None
        return True

    loggers = [logging.getLogger(name) for name in TALKATIVE]
    for logger in loggers:
        logger.addFilter(hide_in)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(hide_in)
