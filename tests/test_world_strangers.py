"""What a stranger sends to the receiver, as bytes: refused by its head, dropped in time, and no cost to anybody."""

import base64
import json
import resource
import socket
import ssl
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import orjson
import psutil
import pytest
from conftest import make_job, wait_until
from hypothesis import given
from hypothesis import strategies as st
from test_serve import SECRET, post, receiver, row, signed

from rowtide.intake.messages import MessageRefused
from rowtide.intake.request_headers import check_body_headers, check_sender
from rowtide.intake.signatures import parse_webhook_secrets
from rowtide.intake.webhook_row_rules import RowRulesOfJobs
from rowtide.ledger.ledger import Ledger
from rowtide.stages.extract.inbox import Inbox
from webhooks.http_server import SECONDS, Connections, Phase, build_server
from webhooks.prometheus import ReceiverMetrics
from webhooks.readiness import Lookout
from webhooks.receiver import Receiver, ReceiverLimits, build_application

ROW = orjson.dumps(row(1))
END = b"\r\n\r\n"
NO_LENGTH = -1


def head(
    *more: str, message_id: str = "m", path: str = "/v1/inbox/sorting", length: int = len(ROW), **changes: str
) -> bytes:
    """A good head, with lines more or changed; a header of `None` value is left out."""
    headers = {"host": "x", "content-type": "application/json", **signed(message_id, ROW)}
    headers |= {"content-length": f"{length}"} if length != NO_LENGTH else {}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value), *more]
    return "\r\n".join(lines).encode("latin-1") + END


def bad_signature(value: str) -> bytes:
    return head(webhook_signature=value)


WRONG = "v1," + "A" * 43 + "="
# What is sent, without the body that it promises; and what is answered.
HEADS: dict[str, tuple[bytes, int, str]] = {
    "a huge body": (head(length=10**15), 413, "too_large"),
    "a body a byte too long": (head(length=5001), 413, "too_large"),
    "a length of twenty digits": (head(length=10**19), 413, "too_large"),
    "a length of thirty digits": (head(length=10**29), 400, ""),
    "a length that is none": (head(length=NO_LENGTH, content_length="many"), 400, ""),
    "a length below zero": (head(length=-5), 400, ""),
    "two lengths": (head("content-length: 7"), 400, ""),
    "no length": (head(length=NO_LENGTH), 411, "no_length"),
    "chunks without end": (head("transfer-encoding: chunked", length=NO_LENGTH), 411, "no_length"),
    "chunks and a length": (head("transfer-encoding: chunked"), 411, "no_length"),
    "another coding": (head("transfer-encoding: gzip", length=NO_LENGTH), 400, ""),
    "a form": (head(content_type="application/x-www-form-urlencoded"), 415, "not_json_type"),
    "a text": (head(content_type="text/plain"), 415, "not_json_type"),
    "JSON in another charset": (head(content_type="application/json; charset=utf-16"), 415, "not_json_type"),
    "compressed": (head("content-encoding: gzip"), 415, "not_json_type"),
    "no signature": (head(webhook_signature=""), 401, "not_signed"),
    "no time": (head(webhook_timestamp=""), 401, "not_signed"),
    "no id": (head(webhook_id=""), 401, "not_signed"),
    "an empty signature": (bad_signature(" "), 401, "not_signed"),
    "a word": (bad_signature("let-me-in"), 401, "bad_signature"),
    "another version": (bad_signature(WRONG.replace("v1", "v2")), 401, "bad_signature"),
    "a short signature": (bad_signature("v1,AAAA="), 401, "bad_signature"),
    "a thousand signatures": (bad_signature(" ".join([WRONG] * 200)), 401, "bad_signature"),
    "bytes that are no text": (bad_signature("v1,\xff\xfe" + "A" * 41 + "="), 401, "bad_signature"),
    "an id that is no ASCII": (head(webhook_id="m\xe9"), 400, "no_message_id"),
    "an id of bytes": (head(webhook_id="\xff\xfe"), 400, "no_message_id"),
    "an id with a space": (head(webhook_id="a b"), 400, "no_message_id"),
    "a long id": (head(webhook_id="x" * 257), 400, "no_message_id"),
    "a NUL": (head(webhook_id="a\0b"), 400, ""),
    "a time that is none": (head(webhook_timestamp="now"), 401, "bad_signature"),
    "a time below zero": (head(webhook_timestamp="-1"), 401, "bad_signature"),
    "a time in other digits": (head(webhook_timestamp="\xb2\xb3"), 401, "bad_signature"),
    "a time of a million digits": (head(webhook_timestamp="9" * 12), 401, "bad_signature"),
    "two ids": (head("webhook-id: other"), 400, "bad_head"),
    "two signatures": (head(f"webhook-signature: {WRONG}"), 400, "bad_head"),
    "two types": (head("content-type: text/html"), 400, "bad_head"),
    "a job there is not": (head(path="/v1/inbox/nobody"), 404, "unknown_job"),
    "the folder above": (head(path="/v1/inbox/.."), 404, "unknown_job"),
    "the folder itself": (head(path="/v1/inbox/."), 404, "unknown_job"),
    "no job": (head(path="/v1/inbox/"), 404, ""),
    "a path": (head(path="/v1/inbox/..%2f..%2fetc"), 405, ""),
    "a path with backslashes": (head(path="/v1/inbox/..%5c..%5cetc"), 404, "unknown_job"),
    "an absolute path": (head(path="/v1/inbox/%2fetc"), 404, ""),
    "a NUL in the job": (head(path="/v1/inbox/sorting%00"), 404, "unknown_job"),
    "bytes for a job": (head(path="/v1/inbox/%ff%fe"), 404, "unknown_job"),
    "a long job": (head(path="/v1/inbox/" + "x" * 5000), 404, "unknown_job"),
    "a star": (head(path="/v1/inbox/*"), 404, "unknown_job"),
    "a run of a job there is not": (head(path="/v1/runs/nobody"), 404, "unknown_job"),
    "an unsigned run": (head(path="/v1/runs/sorting", webhook_signature=""), 401, "not_signed"),
    "a long header": (head("x-long: " + "x" * 60_000), 400, ""),
    "many headers": (head(*(f"x-{n}: {n}" for n in range(9000))), 400, ""),
    "no host": (head().replace(b"host: x\r\n", b""), 400, ""),
    "a name with a space": (head("x a: b"), 400, ""),
    "another method": (head().replace(b"POST", b"BREW"), 405, ""),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400, ""),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, ""),
    "an upgrade": (head("connection: upgrade", "upgrade: websocket", webhook_signature=""), 401, "not_signed"),
}  # fmt: skip


