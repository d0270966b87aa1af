"""A storm of signed webhooks, with the receiver and the worker killed again and again, and strangers beside.

`python -m benchmarks.storm [MESSAGES] [STRANGERS]`.

Senders do what senders do: what was not answered is signed afresh and sent again, under the same id. The worker goes
on with the runs it began and flushes what waits. At the end everything is counted, from the ledger and from the sink,
and it ends with an error unless each good message is there once and each bad one was refused for what is wrong with it.
"""

import asyncio
import base64
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow.dataset as ds
import yaml
from standardwebhooks import Webhook

from benchmarks.running import JOBS
from benchmarks.servers import servers
from benchmarks.storm_strangers import Seen, besiege, report, watch
from rowtide.ledger.ledger import Ledger, ledger_url

MESSAGES = 50_000
SENDERS = 64
STRANGERS = 2000
KILLS_OF_RECEIVER, KILLS_OF_WORKER = 4, 3
SECRET, STRANGER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
OURS, THEIRS = Webhook(SECRET), Webhook(STRANGER)
PORT = 8797

# How what the receiver says to each kind of message begins.
ANSWERS = ("good: 202 ", "good: 200 repeated", "repeated: 20", "forged: 401 bad_signature", "stale: 401 stale")


@dataclass
class Storm:
    """What is sent, and what came back."""

    letters: list[tuple[str, str]]
    """(message id, kind): good, repeated, forged, stale."""
    strangers: int = 0
    seen: Seen = field(default_factory=Seen)
    receiver: list[int] = field(default_factory=list[int])
    """Its process, while it lives."""
    answers: Counter[str] = field(default_factory=Counter[str])
    unanswered: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    took: list[float] = field(default_factory=list[float])
    next: int = 0


def main() -> None:
    """Let it storm, and print what came of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    strangers = int(sys.argv[2]) if len(sys.argv) > 2 else STRANGERS
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as environment:
        place = Path(folder)
        _job(place)
        storm = Storm(_letters(count), strangers)
        environment = {
            **environment,
            "ROWTIDE_HOME": str(place / "home"),
            "ROWTIDE_WEBHOOK_SECRETS": SECRET,
            "ROWTIDE_PAGE": "0",
            "PYTHONPATH": str(Path.cwd()),
        }
        seconds = asyncio.run(_storm(storm, place, environment))
        account = httpx.get(f"{environment['ANTHROPIC_BASE_URL']}/_emulator/ledger", params={"api_key": "bench"}).json()
        _report(storm, seconds, place / "home", count, billed=account["account"]["cost_micro"])


def _letters(count: int) -> list[tuple[str, str]]:
    chance = random.Random(7)
    kinds = chance.choices(["good", "repeated", "forged", "stale"], [97, 1, 1, 1], k=count)
    good = [f"msg-{n}" for n, kind in enumerate(kinds) if kind == "good"]
    return [(chance.choice(good) if kind == "repeated" else f"msg-{n}", kind) for n, kind in enumerate(kinds)]


def _job(place: Path) -> None:
    folder = place / "jobs" / "storm"
    folder.mkdir(parents=True)
    for file in (JOBS / "one_turn").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    spec = yaml.safe_load((folder / "job.yaml").read_text())
    (folder / "job.yaml").write_text(yaml.safe_dump({**spec, "source": {"inbox": ["id", "message", "customer"]}}))


async def _storm(storm: Storm, place: Path, environment: dict[str, str]) -> float:
    """Send everything, killing all the while; then let the worker finish. Returns how long the sending took."""
    share = len(storm.letters) / (KILLS_OF_RECEIVER + 1)
    receiver = asyncio.create_task(
        _keep_alive(storm, RECEIVER, place, environment, KILLS_OF_RECEIVER, lambda life: len(storm.took) > share * life)
    )
    worker = asyncio.create_task(
        _keep_alive(storm, WORKER, place, environment, KILLS_OF_WORKER, lambda life: _is_at_work(place / "home", life))
    )
    sending = asyncio.create_task(_send(storm, place / "home"))
    await asyncio.wait([sending, receiver, worker], return_when=asyncio.FIRST_COMPLETED)
    for each in (receiver, worker):
        each.cancel()
    await asyncio.wait([receiver, worker])
    return sending.result()


async def _send(storm: Storm, home: Path) -> float:
    await _until_it_answers()
    beside = [watch(PORT, storm.receiver, storm.seen), besiege(PORT, storm.strangers, storm.seen)]
    beside = [asyncio.create_task(each) for each in beside]
    begun = time.monotonic()
    await asyncio.gather(*(_sender(storm) for _ in range(SENDERS)))
    seconds = time.monotonic() - begun
    for each in beside:
        each.cancel()
    await _until_nothing_waits(home)
    return seconds


RECEIVER = [sys.executable, "-m", "cli", "serve", "--port", str(PORT), "--per-second", "100000"]
WORKER = [sys.executable, "-m", "benchmarks.storm_worker", "storm"]


async def _keep_alive(
    storm: Storm,
    command: list[str],
    place: Path,
    environment: dict[str, str],
    kills: int,
    is_time: Callable[[int], bool],
) -> None:
    """Start it, kill it when it is time for the so many'th, start it again; so many times."""
    with (place / f"{command[3]}.log").open("ab") as log:
        for life in range(kills + 1):
            process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)
            if command is RECEIVER:
                storm.receiver[:] = [process.pid]
            try:
                while life == kills or not is_time(life + 1):
                    await asyncio.sleep(0.05)
                    if process.poll() is not None:
                        raise SystemExit(Path(log.name).read_text())
                storm.kills[command[3]] += 1
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()


