"""Run a program that is spoken to line by line: start it, send and read lines, end it.

It runs under a guardian, so that what it started ends with it, and it with us. What it writes to stderr is kept, as far
as its last words.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rowtide import process_guardian

LINE_BYTES = 4_000_000  # a longer line is no answer: the program is given up
LAST_WORDS_BYTES = 8000
GRACE_SECONDS = 1.0  # for each of: it ends when nobody speaks to it, and when it is told to


class Program:
    """A process from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail = b""
        self.fault = ""
        """Why it is not listened to any more."""
        self._overhearing = asyncio.create_task(self._overhear())

    @classmethod
    async def start(cls, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> "Program":
        """Start a program. Raises OSError when there is no such program."""
        pipe = asyncio.subprocess.PIPE
        if shutil.which(command[0], path=environment.get("PATH")) is None and not (folder / command[0]).is_file():
            raise FileNotFoundError(f"there is no program {command[0]!r}")
        return cls(
            await asyncio.create_subprocess_exec(
                *process_guardian.guarded_command(*command, grace_seconds=GRACE_SECONDS),
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
        """The lines it writes to stdout, until it closes stdout or writes a line that is too long."""
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                yield line
        except ValueError:
            self.fault = f"it wrote more than {LINE_BYTES:,} bytes in one line"
        except OSError:
            pass
        await asyncio.wait([self._overhearing], timeout=0.1)

    async def send(self, line: bytes) -> None:
        """Write a line to its stdin. Raises OSError when it no longer reads."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        await self._process.stdin.drain()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._tail.decode("utf-8", "replace")

    async def end(self) -> None:
        """Close its stdin; if it does not end then, terminate it and all its children, and kill what is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for last_resort, seconds in (
            (signal.SIGTERM, GRACE_SECONDS),
            (signal.SIGKILL, process_guardian.longest_shutdown_seconds(GRACE_SECONDS)),
        ):
            if await self._has_ended(seconds):
                break
            with suppress(ProcessLookupError):
                self._process.send_signal(last_resort)
        self._overhearing.cancel()

    async def _has_ended(self, seconds: float) -> bool:
        # Not `wait()` alone: it also waits for pipes that a child of the program may hold open.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._process.returncode is None:
                    await asyncio.sleep(0.005)
        return self._process.returncode is not None

    async def _overhear(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._tail = (self._tail + chunk)[-LAST_WORDS_BYTES:]
