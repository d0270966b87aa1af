"""One life of a tool server, whatever it is spoken to in: when it can be called, and how it failed.

Whatever the server does, hang, crash or talk nonsense, a call ends in a reply.
"""

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import NamedTuple

from pydantic import ValidationError

from rowtide.errors import UserMistake
from rowtide.tools.server_secrets import ServerSecrets
from rowtide.tools.tool_rules import Listed

START_SECONDS = 30
ERROR_CHARS = 600
LAST_CHARS = 2000  # of what a program wrote to stderr before it ended


class Fate(Enum):
    """What a call reveals about its server: it lives, it may be dead, it may be out of reach, or it is gone."""

    ANSWERED = "the server lives"
    UNANSWERED = "perhaps it does not"
    UNREACHABLE = "perhaps it does not, and the call may not have arrived"
    GONE = "it is over"


class Reply(NamedTuple):
    text: str
    is_error: bool
    fate: Fate


class Session(ABC):
    """One life of a server. One task opens and closes it, as anyio requires; other tasks only make calls."""

    def __init__(self, name: str, secrets: ServerSecrets) -> None:
        self.name, self.secrets = name, secrets
        self.over = asyncio.Event()
        self.last_words = ""
        self.fault = ""
        self.mistake: UserMistake | None = None
        """What somebody must mend before it can start, where that is known."""
        self.listed: dict[str, Listed] = {}
        self.ready = asyncio.Event()
        self.owner = asyncio.create_task(self.live())
        self.owner.add_done_callback(lambda owner: owner.cancelled() or owner.exception())  # read, so never warned of

    @abstractmethod
    async def live(self) -> None:
        """Start, list its tools, set `ready`, and end when it is `over`."""

    @abstractmethod
    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, timeout_seconds: float
    ) -> Reply:
        """Call a tool. Always returns a reply, whatever the server does."""

    async def is_ready(self) -> bool:
        """Wait until it can be called or has failed to start; returns whether it can be called."""
        ready = asyncio.create_task(self.ready.wait())
        try:
            await asyncio.wait([ready, self.owner], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.over.set()  # nobody waits for it any more
            raise
        finally:
            ready.cancel()
        return self.ready.is_set() and not self.owner.done()

    def gone(self) -> Reply:
        """The reply to a call under which the server ended."""
        why = f": {self.fault}" if self.fault else ""
        return error_reply(f"The tool server {self.name!r} stopped while answering{why}.", Fate.GONE)

    def why(self) -> str:
        """Why it never became ready."""
        error = None if self.owner.cancelled() else self.owner.exception()
        if isinstance(error, TimeoutError):
            return f"it did not answer within {START_SECONDS} seconds. {self.last_words}".strip()
        return self.fault or self.last_words or (self.in_short(error) if error else "it ended at once")

    def in_short(self, error: BaseException) -> str:
        """The first real error inside nested exception groups, in one line."""
        while isinstance(error, BaseExceptionGroup) and error.exceptions:
            error = error.exceptions[0]
        words = f"{type(error).__name__}: {error}"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_context=False)[0]
            words = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, but it is {first['input']!r}"
        return " ".join(self.secrets.hide(words).split())[:ERROR_CHARS]


def error_reply(words: str, fate: Fate) -> Reply:
    return Reply(words, True, fate)


def last_words(text: str) -> str:
    """The end of what a program wrote to stderr, in one line."""
    return " ".join(text.split()[-40:])[-LAST_CHARS:]
