"""Rows by webhook: what is answered 202 is on disk, once; what is refused is told why; no row is in two flushes.

A real receiver in a process of its own, real HTTP, and signatures as the Standard Webhooks package makes them.
"""

import asyncio
import base64
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from conftest import NOW, answers_of, ask_ledger, batch_was_made, make_job
from prefect.settings import get_current_settings
from standardwebhooks import Webhook

from flows.flush_inbox import flush_inbox
from flows.run_job import run_job
from rowtide.errors import UserMistake
from rowtide.intake.messages import Message, MessageRefused
from rowtide.intake.signatures import check_signature, parse_webhook_secrets
from rowtide.intake.sources import INBOX
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import Receipt
from rowtide.ledger.ledger import Ledger, ledger_url

SECRET, OLD, OF_OTHERS = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3))


@contextmanager
def receiver(
    folder: Path, *words: str, secrets: str | None = SECRET, prefect: str | None = None
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`rowtide serve` in `folder`, on a port of its own. Gives the process and its URL."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "ROWTIDE"))}
    environment = {**known, "ROWTIDE_HOME": str(folder / "home"), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "cli", "serve", "--port", "0", *words]
    environment |= {"ROWTIDE_WEBHOOK_SECRETS": secrets} if secrets else {}
    environment |= {"PREFECT_API_URL": prefect} if prefect else {}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        url = next(line.split()[-1] for line in process.stderr if line.startswith("receiving on"))
        try:
            yield process, url
        finally:
            process.kill()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job under jobs/."""
    folder = tmp_path_factory.mktemp("serve")
    make_job(
        folder / "jobs" / "sorting", source={"inbox": ["id", "message"]}, tiers=["opus"], limits={"row_bytes": 900}
    )
    make_job(folder / "jobs" / "others")
    return folder


@pytest.fixture(scope="module")
def served(place: Path) -> Generator[str]:
    """The URL of a receiver with two secrets for all jobs, and one of their own for the others."""
    with receiver(place, "--body-bytes", "5000", secrets=f"{SECRET} {OLD} others={OF_OTHERS}") as (_, url):
        yield url


def signed(
    message_id: str,
    body: bytes,
    secret: str = SECRET,
    *,
    age: timedelta = timedelta(),
    by: bytes | None = None,
    now: datetime | None = None,
) -> dict[str, str]:
    """Headers as the package makes them; `by` signs another body."""
    at = (now or datetime.now(UTC)) - age
    signature = Webhook(secret).sign(message_id, at, (body if by is None else by).decode())
    stamp = str(int(at.timestamp()))
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signature}


def row(number: int, words: str = "the parcel is late") -> dict[str, Any]:
    return {"id": f"m{number}", "message": f"{words} ({number})"}


def post(url: str, message_id: str, value: Any, *, job: str = "sorting", **how: Any) -> httpx2.Response:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return httpx2.post(f"{url}/v1/inbox/{job}", content=body, headers=signed(message_id, body, **how), timeout=60)


def ask(url: str, message_id: str) -> dict[str, Any]:
    headers = signed(message_id, b"")
    return httpx2.get(f"{url}/v1/inbox/sorting/{message_id}", headers=headers, timeout=60).json()


def test_a_row_a_list_and_a_cloud_event_are_taken_and_can_be_asked_after(served: str) -> None:
    event = {"specversion": "1.0", "id": "9", "source": "crm", "type": "made"}
    bodies = {
        "one": row(1),
        "several": [row(2), row(3)],
        "event": {**event, "data": row(4)},
        "encoded": {**event, "data_base64": base64.b64encode(orjson.dumps([row(5)])).decode()},
        "events": [{**event, "data": row(6)}, {**event, "data": row(7)}],
    }
    for message_id, body in bodies.items():
        found = post(served, message_id, body)
        assert (found.status_code, found.json()["receipt"]) == (202, "accepted"), found.text
    told = ask(served, "several")
    assert (told["state"], [(each["row_key"], each["state"]) for each in told["rows"]]) == (
        "waiting",
        [("m2", "waiting"), ("m3", "waiting")],
    )
    assert [each["row_key"] for each in ask(served, "events")["rows"]] == ["m6", "m7"]


def test_a_message_sent_again_is_the_same_message_and_another_under_its_id_is_refused(served: str) -> None:
    receipts = [post(served, "again", body) for body in (row(10), b'{ "message": "x", "id": "m10" }', row(10))]
    assert [(each.status_code, each.json().get("receipt") or each.json()["type"]) for each in receipts] == [
        (202, "accepted"),
        (409, "urn:rowtide:message_differs"),
        (200, "repeated"),
    ]
    with ThreadPoolExecutor(8) as senders:
        at_once = list(senders.map(lambda _: post(served, "at-once", row(11)).json()["receipt"], range(8)))
    assert Counter(at_once) == {"accepted": 1, "repeated": 7}


EMPTY = orjson.dumps(row(20))
REFUSALS: dict[str, tuple[bytes, dict[str, Any], int, str, str]] = {
    "a signature of another body": (EMPTY, {"by": b"{}"}, 401, "bad_signature", "no v1 signature"),
    "a signature of somebody else": (EMPTY, {"secret": OF_OTHERS}, 401, "bad_signature", "of this job"),
    "a message of an hour ago": (EMPTY, {"age": timedelta(hours=1)}, 401, "stale", " s ago; at most 300 s"),
    "a message of tomorrow": (EMPTY, {"age": timedelta(days=-1)}, 401, "from_the_future", "at most 300 s"),
    "a job there is not": (EMPTY, {"job": "sortin"}, 404, "unknown_job", "has no job of that name"),
    "no JSON": (b'{"id": ', {}, 400, "not_json", "line 1 column 8"),
    "a text": (b'"m1"', {}, 400, "not_rows", "row 1 is not a JSON object but text"),
    "an empty list": (b"[]", {}, 400, "not_rows", "empty"),
    "no key": (orjson.dumps([row(21), {"message": "x"}]), {}, 422, "missing_columns", "row 2 lacks 'id'"),
    "a blank key": (orjson.dumps({**row(22), "id": " "}), {}, 422, "missing_key", "id is null or blank"),
    "a key with a NUL": (orjson.dumps({**row(23), "id": "a\0b"}), {}, 422, "unusable_key", "holds a NUL"),
    "no column of the prompt": (b'{"id": "m24"}', {}, 422, "missing_columns", "lacks 'message'"),
    "a large row": (orjson.dumps(row(25, "x" * 1000)), {}, 422, "row_too_large", "limits.row_bytes is 900"),
    "a large body": (orjson.dumps([row(n) for n in range(200)]), {}, 413, "too_large", "over 5,000 bytes"),
}


@pytest.mark.parametrize(("body", "how", "status", "kind", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_refused_is_told_why(
    served: str, body: bytes, how: dict[str, Any], status: int, kind: str, words: str
) -> None:
    found = post(served, "refused", body, **how)
    problem = found.json()
    assert (found.status_code, problem["type"]) == (status, f"urn:rowtide:{kind}"), found.text
    assert found.headers["content-type"] == "application/problem+json"
    assert words in problem["detail"]
    assert SECRET[6:] not in found.text
    assert ask(served, "refused")["type"] == "urn:rowtide:unknown_message"


@pytest.mark.parametrize(
    ("age", "words"),
    [(300, None), (301, "301 s ago; at most 300 s"), (-300, None), (-301, "in 301 s; at most 300 s")],
)
def test_a_signature_counts_for_five_minutes_before_and_after(age: int, words: str | None) -> None:
    now = NOW.replace(microsecond=0)
    headers = signed("m1", b"{}", now=now, age=timedelta(seconds=age))
    with nullcontext() if words is None else pytest.raises(MessageRefused, match=words):
        check_signature(parse_webhook_secrets(SECRET).of_all, headers, b"{}", now=now, window=timedelta(minutes=5))


def test_a_secret_can_be_changed_and_a_job_can_have_its_own(served: str) -> None:
    assert post(served, "old", row(30), secret=OLD).status_code == 202
    both = signed("both", EMPTY)
    both["webhook-signature"] = (
        f"v1a,xx {signed('both', EMPTY, OF_OTHERS)['webhook-signature']} {both['webhook-signature']}"
    )
    assert httpx2.post(f"{served}/v1/inbox/sorting", content=EMPTY, headers=both).status_code == 202
    assert post(served, "of-others", row(31), job="others", secret=OF_OTHERS).status_code == 202
    assert post(served, "of-others-2", row(31), job="others").status_code == 401
    unsigned = httpx2.post(f"{served}/v1/inbox/sorting", content=EMPTY, headers={"webhook-id": "x"})
    assert "webhook-timestamp, webhook-signature" in unsigned.json()["detail"]


def test_a_run_is_asked_for_by_name_and_there_must_be_somebody_to_ask(served: str) -> None:
    def asked(body: bytes) -> dict[str, Any]:
        headers = signed("run", body)
        return httpx2.post(f"{served}/v1/runs/sorting", content=body, headers=headers).json()

    assert "PREFECT_API_URL is not set" in asked(b'{"job": "sorting"}')["detail"]
    assert "where the path says 'sorting'" in asked(b'{"job": "others"}')["detail"]  # a message of another job's
    assert "Extra inputs" in asked(b'{"job": "sorting", "source": "passwords.csv"}')["detail"]
    assert asked(b"")["type"] == "urn:rowtide:not_json"  # the signature of a question after a message


def test_more_messages_than_allowed_are_told_when_to_come_again(place: Path) -> None:
    with receiver(place, "--per-second", "1", "--unsigned", secrets=None) as (_, url):
        headers = [{"webhook-id": f"fast-{n}"} for n in range(3)]
        found = [httpx2.post(f"{url}/v1/inbox/sorting", json=row(40), headers=each) for each in headers]
        assert [each.status_code for each in found][:2] == [202, 429]
        assert found[1].headers["retry-after"] == "1"
        assert httpx2.get(f"{url}/health").json()["status"] == "ok"
        figures = httpx2.get(f"{url}/metrics").text
        assert 'rowtide_messages_total{job="sorting",outcome="accepted"} 1.0' in figures
        assert 'rowtide_messages_total{job="sorting",outcome="too_many"} 2.0' in figures
        assert 'rowtide_inbox_rows{job="sorting"}' in figures


def test_without_a_secret_it_does_not_start_and_a_bad_one_is_not_repeated() -> None:
    with pytest.raises(UserMistake, match="secret 2 is not base64 of at least 24 bytes") as caught:
        parse_webhook_secrets(f"{SECRET} whsec_c2hvcnQ=")
    assert "c2hvcnQ" not in str(caught.value)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "ROWTIDE"))}
    found = subprocess.run([sys.executable, "-m", "cli", "serve"], env=environment, capture_output=True, text=True)
    assert (found.returncode, "set ROWTIDE_WEBHOOK_SECRETS" in found.stderr) == (2, True)


def test_what_was_answered_202_outlives_kill_9_and_what_was_not_can_be_sent_again(tmp_path: Path) -> None:
    make_job(tmp_path / "jobs" / "sorting", source={"inbox": ["id", "message"]})
    taken: set[int] = set()

    def send(url: str, number: int) -> None:
        try:
            if post(url, f"k{number}", [row(2 * number), row(2 * number + 1)]).is_success:
                taken.add(number)
        except httpx2.TransportError:
            pass  # the receiver is dead: nobody knows

    for life in range(3):
        with receiver(tmp_path) as (process, url), ThreadPoolExecutor(16) as senders:
            for number in sorted(set(range(300)) - taken):
                senders.submit(send, url, number)
            while len(taken) < 100 * (life + 1) and process.poll() is None:
                if len(taken) == 300:
                    break
            if life < 2:
                process.kill()
                senders.shutdown(cancel_futures=True)
            kept = dict(ask_ledger(tmp_path / "home", "SELECT message_id, count(*) FROM message GROUP BY message_id"))
            assert {f"k{number}" for number in set(taken)} <= kept.keys()
    assert taken == set(range(300))
    found = ask_ledger(tmp_path / "home", "SELECT row_key FROM message_row")
    assert Counter(key for (key,) in found) == {f"m{n}": 1 for n in range(600)}


def letter(number: int, *keys: str, job: str = "sorting") -> Message:
    rows = [(key, orjson.dumps({"id": key, "message": f"the parcel is late ({number})"})) for key in keys]
    return Message(job, f"letter-{number}", f"hash-{number}", rows)


def test_no_row_is_in_two_flushes_however_many_take_and_bring_at_once(address: str) -> None:
    first = Ledger(address)

    def bring(sender: int) -> list[Receipt]:
        ledger, brought = Ledger(address), list[Receipt]()
        for start in range(0, 400, 50):
            letters = [letter(n, f"m{n}", "same") for n in range(start, start + 50)]
            brought += ledger_inbox.receive_messages(ledger, letters, f"{sender}-{start}", now=NOW)
        ledger.close()
        return brought

    def take(flush: int) -> int:
        ledger, taken = Ledger(address), 0
        for n in range(20):
            with ledger.page() as tx:
                taken += ledger_inbox.claim_inbox_rows(tx, "sorting", f"run-{flush}-{n}", limit=None)
        ledger.close()
        return taken

    with ThreadPoolExecutor(6) as pool:
        brought, taken = [pool.submit(bring, n) for n in range(3)], [pool.submit(take, n) for n in range(3)]
        assert Counter(each for done in brought for each in done.result()) == {"accepted": 400, "repeated": 800}
        assert sum(done.result() for done in taken) + take(3) == 800
    with first.view() as tx:
        assert ledger_inbox.waiting_rows(tx) == []
        rows = tx.exec_driver_sql("SELECT run_id, row_key FROM message_row WHERE superseded_by IS NULL").all()
    assert len(rows) == len(set(rows))  # one of a key in a run: the last; the others say by which they are superseded
    assert Counter(key for _, key in rows if key != "same") == {f"m{n}": 1 for n in range(400)}
    first.close()


def test_of_two_messages_of_a_key_the_last_is_taken_and_the_first_says_so(ledger: Ledger) -> None:
    ledger_inbox.receive_messages(ledger, [letter(1, "a", "b"), letter(2, "a")], "token", now=NOW)
    different = [letter(1, "a", "b"), Message("sorting", "letter-2", "other", []), letter(2, "a", job="others")]
    expected = [Receipt.REPEATED, Receipt.DIFFERENT, Receipt.ACCEPTED]
    assert ledger_inbox.receive_messages(ledger, different, "other", now=NOW) == expected
    with ledger.page() as tx:
        assert ledger_inbox.claim_inbox_rows(tx, "sorting", "run-1", limit=None) == 3
        assert [each.job for each in ledger_inbox.waiting_rows(tx)] == ["others"]
        told = ledger_inbox.trace_message(tx, "sorting", "letter-1")
        taken = [content for _, content in ledger_inbox.claimed_rows_page(tx, "run-1", after=0, limit=9)]
    assert told
    assert [(each.row_key, each.superseded_by) for each in told] == [("a", 3), ("b", None)]
    assert [orjson.loads(each)["message"][-2] for each in taken] == ["1", "2"]


@pytest.fixture
def inbox(prefect_server: str, api: Any, tmp_path: Path) -> Generator[Ledger]:
    """The ledger of the flows, with a job under jobs/ whose rows come by webhook only."""
    make_job(tmp_path / "jobs" / "sorting", source={"inbox": ["id", "message"]}, tiers=["opus"])
    opened = Ledger(ledger_url(None, tmp_path / "home"))
    yield opened
    opened.close()


def test_a_flush_takes_what_waits_and_ends_quietly_when_too_little_does(inbox: Ledger, tmp_path: Path) -> None:
    job = str(tmp_path / "jobs" / "sorting")
    ledger_inbox.receive_messages(inbox, [letter(1, "a", "b"), letter(2, "a")], "token", now=datetime.now(UTC))
    assert asyncio.run(flush_inbox(job, at_least=4)) is None
    assert asyncio.run(flush_inbox(job, older_than_seconds=3600)) is None
    found = asyncio.run(flush_inbox(job))
    assert found
    assert (found["rows"], found["loaded"]) == (2, 2)
    assert answers_of(tmp_path / "home")["a"]["message"].endswith("(2)")
    assert asyncio.run(flush_inbox(job)) is None
    with inbox.view() as tx:
        told = ledger_inbox.trace_message(tx, "sorting", "letter-1")
    assert told
    assert [(each.row_key, each.state) for each in told] == [("a", None), ("b", "loaded")]
    assert told[1].run_id == found["run_id"]


def test_a_flush_that_is_killed_goes_on_with_the_rows_it_took(api: Any, inbox: Ledger, tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "sorting"
    ledger_inbox.receive_messages(inbox, [letter(n, f"m{n}") for n in range(50)], "token", now=datetime.now(UTC))

    async def kill_when_it_has_posted() -> None:
        made = batch_was_made(api)
        words = f"import asyncio; from flows.flush_inbox import flush_inbox; asyncio.run(flush_inbox({str(job)!r}))"
        flush = await asyncio.create_subprocess_exec(sys.executable, "-c", words, env={**os.environ, **at_server()})
        await made.wait()
        flush.kill()
        await flush.wait()

    asyncio.run(kill_when_it_has_posted())
    ledger_inbox.receive_messages(inbox, [letter(50, "late", "m1")], "token-2", now=datetime.now(UTC))
    ((run_id,),) = ask_ledger(tmp_path / "home", "SELECT run_id FROM run")
    resumed = asyncio.run(run_job(str(job), INBOX, run_id))
    assert (resumed["rows"], resumed["loaded"], resumed["batches"]) == (50, 50, 1)
    next_one = asyncio.run(flush_inbox(str(job)))
    assert next_one
    assert next_one["rows"] == 2
    answers = answers_of(tmp_path / "home", "results")
    assert answers.keys() == {f"m{n}" for n in range(50)} | {"late"}


def at_server() -> dict[str, str]:
    return {"PREFECT_API_URL": str(get_current_settings().api.url)}