def answer_of(stream: socket.socket) -> tuple[int, dict[str, object]]:
    """The next answer, and no byte of the one after it: its status, and its body where that is JSON."""
    said, body = b"", b""
    while END not in said:
        part = stream.recv(1)
        assert part, said
        said += part
    lines = said.removesuffix(END).decode("latin-1").lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), None)
    while length is None or len(body) < length:
        if not (part := stream.recv(4096 if length is None else length - len(body))):
            break
        body += part
    with suppress(json.JSONDecodeError):
        return int(lines[0].split()[1]), json.loads(body)
    return int(lines[0].split()[1]), {}


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def is_over(stream: socket.socket) -> bool:
    """Wait until the other side has ended the connection."""
    with suppress(ConnectionError):
        while stream.recv(65536):
            pass
    return True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, Path, int]]:
    """A receiver in a process: its URL, its folder, its process."""
    place = tmp_path_factory.mktemp("strangers")
    make_job(place / "jobs" / "sorting", source={"inbox": ["id", "message"]})
    with receiver(place, "--body-bytes", "5000") as (process, url):
        yield url, place, process.pid


@pytest.mark.parametrize(("sent", "status", "kind"), HEADS.values(), ids=HEADS.keys())
def test_a_bad_head_is_answered_before_any_of_its_body_is_sent(
    served: tuple[str, Path, int], sent: bytes, status: int, kind: str
) -> None:
    with connected(served[0]) as stream:
        with suppress(ConnectionError):
            stream.sendall(sent)
        found, problem = answer_of(stream)
        assert (found, problem.get("type", "")) == (status, f"urn:rowtide:{kind}" if kind else problem.get("type", ""))
        assert "sorting" not in str(problem.get("detail"))  # no stranger learns a job's name


