"""Strangers beside the storm: half heads, slow bodies, huge bodies, unsigned messages, on many connections at once.

And what an operator sees meanwhile: how long `/health` takes, how much memory the receiver holds.
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

KINDS = ("half head", "slow body", "huge body", "unsigned")
SIGNED = "webhook-id: x\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1," + "A" * 43 + "=\r\n"
LOOK_EVERY_SECONDS = 0.2


@dataclass
class Seen:
    """What was seen from outside."""

    health_seconds: list[float] = field(default_factory=list[float])
    down: int = 0
    """Times that nobody listened: it was killed, and not up again."""
    not_answered: int = 0
    """Times that it listened, and did not answer within ten seconds or broke off."""
    most_bytes: int = 0
    strangers: int = 0


async def besiege(port: int, count: int, seen: Seen) -> None:
    """Keep so many hostile connections open, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for n in range(count):
            group.create_task(_stranger(port, KINDS[n % len(KINDS)], seen, random.Random(n)))


async def _stranger(port: int, kind: str, seen: Seen, chance: random.Random) -> None:
    while True:
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            seen.strangers += 1
            try:
                writer.write(_head(kind))
                await writer.drain()
                async with asyncio.timeout(60):
                    while kind == "slow body" and not (reader.at_eof() or writer.is_closing()):
                        writer.write(b"[" * 1000)
                        await asyncio.sleep(1)
                    await reader.read()
            finally:
                writer.close()
        await asyncio.sleep(chance.uniform(1, 10))


def _head(kind: str) -> bytes:
    line = "POST /v1/inbox/storm HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    match kind:
        case "half head":
            return line.encode()
        case "slow body":
            return f"{line}{SIGNED}content-length: 900000\r\n\r\n".encode()
        case "huge body":
            return f"{line}{SIGNED}content-length: 1000000000\r\n\r\n".encode() + b"[" * 1_000_000
        case _:
            return f"{line}content-length: 20\r\n\r\n".encode() + b"[" * 20


async def watch(port: int, receiver: list[int], seen: Seen) -> None:
    """Ask after the receiver's health five times a second, and weigh its process, until cancelled."""
    while True:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if b" 200 " in await reader.readline():
                    seen.health_seconds.append(time.monotonic() - begun)
                else:
                    seen.not_answered += 1
                writer.close()
        except ConnectionRefusedError:
            seen.down += 1
        except (OSError, TimeoutError):
            seen.not_answered += 1
        with suppress(psutil.Error):
            seen.most_bytes = max(seen.most_bytes, *(psutil.Process(each).memory_info().rss for each in receiver), 0)
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def report(seen: Seen, log_bytes: int) -> dict[str, int]:
    """Print it. Returns what is over its bound."""
    took = sorted(seen.health_seconds) or [0.0]
    print(f"{'hostile connections made':<44}{seen.strangers:>8,}")
    print(f"{'most memory of the receiver, MB':<44}{seen.most_bytes / 1e6:>8,.0f}")
    print(f"{'log of the receiver, MB':<44}{log_bytes / 1e6:>8,.2f}")
    print(
        f"/health took {took[len(took) // 2] * 1000:.0f} ms (median), {took[int(len(took) * 0.99)] * 1000:.0f} ms (p99)"
    )
    asked = len(seen.health_seconds) + seen.down + seen.not_answered
    print(f"/health was asked {asked:,} times; {seen.down:,} times nobody listened, after a kill")
    print(f"{'/health not answered by who listened':<44}{seen.not_answered:>8,}")
    return {"memory over 400 MB": int(seen.most_bytes > 400e6), "log over 5 MB": int(log_bytes > 5e6)}
