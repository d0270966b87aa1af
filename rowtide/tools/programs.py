"""A program that is spoken to in lines: started, listened to and ended, whatever it does.

It stands in a process group of its own, so that what it started ends with it. What it writes to stderr is kept, as far
as its last words.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LINE_BYTES = 16_000_000  # a longer line is no answer: the program is given up
LAST_WORDS_BYTES = 2000
GRACE_SECONDS = 1.0


class Program:
    """One process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = b""
        self._overhearing = asyncio.create_task(self._overhear())

    @classmethod
    async def start(cls, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> "Program":
        """Start it. Raises OSError when there is no such program."""
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
                limit=LINE_BYTES,
            )
        )

    async def lines(self) -> AsyncIterator[bytes]:
        """What it says, line by line, until it says no more or says too much at once."""
        assert self._process.stdout is not None
        with suppress(ValueError, OSError):  # ValueError: the line is longer than LINE_BYTES
            while line := await self._process.stdout.readline():
                yield line
        await asyncio.wait([self._overhearing], timeout=0.1)

    async def send(self, line: bytes) -> None:
        """Say a line to it. Raises OSError when it listens no more."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        await self._process.stdin.drain()

    @property
    def last_words(self) -> str:
        return " ".join(self._said.decode("utf-8", "replace").split()[-40:])

    async def end(self) -> None:
        """Close its stdin, and when that is not enough, end its whole group: asked first, then not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for last_resort in (signal.SIGTERM, signal.SIGKILL, None):
            if await self._has_ended() or last_resort is None:
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, last_resort)
        self._overhearing.cancel()

    async def _has_ended(self) -> bool:
        # Not `wait()` alone: it also waits for pipes that a child of the program may hold open.
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while self._process.returncode is None:
                    await asyncio.sleep(0.005)
        return self._process.returncode is not None

    async def _overhear(self) -> None:
        assert self._process.stderr is not None
        while heard := await self._process.stderr.read(4096):
            self._said = (self._said + heard)[-LAST_WORDS_BYTES:]