def test_after_all_that_a_good_message_is_taken_and_the_log_is_empty(served: tuple[str, Path, int]) -> None:
    url, _, pid = served
    with connected(url) as stream:
        good = [head(message_id=f"p{n}") + ROW for n in range(3)]
        stream.sendall(b"".join(good[:2]) + head(message_id="p2", content_type="text/plain") + ROW)  # in one go
        found = [answer_of(stream) for _ in range(3)]
        assert [(status, answer.get("message_id")) for status, answer in found] == [
            (202, "p0"),
            (202, "p1"),
            (415, None),
        ]
    with connected(url) as stream:  # as a proxy sends it: in pieces, after being told to go on
        told = head("expect: 100-continue", message_id="p3")
        for n in range(0, len(told), 50):
            stream.sendall(told[n : n + 50])
        assert stream.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stream.sendall(ROW)
        assert answer_of(stream)[0] == 202
    assert not psutil.Process(pid).children()
    with httpx2.Client() as client:
        assert client.get(f"{url}/ready").json() == {"ready": True, "failing": []}
    wait_until(lambda: "rowtide_ledger_up 1.0" in httpx2.get(f"{url}/metrics").text)


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_whatever_a_head_holds_is_refused_or_passed_never_an_error(name: bytes, value: bytes) -> None:
    headers = [("content-type", value.decode("latin-1")), ("content-length", name.decode("latin-1"))]
    for each in [*headers, ("webhook-signature", name.decode("latin-1")), ("webhook-id", value.decode("latin-1"))]:
        some = [*({"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": WRONG} | dict([each])).items()]
        with suppress(MessageRefused):
            check_sender(some, is_signed=True)
        with suppress(MessageRefused):
            check_body_headers([*some, *headers], 5000, is_signed=False)


# ---------------------------------------------------------------- in this process, with a clock that is set


@dataclass
class Here:
    """A receiver in a thread of this process."""

    url: str
    receiver: Receiver
    connections: Connections
    clock: list[float]

    def wait(self, seconds: float) -> None:
        self.clock[0] += seconds

    def open(self) -> list[Phase]:
        return [each.phase for each in list(self.connections.open)]


@contextmanager
def here(
    ledger: Ledger,
    jobs: Path,
    *,
    most: int = 1000,
    unread: int = 64_000_000,
    signed: bool = True,
    secrets: str = SECRET,
) -> Generator[Here]:
    clock = [0.0]
    connections = Connections(most, unread, lambda: clock[0])
    inbox = Inbox(ledger, lambda: datetime.now(UTC))
    row_rules, meters = RowRulesOfJobs(jobs, {}), ReceiverMetrics(ledger, connections.dropped)
    may_sign = parse_webhook_secrets(secrets) if signed else None
    made = Receiver(ledger, inbox, row_rules, may_sign, ReceiverLimits(1_000_000, 2000), None, meters, Lookout(ledger))
    said = list[str]()
    serving = build_server(build_application(made), "127.0.0.1", 0, connections, said.append)
    thread = threading.Thread(target=serving.run)
    thread.start()
    wait_until(lambda: said)
    try:
        yield Here(said[0].split()[-1], made, connections, clock)
    finally:
        serving.should_exit = True
        thread.join()


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    make_job(tmp_path / "jobs" / "sorting", source={"inbox": ["id", "message"]})
    return tmp_path / "jobs"


def test_a_head_or_a_body_that_never_ends_is_dropped_in_seconds(sqlite_ledger: Ledger, jobs: Path) -> None:
    with here(sqlite_ledger, jobs) as place:
        nothing, half, idle, slow = (connected(place.url) for _ in range(4))
        half.sendall(head()[:60])
        idle.sendall(head(message_id="idle") + ROW)
        assert answer_of(idle)[0] == 202
        slow.sendall(head(length=900_000) + b"[" * 1000)
        wait_until(lambda: sorted(place.open()) == ["body", "head", "head", "head"])
        place.wait(SECONDS[Phase.HEAD] + 1)
        assert is_over(nothing)
        assert is_over(half)
        assert is_over(idle)
        assert place.open() == ["body"]
        place.wait(SECONDS[Phase.BODY])
        assert is_over(slow)
        assert place.connections.dropped == {"head": 3, "body": 1}
        assert post(place.url, "after", row(2)).status_code == 202


def test_a_head_that_comes_a_byte_at_a_time_has_no_longer_than_one_that_does_not(
    sqlite_ledger: Ledger, jobs: Path
) -> None:
    with here(sqlite_ledger, jobs) as place, connected(place.url) as stream:
        wait_until(lambda: place.open() == ["head"])
        with suppress(ConnectionError):
            for n in range(20):
                stream.sendall(head()[n : n + 1])
                place.wait(0.4)
        assert is_over(stream)
        assert place.connections.dropped == {"head": 1}


def test_of_too_many_connections_those_go_that_have_been_unfinished_for_longest(
    sqlite_ledger: Ledger, jobs: Path
) -> None:
    with here(sqlite_ledger, jobs, most=20) as place:
        hostile = [connected(place.url) for _ in range(50)]
        for n, stream in enumerate(hostile):
            with suppress(ConnectionError):
                stream.sendall(head()[:30] if n % 2 else head(length=900_000) + b"[")
        assert [post(place.url, f"good-{n}", row(n)).status_code for n in range(9)] == [202] * 9
        assert len(place.open()) <= 20
        assert place.connections.dropped["connections"] >= 30


