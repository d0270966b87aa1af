"""Mask secrets in text: as they stand, and as URLs, JSON, base64 and hexadecimal write them.

`mask_secrets` takes out of a text what this process was started with or was given since: passwords, tokens and keys.
Every error of ours goes through it, and so does every line of a log. What is too short to be a secret, or a word of
everyday, is not looked for: it would tear holes into any text.
"""

import base64
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

SECRET_CHARS = 6
ENCODED_CHARS = 8  # of base64: fewer would be found in any text
SOUNDS_SECRET = re.compile(
    r"auth|token|secret|passw|pwd|cookie|credential|signature|(api|access|private|^x?)[-_]?key|^key$", re.I
)
# Of variables: `PWD` is where we are, AUTHOR is a person, MAX_TOKENS is a number.
NAMES_SECRET = re.compile(
    r"(^|_)(auth|token|secrets?|password|passwd|pass|passphrase|cookie|credentials?|headers|key|apikey)(_|$)", re.I
)
NAMES_FILE = re.compile(r"_(sock|file|path|dir|home)$", re.I)
NAMES_PLACE = re.compile(r"(^|_)(on_call|webhook)_url$", re.I)  # who has such a URL can write there
EVERYDAY = re.compile(r"[a-z]{,11}|[\d.]{,7}", re.I)  # a word, a number
LOGIN = re.compile(r"(\w+://[^:/\s@]*:)(?!\$\{|\*\*\*)[^/\s@]+@")
TOKEN = re.compile(r"\b(sk-[\w-]{8}|whsec_|xox[bap]-|gh[ops]_|Bearer\s+)[\w\-+/=.]+")


class Mask:
    """A set of secrets to be masked in text."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._names: list[tuple[str, str]] = []
        """Each way to write a secret, and what stands for it; the longest first."""

    def keep(self, name: str, value: str) -> None:
        """Mask a value from now on; `name` takes its place."""
        if len(value) < SECRET_CHARS or value in self._known:
            return
        self._known[value] = name
        found = {written: called for value, called in self._known.items() for written in _written(value)}
        self._names = sorted(found.items(), key=lambda each: -len(each[0]))

    def hide(self, text: str) -> str:
        """Return the text with each secret replaced by its name."""
        for written, name in self._names:
            text = text.replace(written, name)
        return text

    def hide_in(self, value: Any) -> Any:
        """Return a JSON value with the secrets in all its texts and member names replaced."""
        match value:
            case str():
                return self.hide(value)
            case list():
                return [self.hide_in(each) for each in value]
            case dict():
                return {self.hide(str(name)): self.hide_in(each) for name, each in value.items()}
            case _:
                return value


_OURS = Mask()


def mask_secrets(text: str) -> str:
    """Return the text without this process's secrets, passwords in URLs, and anything shaped like a token."""
    return TOKEN.sub("***", LOGIN.sub(r"\1***@", _OURS.hide(text)))


def register_secrets(environment: Mapping[str, str], *, are_secret: bool = False) -> None:
    """Have `mask_secrets` mask the secrets among some variables: those whose name says so, and passwords in URLs; with
    `are_secret` all of them.
    """
    for name, value in environment.items():
        for secret in [value] if are_secret else _secrets_in(name, value):
            if not EVERYDAY.fullmatch(secret):
                _OURS.keep(f"[{name}]", secret)


def mask_logs() -> None:
    """Mask secrets in every log record of this process, tracebacks included."""
    made = logging.getLogRecordFactory()
    if getattr(made, "masks", False):
        return

    def make(*args: Any, **parts: Any) -> logging.LogRecord:
        record = made(*args, **parts)
        words = record.getMessage()
        if (plain := mask_secrets(words)) != words:
            record.msg, record.args = plain, ()
        if record.exc_info and record.exc_info[0]:
            trace_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if (plain := mask_secrets(trace_text)) != trace_text:
                record.exc_info, record.exc_text = None, plain
        return record

    make.masks = True  # pyright: ignore[reportFunctionMemberAccess] # so that it is laid over itself never
    logging.setLogRecordFactory(make)


def _secrets_in(name: str, value: str) -> Iterator[str]:
    """The secret parts of a variable's value, the whole first."""
    if "://" in value:
        yield from [value] if NAMES_PLACE.search(name) else _secrets_in_url(value)
    elif NAMES_SECRET.search(name) and not NAMES_FILE.search(name):
        yield value
        for piece in re.split(r"[\s,;]+", value):  # several; or `name=value`, as OTEL_EXPORTER_OTLP_HEADERS has them
            for variant in (piece, piece.partition("=")[2], unquote(piece.partition("=")[2])):
                yield from (variant, variant.rpartition(":")[2], variant.rpartition(" ")[2])


def _secrets_in_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if password != user:
        yield from (password, unquote(password))
    yield from (value for name, value in parse_qsl(parts.query) if SOUNDS_SECRET.search(name))


def _written(value: str) -> Iterator[str]:
    """A secret in each encoding in which it may be written."""
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
