"""The door to the API: bytes in, bytes out, and never a create POST twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from emulator.clock import Clock
from emulator.server import start
from rowtide.api.api_outcomes import BatchCreated, BatchRefused, BatchStatus, OutcomeUnknown
from rowtide.api.api_schema import api_schema
from rowtide.api.claude import Claude
from rowtide.api.secret_placeholders import SealedBody
from rowtide.errors import UserMistake


@pytest.fixture(scope="module")
def server() -> Any:
    with start() as emulator:
        yield emulator


def body(tmp_path: Path, rows: int = 3) -> SealedBody:
    params = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    file = tmp_path / "body.json"
    file.write_bytes(orjson.dumps({"requests": [{"custom_id": f"t-{n}", "params": params} for n in range(rows)]}))
    return SealedBody(file)


async def test_a_batch_is_posted_from_disk_and_its_results_come_back_to_disk(server: Any, tmp_path: Path) -> None:
    async with Claude("key-a", server.url) as claude:
        created = await claude.create_batch(body(tmp_path))
        assert isinstance(created, BatchCreated)
        status = await claude.retrieve(created.status.api_id)
        await claude.spool_results(created.status.api_id, tmp_path / "out.jsonl")
    assert isinstance(status, BatchStatus)
    assert (status.status, status.total) == ("ended", 3)
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert sorted(orjson.loads(line)["custom_id"] for line in lines) == ["t-0", "t-1", "t-2"]


async def test_a_lost_reply_is_unknown_and_was_posted_once(server: Any, tmp_path: Path) -> None:
    server.world.faults.load([{"call": "create", "key": "key-b", "first": 1, "do": {"drop": "after"}}])
    async with Claude("key-b", server.url) as claude:
        outcome = await claude.create_batch(body(tmp_path))
        listed = await claude.list_since(datetime.now(UTC) - timedelta(minutes=1))
    assert isinstance(outcome, OutcomeUnknown)
    assert len(listed) == len(server.world.batches_of("key-b")) == 1


async def test_where_no_connection_comes_about_nothing_was_sent(tmp_path: Path) -> None:
    async with Claude("key", "http://127.0.0.1:9") as claude:
        outcome = await claude.create_batch(body(tmp_path))
    assert isinstance(outcome, BatchRefused)
    assert not outcome.is_for_good


async def test_a_refusal_is_certain_and_says_why(server: Any, tmp_path: Path) -> None:
    async with Claude("bad-key", server.url) as claude:
        outcome = await claude.create_batch(body(tmp_path))
        with pytest.raises(UserMistake, match="refused the key in ANTHROPIC_API_KEY") as caught:
            await claude.retrieve("msgbatch_1")
    assert isinstance(outcome, BatchRefused)
    assert (outcome.status_code, outcome.is_for_good) == (401, True)
    assert "bad-key" not in str(caught.value)


async def test_a_batch_nobody_knows_has_neither_status_nor_results(server: Any, tmp_path: Path) -> None:
    async with Claude("key-c", server.url) as claude:
        assert await claude.retrieve("msgbatch_nope") is None
        assert not await claude.spool_results("msgbatch_nope", tmp_path / "out.jsonl")
        assert await claude.first_lines("msgbatch_nope", 3) is None
    assert not (tmp_path / "out.jsonl").exists()


async def test_listing_goes_back_page_by_page_as_far_as_it_is_asked(tmp_path: Path) -> None:
    clock = Clock()
    with start(clock=clock) as server:
        async with Claude("key", server.url) as claude:
            await claude.create_batch(body(tmp_path, 1))
            clock.advance(3600)
            since = clock.now() - timedelta(seconds=60)
            made = [await claude.create_batch(body(tmp_path, 1)) for _ in range(105)]
            listed = await claude.list_since(since)
    assert len(listed) == len(made) == 105


class Inner(BaseModel):
    name: str
    more: "Inner | None" = None


class Recursive(BaseModel):
    inner: Inner


class Open(BaseModel):
    scores: dict[str, float]


class Fine(BaseModel):
    name: str
    scores: list[float]


@pytest.mark.parametrize(
    ("model", "words"), [(Recursive, "inner.*cannot hold itself"), (Open, "Open.scores.*a list of objects")]
)
def test_an_answer_the_apis_schemas_cannot_express_is_refused_by_field(model: type[BaseModel], words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        api_schema(model)


def test_a_schema_closes_every_object() -> None:
    assert api_schema(Fine)["additionalProperties"] is False