def test_the_memory_of_bodies_that_do_not_end_is_bounded(sqlite_ledger: Ledger, jobs: Path) -> None:
    with here(sqlite_ledger, jobs, unread=1_000_000) as place:
        hostile = [connected(place.url) for _ in range(20)]
        for stream in hostile:
            with suppress(ConnectionError):
                stream.sendall(head(length=900_000) + b"[" * 100_000)
        wait_until(lambda: place.connections.dropped["memory"] >= 10)
        assert place.connections.unread_bytes <= 1_000_000
        large = [row(n, "x" * 800) for n in range(900)]
        assert post(place.url, "large", large).status_code == 202
        for stream in hostile:
            stream.close()
        wait_until(lambda: place.connections.unread_bytes == 0)


def test_who_is_refused_while_he_sends_gets_to_read_why(sqlite_ledger: Ledger, jobs: Path) -> None:
    with here(sqlite_ledger, jobs) as place:
        for length in (2_000_000, 200_000):
            body = b"[" * length
            found = httpx2.post(f"{place.url}/v1/inbox/sorting", content=body, headers=signed("x", b"{}"))
            assert found.status_code == (413 if length > 1_000_000 else 401)
        endless = connected(place.url)
        with suppress(ConnectionError):
            endless.sendall(head(length=10**12) + b"[" * 50_000_000)
        assert is_over(endless)


def test_pages_in_a_browser_are_refused_where_nothing_need_be_signed(sqlite_ledger: Ledger, jobs: Path) -> None:
    sent: list[tuple[dict[str, str], int]] = [
        ({"content-type": "application/json"}, 202),
        ({"content-type": "application/cloudevents+json; charset=utf-8"}, 202),
        ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
        ({"content-type": "application/json", "origin": "null"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "same-origin"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "text/plain; application/json"}, 415),
        ({"content-type": "multipart/form-data; boundary=application/json"}, 415),
        ({}, 415),
    ]
    with here(sqlite_ledger, jobs, signed=False) as place:
        for n, (headers, status) in enumerate(sent):
            url = f"{place.url}/v1/inbox/sorting"
            found = httpx2.post(url, content=orjson.dumps(row(n)), headers={"webhook-id": f"m{n}", **headers})
            assert found.status_code == status, (headers, found.text)
        asked = httpx2.get(f"{place.url}/v1/inbox/sorting/m0", headers={"sec-fetch-site": "cross-site"})
        assert asked.status_code == 403


# ---------------------------------------------------------------- one job's trouble, and the ledger's


@contextmanager
def silent() -> Generator[tuple[int, list[socket.socket]]]:
    """A database that accepts and never answers: its port, and who has come."""
    came = list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    came.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], came
        for each in came:
            each.close()


def test_a_source_that_never_answers_stops_only_its_own_job_and_no_stranger_reaches_it(
    sqlite_ledger: Ledger, jobs: Path
) -> None:
    with silent() as (port, came), here(sqlite_ledger, jobs) as place:
        source = {"url": f"postgresql+psycopg://u:secret@127.0.0.1:{port}/x", "query": "SELECT 1"}
        make_job(jobs / "hanging", source=source)
        wait_until(lambda: place.receiver.row_rules.has("hanging"))
        for _ in range(20):
            unsigned = httpx2.post(f"{place.url}/v1/inbox/hanging", content=ROW, headers={"webhook-id": "x"})
            assert unsigned.status_code == 401
            forged = {**signed("m", b"another body")}
            assert httpx2.post(f"{place.url}/v1/inbox/hanging", content=ROW, headers=forged).status_code == 401
        assert not came
        with ThreadPoolExecutor(30) as senders:
            hanging = [senders.submit(post, place.url, f"h{n}", row(n), job="hanging") for n in range(30)]
            wait_until(lambda: came)
            assert [post(place.url, f"g{n}", row(n)).status_code for n in range(30)] == [202] * 30
            assert httpx2.get(f"{place.url}/ready").status_code == 200
            found = [each.result() for each in hanging]
        assert {each.status_code for each in found} == {503}
        assert all("has not answered for 5 s" in each.text and "secret" not in each.text for each in found)
        assert len(came) == 1
        assert all(each.headers["retry-after"] == "10" for each in found)


