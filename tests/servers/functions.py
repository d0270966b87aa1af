"""A job's own functions as tools, most of them bad ones (tests/test_function_tools.py)."""

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
from functools import lru_cache, wraps
from typing import Annotated, Any

from pydantic import BaseModel, Field

UNUSED = print  # no function of this file


class Place(BaseModel):
    """A place on a map."""

    name: str
    people: int | None = None


def add(a: int, b: int = 1) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


async def slow_add(a: int, b: int) -> int:
    """Add two numbers, while others are added too."""
    await asyncio.to_thread(len, "")
    return a + b


def noted(function: Any) -> Any:
    """Not a tool that anybody means, and yet it is one: it is public, typed and documented."""

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return call


@noted
def find(place: Annotated[str, Field(description="Its name, as it is written there.")]) -> Place:
    """Find a place."""
    return Place(name=place, people=len(place))


@lru_cache
def again(text: str) -> str:
    """Say it again; a text is a text."""
    return text


def talk(words: str) -> str:
    """Print, and read what nobody wrote."""
    print(words)  # noqa: T201 # what a job's author leaves in
    subprocess.run(["echo", "of a child"], check=True)
    return f"{words}, {sys.stdin.read()!r}"


def nothing(x: int) -> None:
    """Return nothing."""


def odd(kind: str) -> Any:
    """Return what JSON can hardly hold."""
    return {"nan": float("nan"), "half": "\ud800", "nul": "a\0b", "long": 10**30, "bytes": b"\xff", "set": {1}}[kind]


def large(megabytes: int) -> str:
    """Return so many megabytes."""
    return "x" * (megabytes * 1_000_000)


def refuse(what: str) -> str:
    """Raise an error with a reason."""
    raise LookupError(f"there is no {what}")


def crash(how: str) -> str:
    """End the process."""
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "sys.exit":
        sys.exit("enough")
    return how


def hang(seconds: float) -> str:
    """Say nothing for so long."""
    threading.Event().wait(seconds)
    return "awake"


async def hang_the_loop(seconds: float) -> str:
    """Say nothing for so long, and keep everybody else waiting."""
    threading.Event().wait(seconds)
    return "awake"


def pay(amount: int, idempotency_key: str) -> dict[str, object]:
    """Pay, once for each key."""
    return {"paid": amount, "key": idempotency_key}


def _private(x: int) -> int:  # pyright: ignore[reportUnusedFunction] # it is here to be left out
    """Not a tool."""
    return x