def _is_at_work(home: Path, life: int) -> bool:
    """Whether a run goes on that has sent a batch, and rows of `life` runs have come in."""
    with closing(Ledger(ledger_url(None, home))) as ledger, ledger.view() as tx:
        begun = tx.exec_driver_sql("SELECT count(DISTINCT run_no) FROM batch").scalar()
        at_work = tx.exec_driver_sql("SELECT count(*) FROM batch WHERE state IN ('posting', 'open')").scalar()
    return bool(begun and begun >= life and at_work)


async def _until_it_answers() -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)


async def _sender(storm: Storm) -> None:
    """One connection that sends one message after the other, each until it is answered."""
    streams: tuple[StreamReader, StreamWriter] | None = None
    while storm.next < len(storm.letters):
        message_id, kind = storm.letters[storm.next]
        storm.next += 1
        while True:
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", PORT)
                begun = time.monotonic()
                status, answer = await _post(*streams, message_id, kind)
                if status == 503:
                    continue
                storm.took.append(time.monotonic() - begun)
                storm.answers[f"{kind}: {status} {answer.get('receipt') or answer['type'].rpartition(':')[2]}"] += 1
                break
            except (OSError, asyncio.IncompleteReadError):  # killed: nobody knows whether it was kept
                storm.unanswered += streams is not None
                streams = None
                await asyncio.sleep(0.1)
    if streams:
        streams[1].close()


async def _post(reader: StreamReader, writer: StreamWriter, message_id: str, kind: str) -> tuple[int, dict[str, Any]]:
    row = {"id": message_id, "message": f"the parcel of {message_id} is late", "customer": "Ada"}
    body = orjson.dumps(row)
    at = datetime.now(UTC) - timedelta(hours=kind == "stale")
    signature = (THEIRS if kind == "forged" else OURS).sign(message_id, at, body.decode())
    head = (
        f"POST /v1/inbox/storm HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nwebhook-id: {message_id}\r\n"
        f"webhook-timestamp: {int(at.timestamp())}\r\nwebhook-signature: {signature}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(line for line in answer.lower().splitlines() if line.startswith("content-length:"))
    return int(answer.split(" ", 2)[1]), orjson.loads(await reader.readexactly(int(length.rpartition(":")[2])))


async def _until_nothing_waits(home: Path) -> None:
    with closing(Ledger(ledger_url(None, home))) as ledger:
        while True:
            with ledger.view() as tx:
                waits = tx.exec_driver_sql("SELECT count(*) FROM message_row WHERE run_id IS NULL").scalar()
                goes_on = tx.exec_driver_sql("SELECT count(*) FROM run WHERE finished_at IS NULL").scalar()
            if not waits and not goes_on:
                return
            await asyncio.sleep(0.5)


def _report(storm: Storm, seconds: float, home: Path, count: int, *, billed: int) -> None:
    good = {message_id for message_id, kind in storm.letters if kind == "good"}
    with closing(Ledger(ledger_url(None, home))) as ledger, ledger.view() as tx:
        kept = Counter(tx.exec_driver_sql("SELECT message_id FROM message").scalars())
        rows = Counter(tx.exec_driver_sql("SELECT row_key FROM row").scalars())
        states = dict(tx.exec_driver_sql("SELECT state, count(*) FROM row GROUP BY state").tuples().all())
        runs = tx.exec_driver_sql("SELECT count(*) FROM run").scalar()
        filed = int(tx.exec_driver_sql("SELECT sum(cost_micro) FROM row").scalar() or 0)
    files = ds.dataset([str(file) for file in (home / "results").rglob("*.parquet")])
    written = Counter(files.to_table(columns=["row_key"])["row_key"].to_pylist())
    for name, answers in sorted(storm.answers.items()):
        print(f"{name:<44}{answers:>8,}")
    settled = {"loaded": states.pop("loaded", 0), "quarantined": states.pop("quarantined", 0), **states}
    late = sorted(storm.took)
    print(f"{'sent':<44}{count:>8,}")
    print(f"{'sent again, unanswered for a kill':<44}{storm.unanswered:>8,}")
    print(f"{'good messages':<44}{len(good):>8,}")
    print(f"{'good messages kept':<44}{len(good & kept.keys()):>8,}")
    print(f"{'in runs':<44}{runs:>8,}")
    for name, rows_so in settled.items():
        print(f"{'rows ' + name:<44}{rows_so:>8,}")
    faults = {
        "answered otherwise": sum(n for name, n in storm.answers.items() if not name.startswith(ANSWERS)),
        "others kept": len(kept.keys() - good),
        "lost": len(good - rows.keys()),
        "doubled in runs": sum(n - 1 for n in rows.values()),
        "doubled in the sink": sum(n - 1 for n in written.values()),
        "loaded but not in the sink": settled["loaded"] - len(written),
        "micro-dollars billed and not filed": billed - filed,
        "kills left out": KILLS_OF_RECEIVER + KILLS_OF_WORKER - sum(storm.kills.values()),
        **report(storm.seen, (home.parent / "serve.log").stat().st_size),
    }
    for name, found in faults.items():
        print(f"{name:<44}{found:>8,}")
    print(f"receiver killed {storm.kills['serve']} times, worker {storm.kills['storm']} times, {os.cpu_count()} cores")
    print(f"{count / seconds:,.0f} messages/s over {seconds:.0f} s, restarts included")
    print(
        f"a reply took {late[len(late) // 2] * 1000:.0f} ms (median), {late[int(len(late) * 0.99)] * 1000:.0f} ms (p99)"
    )
    if any(faults.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