def test_health_ready_and_metrics_answer_while_the_ledger_fails_or_is_silent(ledger: Ledger, jobs: Path) -> None:
    def rename(before: str, after: str) -> None:
        with ledger.page() as tx:
            tx.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")

    def looks(place: Here) -> tuple[int, int, str]:
        ready, health = httpx2.get(f"{place.url}/ready"), httpx2.get(f"{place.url}/health")
        assert "message" not in health.text.replace("messages", "")  # no error's words
        assert httpx2.get(f"{place.url}/metrics").status_code == 200
        return ready.status_code, health.status_code, health.json()["status"]

    with here(ledger, jobs) as place:
        wait_until(lambda: looks(place) == (200, 200, "ok"))
        rename("message", "away")
        wait_until(lambda: looks(place) == (503, 200, "degraded"))
        failing = httpx2.get(f"{place.url}/ready").json()["failing"]
        assert {each["name"] for each in failing} >= {"the look at the ledger"}
        assert all(each["error"] in ("OperationalError", "ProgrammingError") for each in failing)
        assert post(place.url, "m1", row(1)).status_code == 503
        rename("away", "message")
        wait_until(lambda: looks(place) == (200, 200, "ok"))
        assert post(place.url, "m1", row(1)).status_code == 202


def test_a_ledger_that_is_silent_makes_it_not_ready_and_nothing_waits_for_it(ledger: Ledger, jobs: Path) -> None:
    is_silent, over = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.page() as tx:
            if tx.dialect.name == "postgresql":
                tx.exec_driver_sql("LOCK TABLE message, message_row IN ACCESS EXCLUSIVE MODE")
            is_silent.set()
            over.wait()

    with here(ledger, jobs) as place:
        wait_until(lambda: httpx2.get(f"{place.url}/ready").status_code == 200)
        threading.Thread(target=hold, daemon=True).start()
        is_silent.wait()
        with ThreadPoolExecutor(4) as senders:
            sent = [senders.submit(post, place.url, f"m{n}", row(n)) for n in range(4)]
            wait_until(lambda: httpx2.get(f"{place.url}/ready").status_code == 503)
            assert httpx2.get(f"{place.url}/health").json()["status"] == "degraded"
            assert httpx2.get(f"{place.url}/metrics").status_code == 200
            over.set()
            assert {each.result().status_code for each in sent} <= {202, 503}
        wait_until(lambda: httpx2.get(f"{place.url}/ready").status_code == 200)


def test_without_files_to_open_it_logs_a_line_a_minute_and_comes_back(tmp_path: Path) -> None:
    make_job(tmp_path / "jobs" / "sorting", source={"inbox": ["id", "message"]})
    with receiver(tmp_path) as (process, url):
        assert post(url, "before", row(0)).status_code == 202
        taken = psutil.Process(process.pid).num_fds()
        _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken + 5, most))
        hostile = [connected(url) for _ in range(60)]
        until = time.monotonic() + 4
        wait_until(lambda: time.monotonic() > until)
        for each in hostile:
            each.close()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        wait_until(lambda: post(url, "after", row(1)).status_code in (200, 202))
        process.terminate()
        assert process.stderr
        said = process.stderr.read()
    assert said.count("out of system resource") == 1
    assert len(said) < 3000


def test_it_speaks_no_tls_and_whoever_tries_costs_nothing(sqlite_ledger: Ledger, jobs: Path) -> None:
    with here(sqlite_ledger, jobs) as place:
        with connected(place.url) as stream, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(stream, server_hostname="localhost")
        assert post(place.url, "after", row(1)).status_code == 202


def test_a_message_that_is_overheard_changes_nothing_at_its_job_and_is_refused_by_one_with_a_secret_of_its_own(
    sqlite_ledger: Ledger, jobs: Path
) -> None:
    make_job(jobs / "others", source={"inbox": ["id", "message"]})
    of_others = f"whsec_{base64.b64encode(bytes([9]) * 32).decode()}"
    with here(sqlite_ledger, jobs, secrets=f"{SECRET} others={of_others}") as place:
        headers = {"content-type": "application/json", **signed("m", ROW)}

        def send(path: str) -> int:
            return httpx2.post(f"{place.url}{path}", content=ROW, headers=headers).status_code

        assert [send("/v1/inbox/sorting"), send("/v1/inbox/sorting")] == [202, 200]
        assert [send("/v1/inbox/others"), send("/v1/runs/sorting"), send("/v1/runs/others")] == [401, 422, 401]
        with sqlite_ledger.view() as tx:
            kept = [str(each.job) for each in tx.exec_driver_sql("SELECT job FROM message_row")]
        assert kept == ["sorting"]
