"""The emulator's doorway and envelope: keys, versions, headers, and every refusal of a whole call, word for word."""

import gzip
from collections.abc import AsyncGenerator, Generator
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic

from emulator.server import Emulator, start
from emulator.world import workspace_of

HEADERS = {"authorization": "Bearer key", "anthropic-version": "2026-10-21"}
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BATCHES = "/v1/messages/batches"


@pytest.fixture(scope="module")
def emulator() -> Generator[Emulator]:
    with start() as running:
        yield running


@pytest.fixture
async def api(emulator: Emulator) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=emulator.url, headers=HEADERS, timeout=30) as client:
        yield client


def row(custom_id: object = "r-1", **params: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": PARAMS | params}


async def refusal(api: httpx2.AsyncClient, envelope: object) -> str:
    """The message of the 400 that this batch is answered with."""
    answer = await api.post(BATCHES, json=envelope)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    return answer.json()["error"]["message"]


@pytest.mark.parametrize("header", [{"authorization": "Bearer key"}, {"x-api-key": "key"}])
async def test_a_key_may_come_in_either_header(emulator: Emulator, header: dict[str, str]) -> None:
    async with httpx2.AsyncClient(base_url=emulator.url) as client:
        answer = await client.get(BATCHES, headers={**header, "anthropic-version": "2023-06-01"})
    assert answer.status_code == 200
    assert answer.headers["anthropic-workspace-id"] == workspace_of("key")


async def test_a_call_without_a_key_a_good_key_or_a_version_is_refused(emulator: Emulator) -> None:
    async with httpx2.AsyncClient(base_url=emulator.url) as client:
        keyless = await client.get(BATCHES)
        bad = await client.get(BATCHES, headers={"x-api-key": "bad-key", "anthropic-version": "2026-10-21"})
        unversioned = await client.get(BATCHES, headers={"x-api-key": "key"})
        misversioned = await client.get(BATCHES, headers={"x-api-key": "key", "anthropic-version": "2019-01-01"})
    assert keyless.status_code == bad.status_code == 401
    assert keyless.json()["error"] == {"type": "authentication_error", "message": "x-api-key header is required"}
    assert bad.json()["error"] == {"type": "authentication_error", "message": "API key is invalid."}
    assert unversioned.status_code == misversioned.status_code == 400
    assert unversioned.json()["error"]["message"] == "anthropic-version: header is required"


async def test_every_answer_has_a_request_id_and_errors_repeat_it(api: httpx2.AsyncClient) -> None:
    good, wrong = await api.get(BATCHES), await api.get(f"{BATCHES}/msgbatch_01nobody")
    for answer in (good, wrong):
        assert answer.headers["request-id"].startswith("req_011C")
        assert len(answer.headers["request-id"]) == len("req_") + 24
    assert wrong.json()["request_id"] == wrong.headers["request-id"]


async def test_a_success_tells_the_rates(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/messages", json=PARAMS)
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        assert int(answer.headers[f"anthropic-ratelimit-{kind}-remaining"]) > 0
        assert answer.headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/files"), ("POST", "/v1/complete"), ("PUT", BATCHES)])
async def test_what_is_not_emulated_is_not_found(api: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await api.request(method, path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


async def test_a_beta_is_known_or_refused(api: httpx2.AsyncClient) -> None:
    known = await api.get(f"{BATCHES}?beta=true", headers={"anthropic-beta": "output-300k-2026-03-24"})
    unknown = await api.get(BATCHES, headers={"anthropic-beta": "invalid-beta-name"})
    assert known.status_code == 200
    assert unknown.status_code == 400
    assert unknown.json()["error"]["message"] == (
        "Unexpected value(s) `invalid-beta-name` for the `anthropic-beta` header. Please consult our documentation at "
        "platform.claude.com/docs or try again without the header."
    )


async def test_a_body_may_be_gzipped_and_nothing_else(api: httpx2.AsyncClient) -> None:
    body = orjson.dumps({"requests": [row()]})
    zipped = await api.post(BATCHES, content=gzip.compress(body), headers={"content-encoding": "gzip"})
    broken = await api.post(BATCHES, content=body, headers={"content-encoding": "gzip"})
    strange = await api.post(BATCHES, content=body, headers={"content-encoding": "br"})
    assert zipped.status_code == 200
    assert broken.json()["error"]["details"] == {"error_code": "request_body_encoding_invalid"}
    assert strange.json()["error"]["details"] == {"error_code": "request_body_encoding_unsupported"}


async def test_a_body_that_is_not_json_is_refused(api: httpx2.AsyncClient) -> None:
    answer = await api.post(BATCHES, content=b'{"requests": [')
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The request body is not valid JSON: ")


async def test_a_message_of_more_than_32_mb_is_too_large(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.json()["error"] == {"type": "request_too_large", "message": "Request exceeds the maximum size"}


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        (None, "requests: Field required"),
        ([], "requests: List should have at least 1 item after validation, not 0"),
        ([{"params": PARAMS}], "requests.0.custom_id: Field required"),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
        ([row(7)], "requests.0.custom_id: Input should be a valid string"),
        ([row("x" * 65)], "requests.0.custom_id: String should have at most 64 characters"),
        ([row("a b")], "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        ([row("a"), row("a\n")], "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        (
            [row("dup"), row("dup")],
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: dup",
        ),
        (
            [{}] * 100_001,
            "requests: List should have at most 100000 items after validation, not 100001",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
async def test_an_envelope_is_refused_whole(api: httpx2.AsyncClient, requests: object, message: str) -> None:
    assert await refusal(api, {} if requests is None else {"requests": requests}) == message


async def test_what_stands_in_params_refuses_no_batch(api: httpx2.AsyncClient) -> None:
    nonsense: list[dict[str, Any]] = [
        {"custom_id": "empty", "params": {}},
        row("no-model", model="claude-nope"),
        row("stream", stream=True),
    ]
    answer = await api.post(BATCHES, json={"requests": nonsense})
    assert (answer.status_code, answer.json()["request_counts"]["processing"]) == (200, 3)


async def test_batches_beyond_the_queue_limit_are_told_to_wait() -> None:
    with start(queue_limit=3, batch_seconds=(60, 60)) as busy:
        client = AsyncAnthropic(base_url=busy.url, api_key="key", max_retries=0)
        requests: Any = [row(f"r-{n}") for n in range(2)]
        await client.messages.batches.create(requests=requests)
        with pytest.raises(anthropic.RateLimitError):
            await client.messages.batches.create(requests=requests)
        busy.world.clock.advance(61)
        await client.messages.batches.create(requests=requests)


async def test_the_sdk_posts_again_when_a_reply_is_lost_and_so_pays_twice(emulator: Emulator) -> None:
    """Why Rowtide switches the SDK's retries off for creating batches."""
    emulator.world.faults.load([{"call": "create", "key": "retrying", "first": 1, "do": {"drop": "after"}}])
    client = AsyncAnthropic(base_url=emulator.url, api_key="retrying", max_retries=1)
    requests: Any = [row()]
    await client.messages.batches.create(requests=requests)
    assert len(emulator.world.batches_of("retrying")) == 2
