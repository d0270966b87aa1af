"""What a tool server is let in with: filled in where it stands as `${NAME}`, and taken out of all that the server says.

A secret is every value that is filled in from the environment, and what is written out as a password, a token or a
key. It is found as it is, and as URLs, JSON, base64 and hexadecimal write it. A value shorter than SECRET_CHARS is not
looked for: it would tear holes into any text.
"""

import base64
import json
import logging
import re
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from rowtide.errors import UserMistake

SECRET_CHARS = 6
ENCODED_CHARS = 8  # of base64: fewer would be found in any text
PLAIN = {"HOME", "PATH", "LANG", "TMPDIR", "USER", "PWD"}  # names of no secrets: every program is told them
FILLED = re.compile(r"\$\{(\w+)\}")
SOUNDS_SECRET = re.compile(
    r"auth|token|secret|passw|pwd|cookie|credential|signature|(api|access|private|^x?)[-_]?key|^key$", re.I
)

# Loggers of libraries that write URLs, and what servers say.
TALKATIVE = (
    *("httpx2", "httpcore", "client", "mcp.client.client", "mcp.client.streamable_http", "mcp.client.caching"),
    *("mcp.shared.jsonrpc_dispatcher", "mcp.shared.tool_name_validation"),
)


class Secrets:
    """The secrets of one server, or one registry; `place` is its key in job.yaml."""

    def __init__(self, place: str, environment: Mapping[str, str]) -> None:
        self._place, self._environment = place, environment
        self._known: dict[str, str] = {}
        self._names: list[tuple[str, str]] = []
        """Each way to write a secret, and what stands for it; the longest first."""

    def fill(self, value: str, *, key: str = "", name: str = "") -> str:
        """Fill in every `${NAME}` of a value that is called `name`. Raises UserMistake for one that is not set."""

        def known(found: re.Match[str]) -> str:
            if found[1] not in self._environment:
                where = ".".join(filter(None, [self._place, key]))
                raise UserMistake(f"{found[1]} is not set in the environment", file="job.yaml", key=where)
            if found[1] not in PLAIN:
                self._keep(f"${{{found[1]}}}", self._environment[found[1]])
            return self._environment[found[1]]

        filled = FILLED.sub(known, value)
        if SOUNDS_SECRET.search(name):
            self._keep(f"[{name}]", filled)
            self._keep(f"[{name}]", filled.rpartition(" ")[2])  # what stands after `Bearer`
        return filled

    def fill_url(self, url: str, *, key: str = "") -> str:
        """The same of a URL, whose password and tokens are secrets too."""
        filled = self.fill(url, key=key)
        parts = urlsplit(filled)
        if parts.password:
            self._keep("[password]", unquote(parts.password))
        for name, value in parse_qsl(parts.query):
            if SOUNDS_SECRET.search(name):
                self._keep(f"[{name}]", value)
        return filled

    def hide(self, text: str) -> str:
        """The text with the name of each secret in its place."""
        for written, name in self._names:
            text = text.replace(written, name)
        return text

    def hide_in(self, value: Any) -> Any:
        """The same of every text in a value of JSON, names of members included."""
        match value:
            case str():
                return self.hide(value)
            case list():
                return [self.hide_in(each) for each in value]
            case dict():
                return {self.hide(str(name)): self.hide_in(each) for name, each in value.items()}
            case _:
                return value

    def _keep(self, name: str, value: str) -> None:
        if len(value) < SECRET_CHARS or value in self._known:
            return
        self._known[value] = name
        found = {written: called for value, called in self._known.items() for written in _written(value)}
        self._names = sorted(found.items(), key=lambda each: -len(each[0]))


@contextmanager
def discreet(hide: Callable[[str], str]) -> Generator[None]:
    """Keep secrets out of the logs of the libraries that servers are reached with."""

    def hide_in(record: logging.LogRecord) -> bool:
        trouble = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        record.msg, record.args = hide(f"{record.getMessage()}\n{trouble}".strip()), ()
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


def _written(value: str) -> Iterator[str]:
    """A secret in each way that it may be written."""
    raw = value.encode("utf-8", "surrogateescape")
    for is_ascii in (True, False):
        once = json.dumps(value, ensure_ascii=is_ascii)[1:-1]
        yield from (value, once, json.dumps(once, ensure_ascii=is_ascii)[1:-1])  # JSON in JSON
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield from (quoted, re.sub("%..", lambda found: found[0].lower(), quoted))
    yield from (raw.hex(), raw.hex().upper())
    for before in range(3):  # base64 of a longer text holds it in one of three ways, but for its ends
        encoded = base64.b64encode(bytes(before) + raw).decode()
        inner = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(inner) >= ENCODED_CHARS:
            yield from (inner, inner.translate({ord("+"): "-", ord("/"): "_"}))
