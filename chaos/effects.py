"""Every effect a process has on the world, numbered; and death just before or just after the n-th.

Only libraries are wrapped, never our own modules: a commit is SQLAlchemy's, a call is httpx2's, a tool is mcp's, a
file is the standard library's. What a stage does between two effects is gone with the process, so dying at each of
them is dying everywhere.
"""

import io
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import httpx2
import mcp
from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

KILLED = 137  # what a shell says of a process that got SIGKILL

When = Literal["before", "after"]

ONE_OF_MANY = re.compile(r"[0-9a-f]{12}|msgbatch_\w+")
WRITE = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE)\s+(\w+)")


@dataclass(frozen=True, slots=True)
class Death:
    """When a process dies: on which side of which effect, counted from 1."""

    number: int
    when: When


class Effects:
    """The effects of this process so far, by label. `stage` goes in front of each label."""

    def __init__(self, home: Path, death: Death | None) -> None:
        self.labels: list[str] = []
        self.stage = ""
        self._home, self._death = str(home), death
        self._tables: dict[str, None] = {}

    def install(self) -> None:
        """Wrap the libraries of this process, for good: it is a child that lives one life."""
        self._watch_commits()
        httpx2.AsyncClient.send = self._around_async(httpx2.AsyncClient.send, _call)
        mcp.Client.call_tool = self._around_async(mcp.Client.call_tool, _tool)
        os.fsync = self._around(os.fsync, self._fsync)
        io.open = self._around(io.open, self._write)
        for name in ("rename", "replace"):
            setattr(os, name, self._around(getattr(os, name), self._rename))
        for name in ("remove", "unlink"):
            setattr(os, name, self._around(getattr(os, name), self._remove))

    def _watch_commits(self) -> None:
        event.listen(Engine, "before_cursor_execute", self._note_table)
        event.listen(Engine, "begin", lambda _: self._tables.clear())
        DefaultDialect.do_commit = self._around(DefaultDialect.do_commit, self._commit)

    def _around(self, do: Callable[..., Any], name: Callable[..., str | None]) -> Callable[..., Any]:
        @wraps(do)
        def wrapped(*args: Any, **options: Any) -> Any:
            label = name(*args, **options)
            if label is None:
                return do(*args, **options)
            number = self._begin(label)
            done = do(*args, **options)
            self._end(number)
            return done

        return wrapped

    def _around_async(
        self, do: Callable[..., Awaitable[Any]], name: Callable[..., str]
    ) -> Callable[..., Awaitable[Any]]:
        @wraps(do)
        async def wrapped(*args: Any, **options: Any) -> Any:
            number = self._begin(name(*args, **options))
            done = await do(*args, **options)
            self._end(number)
            return done

        return wrapped

    def _begin(self, label: str) -> int:
        self.labels.append(f"{self.stage}: {ONE_OF_MANY.sub('…', label)}")
        number = len(self.labels)
        self._die_if(Death(number, "before"))
        return number

    def _end(self, number: int) -> None:
        self._die_if(Death(number, "after"))

    def _die_if(self, now: Death) -> None:
        if now == self._death:
            os._exit(KILLED)

    def _note_table(self, _: object, __: object, statement: str, *___: object) -> None:
        if found := WRITE.match(statement):
            self._tables[found[1]] = None

    def _commit(self, *_: object) -> str:
        tables, self._tables = ", ".join(self._tables) or "nothing", {}
        return f"commit {tables}"

    def _fsync(self, descriptor: int) -> str | None:
        return self._at_home("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())

    def _write(self, file: Any, mode: str = "r", *_: object, **__: object) -> str | None:
        return self._at_home("write", file) if set(mode) & set("wax+") else None

    def _rename(self, _: Any, into: Any, **__: object) -> str | None:
        return self._at_home("rename to", into)

    def _remove(self, file: Any, **__: object) -> str | None:
        return self._at_home("remove", file)

    def _at_home(self, verb: str, file: Any) -> str | None:
        """A label for a file of the run's; None for anyone else's."""
        path = os.fspath(file) if isinstance(file, str | os.PathLike) else ""
        return f"{verb} {Path(path).name}" if path.startswith(self._home) else None


def _call(_: object, request: httpx2.Request, **__: object) -> str:
    return f"{request.method} {request.url.path}"


def _tool(_: object, tool: str, *__: object, **___: object) -> str:
    return f"tool {tool}"
