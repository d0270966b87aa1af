"""Keeps the connector's credentials off the disk: bodies hold placeholders, filled in when they are sent.

Where a server's `${NAME}` stands, the body has a mark: the batch's tag, which nobody outside knows, and the name. The
value replaces it on the way out.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path

from rowtide.errors import UserMistake

CHUNK_BYTES = 1 << 20


def secret_placeholders(tag: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return variable → its mark, padded to its value's length or more: a sent body is never longer than the file."""
    return {name: f"{tag}.{name}.".ljust(len(_in_json(value)), "~") + "." for name, value in environment.items()}


class SealedBody:
    """A body on disk, its secrets filled in when sent, and its length. Raises UserMistake for an unset variable."""

    def __init__(self, file: Path, tag: str = "", environment: Mapping[str, str] | None = None) -> None:
        self._file, self._tag, self._environment = file, tag, environment
        self.length = file.stat().st_size if environment is None else sum(map(len, self.chunks()))

    def chunks(self) -> Iterator[bytes]:
        """Yield the body's bytes, secrets filled in."""
        with self._file.open("rb") as source:
            read = iter(partial(source.read, CHUNK_BYTES), b"")
            yield from read if self._environment is None else self._unsealed(read, self._environment)

    async def sent(self) -> AsyncIterator[bytes]:
        """Yield the same asynchronously."""
        for chunk in self.chunks():
            yield chunk

    def _unsealed(self, read: Iterator[bytes], environment: Mapping[str, str]) -> Iterator[bytes]:
        mark = re.compile(rb"%b\.([^.]+)\.~*\." % self._tag.encode())
        next_request = b'{"custom_id":"%b-' % self._tag.encode()
        rest = b""
        for chunk in read:
            whole, found, begun = (rest + chunk).rpartition(next_request)  # a mark may be cut in two, but no request is
            rest = found + begun
            yield mark.sub(partial(_value, environment), whole)
        yield mark.sub(partial(_value, environment), rest)


def _value(environment: Mapping[str, str], found: re.Match[bytes]) -> bytes:
    name = found[1].decode()
    if name not in environment:
        raise UserMistake(f"{name} is not set in the environment", file="job.yaml", key="tools")
    return _in_json(environment[name])


def _in_json(value: str) -> bytes:
    return json.dumps(value).encode()[1:-1]
