"""Any reply ends in a move: replies changed at random, in batches, live and streamed. ROWTIDE_MUTATIONS: more."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from conftest import ask_ledger, make_job, run
from mutations import PAGE, change_value, mutate
from test_world_tools import result, scripted

from emulator.server import start
from rowtide.agent.outcome_policies import Do
from rowtide.agent.reply_parsing import Replied, Unanswered, parse_live_body, parse_result_line
from rowtide.errors import RowtideError, UserMistake
from rowtide.intake.messages import MessageRefused, RowRules, build_message, cloud_event_id, parse_body
from rowtide.intake.request_headers import check_message_id
from rowtide.tiers.pricing import Usage

ROUNDS = int(os.environ.get("ROWTIDE_MUTATIONS", "1"))
Change = Callable[[str, bytes], bytes]


class Between:
    """A server between us and the emulator that changes what comes back: `change` is given the path and a body."""

    def __init__(self, behind: str, change: Change) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                kept = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "content-length")
                }
                said = proxy.client.request(self.command, behind + self.path, headers=kept, content=body)
                changed = change(self.path, said.content) if said.status_code == 200 else said.content
                self.send_response(said.status_code)
                self.send_header("content-type", said.headers.get("content-type", "application/json"))
                self.send_header("content-length", str(len(changed)))
                self.end_headers()
                self.wfile.write(changed)

            do_GET = do_POST = _pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.client = httpx2.Client(timeout=30)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.client.close()


@pytest.fixture(scope="module")
def emulator() -> Generator[Any]:
    with start(batch_seconds=(0.0, 0.02)) as server:
        yield server


@pytest.fixture
def go(emulator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[..., None]]:
    """Take a run of so many rows as far as it goes, with replies changed so."""
    opened: list[Between] = []

    def go(rows: int, lane: str, change: Change, name: str = "run") -> None:
        opened.append(between := Between(emulator.url, change))
        for variable, value in {
            "ROWTIDE_HOME": str(tmp_path / "home"),
            "ROWTIDE_LEDGER_FROM_ENVIRONMENT": "1",
            "ROWTIDE_CONFIRM_WITHIN_SECONDS": "0.2",
            "ROWTIDE_PAGE": "0",
            "ANTHROPIC_API_KEY": f"key-{tmp_path.name}-{name}",
            "ANTHROPIC_BASE_URL": between.url,
        }.items():
            monkeypatch.setenv(variable, value)
        with suppress(RowtideError):  # stopped with words: resumable
            run(make_job(tmp_path / name, rows=rows), run_id=name, lane=lane)

    yield go
    for each in opened:
        each.close()


def check(home: Path, rows: int) -> Counter[str]:
    """Counts add up, and a row is in flight only with a call that carries it. Returns the counts by state."""
    found = Counter(dict(ask_ledger(home, "SELECT state, count(*) FROM row GROUP BY state")))
    assert sum(found.values()) == rows
    carried = "SELECT 1 FROM batch b WHERE b.batch_no = row.batch_no AND b.state IN ('packed', 'posting', 'open')"
    orphans = ask_ledger(home, f"SELECT row_key FROM row WHERE state = 'in_flight' AND NOT EXISTS ({carried})")
    assert orphans == []
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_lines_of_results_changed_at_random_each_end_in_a_move(
    go: Callable[..., None], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)

    def change(path: str, body: bytes) -> bytes:
        if not path.endswith("/results"):
            return body
        return b"\n".join(mutate(chance, line) if chance.random() < 0.5 else line for line in body.splitlines()) + b"\n"

    go(60, "batch", change)
    found = check(tmp_path / "home", 60)
    assert found["in_flight"] == 0
    assert found["loaded"] > 0


@pytest.mark.parametrize("lane", ["live", "stream"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_live_replies_changed_at_random_each_end_in_a_move(
    go: Callable[..., None], tmp_path: Path, lane: str, seed: int
) -> None:
    chance = random.Random(seed)

    def change(path: str, body: bytes) -> bytes:
        if chance.random() < 0.5:
            return body
        return mutate_events(chance, body) if lane == "stream" else mutate(chance, body)

    go(25, lane, change)
    found = check(tmp_path / "home", 25)
    assert found["in_flight"] == 0
    assert found["loaded"] > 0


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_is_said_of_batches_changed_at_random_loses_none(
    go: Callable[..., None], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)

    def change(path: str, body: bytes) -> bytes:
        is_reading = path.endswith("/results")
        return body if is_reading or chance.random() < 0.7 else mutate(chance, body)

    go(6, "batch", change)
    check(tmp_path / "home", 6)


WRONG = {
    "an empty object": b"{}",
    "a page": PAGE,
    "nothing": b"",
    "a list": b"[]",
    "no content": b'{"type":"message","stop_reason":"end_turn","usage":{}}',
    "half a message": b'{"type":"message","content":[{"type":"te',
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("lane", ["live", "stream"])
def test_a_live_reply_that_is_none_bounces_and_what_it_may_have_cost_stays_reserved(
    go: Callable[..., None], tmp_path: Path, lane: str, body: bytes
) -> None:
    told = Counter[str]()

    def change(path: str, said: bytes) -> bytes:
        told[path] += 1
        return body if path.endswith("/messages") and told[path] == 1 else said

    go(3, lane, change)
    assert check(tmp_path / "home", 3) == {"loaded": 3}
    assert ask_ledger(tmp_path / "home", "SELECT sum(bounces) FROM row") == [(1,)]
    assert ask_ledger(tmp_path / "home", "SELECT sum(reserved_micro) > 0 FROM batch") == [(1,)]


def test_a_reply_that_is_none_for_ever_stops_the_run_or_sets_the_row_aside(
    go: Callable[..., None], tmp_path: Path
) -> None:
    go(1, "live", lambda path, body: b"{}", "one")
    go(4, "live", lambda path, body: PAGE, "four")
    states = dict(ask_ledger(tmp_path / "home", "SELECT u.run_id || ' ' || r.state, count(*) FROM row r JOIN run u "
                             "ON u.run_no = r.run_no GROUP BY 1"))  # fmt: skip
    assert states == {"one quarantined": 1, "four ready": 4}


def mutate_events(chance: random.Random, body: bytes) -> bytes:
    """A stream in which one event is changed, left out, repeated, or the last."""
    events = body.split(b"\n\n")
    at = chance.randrange(max(1, len(events) - 1))
    match chance.randrange(5):
        case 0:
            del events[at:]
        case 1:
            del events[at]
        case 2:
            events.insert(at, events[at])
        case 3:
            return chance.choice([PAGE, b"{}", b"data: {}\n\n", b"event: message_stop\ndata: {}\n\n"])
        case _:
            name, _, data = events[at].partition(b"data: ")
            events[at] = name + b"data: " + mutate(chance, data) if data else b"data"
    return b"\n\n".join(events)


MESSAGE = {
    "content": [{"type": "text", "text": "ja"}, {"type": "tool_use", "id": "t1", "name": "a__b", "input": {"x": 1}}],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def message(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**MESSAGE, **changes}.items() if value is not ...}


UNREADABLE = {
    "no content": message(content=...),
    "content that is no list": message(content="words"),
    "a block that is text": message(content=["words"]),
    "text that is null": message(content=[{"type": "text", "text": None}]),
    "a call without an id": message(content=[{"type": "tool_use", "name": "n", "input": {}}]),
    "a call whose input is text": message(content=[{"type": "tool_use", "id": "t", "name": "n", "input": "{}"}]),
    "two calls of one id": message(content=[MESSAGE["content"][1]] * 2),  # pyright: ignore[reportIndexIssue] # a list
    "a stop that is a number": message(stop_reason=7),
    "no message": None,
}


@pytest.mark.parametrize("said", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_reply_that_cannot_be_acted_on_is_sent_again_and_may_have_been_paid_for(said: Any) -> None:
    line = orjson.dumps({"custom_id": "t-1", "result": {"type": "succeeded", "message": said}})
    for outcome in (parse_result_line(line)[1], parse_live_body(orjson.dumps(said))):
        assert isinstance(outcome, Unanswered)
        assert (outcome.policy.do, outcome.is_billed) == (Do.SEND_AGAIN, True)


USAGES: dict[str, Any] = {
    "missing": ...,
    "null": None,
    "text": {"input_tokens": "3", "output_tokens": 4},
    "negative": {"input_tokens": -3, "output_tokens": 4},
    "huge": {"input_tokens": 10**18, "output_tokens": 4},
    "a list": [],
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES.keys())
def test_a_reply_whose_usage_cannot_be_true_is_taken_and_costs_nobody_knows_what(usage: Any) -> None:
    outcome = parse_live_body(orjson.dumps(message(usage=usage)))
    assert isinstance(outcome, Replied)
    assert outcome.usage is None


def test_what_is_no_json_by_the_letter_is_read_all_the_same() -> None:
    body = orjson.dumps(message()).replace(b'"ja"', b'"half \\ud800 a pair"').replace(b'"x":1', b'"x":NaN')
    outcome = parse_live_body(body)
    assert isinstance(outcome, Replied)
    assert outcome.usage == Usage(3, 4)
    assert orjson.loads(outcome.content)[1]["input"] == {"x": None}


def test_a_reply_without_a_reason_to_stop_stops_for_what_it_holds() -> None:
    with_a_call, without = (
        parse_live_body(orjson.dumps(message(stop_reason=None))),
        message(content=[], stop_reason=None),
    )
    assert isinstance(with_a_call, Replied)
    assert with_a_call.stop_reason == "tool_use"
    assert parse_live_body(orjson.dumps(without))[0] == "end_turn"  # pyright: ignore[reportIndexIssue] # a reply


@pytest.mark.parametrize(
    "line", [b"", b"{}", PAGE, b'{"custom_id":5,"result":{"type":"expired"}}', b'{"custom_id":"t-1"']
)
def test_a_line_that_is_none_or_was_cut_says_nothing_of_any_row(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_result_line(line)


MCP_LISTED = {
    "tools": [
        {
            "name": "find",
            "description": "Find it.",
            "inputSchema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
            "annotations": {"readOnlyHint": True},
        }
    ]
}
MCP_SAID = {"content": [{"type": "text", "text": "it is here"}], "structuredContent": {"place": 7}, "isError": False}


@pytest.mark.parametrize("seed", range(8 * ROUNDS))
async def test_a_list_of_tools_changed_at_random_is_taken_or_refused_by_name(tmp_path: Path, seed: int) -> None:
    """Its schemas too: what no model can be offered is a mistake that names the server, never a traceback."""
    page = _changed_object(random.Random(seed), MCP_LISTED)
    try:
        async with scripted(tmp_path / "server", page, answers={}, timeout_seconds=5) as pool:
            await pool.catalogue()
    except UserMistake as mistake:
        assert "tools.s" in str(mistake) or "'s'" in str(mistake)


async def test_what_a_tool_says_changed_at_random_is_words_for_the_model(tmp_path: Path) -> None:
    chance = random.Random(ROUNDS)
    names = [f"t{n}" for n in range(25 * ROUNDS)]
    said = {name: result(change_value(chance, orjson.dumps(MCP_SAID)).decode("latin-1")) for name in names}
    async with scripted(tmp_path / "server", answers=said, timeout_seconds=5) as pool:
        outcomes = await pool.call_all([(f"s__{name}", {}) for name in names])
    assert len(outcomes) == len(names)
    assert all(isinstance(each.text, str) and each.text for each in outcomes)


EVENT = {"specversion": "1.0", "id": "e1", "type": "row", "source": "s", "data": {"id": "m1", "message": "late"}}


@pytest.mark.parametrize("seed", range(100 * ROUNDS))
def test_a_webhook_changed_at_random_is_a_message_or_is_refused(seed: int) -> None:
    chance = random.Random(seed)
    rules = RowRules(job="job", columns=("id", "message"), key=("id",), row_bytes=1000)
    body = mutate(chance, orjson.dumps(chance.choice([EVENT, EVENT["data"], [EVENT["data"]] * 2])))
    with suppress(MessageRefused):
        value = parse_body(body)
        check_message_id(cloud_event_id(value) or "e1")
        assert build_message(rules, "e1", value).rows


def _changed_object(chance: random.Random, value: dict[str, Any]) -> dict[str, Any]:
    """The same with one value changed, as JSON that others can read."""
    while True:
        with suppress(ValueError):
            if isinstance(found := orjson.loads(change_value(chance, orjson.dumps(value))), dict):
                return found
