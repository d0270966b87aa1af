"""The live probe names exactly those answers of the API that are not as Rowtide relies on, and quotes no text."""

import asyncio
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from outside import rowtide
from test_world_mutations import Between

from emulator.server import start
from rowtide.api.claude import Claude
from rowtide.stages.diagnose.live_probe import Probed, probe_api, probe_as_json, probe_cost_usd
from rowtide.tiers.catalogue import load_catalogue

HAIKU = load_catalogue().models["haiku"]
Change = Callable[[str, bytes], bytes]


@pytest.fixture(scope="module")
def emulator() -> Generator[Any]:
    with start(batch_seconds=(0.0, 0.0)) as server:
        yield server


def probed(url: str) -> list[Probed]:
    async def probe() -> list[Probed]:
        async with Claude("key", url) as claude:
            return await probe_api(claude, HAIKU, patience=timedelta(seconds=60), on_step=lambda name: None)

    return asyncio.run(probe())


def renamed(path: str, old: bytes, new: bytes) -> Change:
    """Only the answers of one path are changed."""
    return lambda asked, body: body.replace(old, new) if asked.partition("?")[0].endswith(path) else body


CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
    "a token count by another name": (
        renamed("/count_tokens", b'"input_tokens"', b'"tokens"'),
        {"token count": "input_tokens"},
    ),
    "results without the row's id": (
        renamed("/results", b'"custom_id"', b'"row"'),
        {"results": "custom_id"},
    ),
    "a batch whose counts lack one": (
        renamed("/batches", b'"expired"', b'"late"'),
        {"batch": "request_counts.expired", "list of batches": "data.0.request_counts.expired"},
    ),
    "usage as text": (
        lambda path, body: (
            body.replace(b'"output_tokens":', b'"output_tokens":"a lot","was":') if path == "/v1/messages" else body
        ),
        {
            "live reply": "usage.output_tokens",
            "tool call": "usage.output_tokens",
            "stream": "message_delta.usage.output_tokens",
        },
    ),
    "a stream that never says it is over": (
        renamed("/messages", b"message_stop", b"message_over"),
        {"stream": "events"},
    ),
    "a page instead of JSON": (
        lambda path, body: b"<html>sign in</html>" if path.endswith("count_tokens") else body,
        {"token count": ""},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_named_and_nothing_else(emulator: Any, name: str) -> None:
    change, expected = CHANGES[name]
    between = Between(emulator.url, change)
    try:
        found = probed(between.url)
    finally:
        between.close()
    differing = {each.name: [one.path for one in each.differences] for each in found if each.differences}
    assert {name: paths[0] for name, paths in differing.items()} == expected


def test_the_emulator_answers_as_rowtide_relies_on_and_the_file_holds_no_text(emulator: Any) -> None:
    found = probed(emulator.url)
    assert [each.name for each in found] == [
        *("token count", "error", "live reply", "tool call", "stream"),
        *("batch", "list of batches", "batch, ended", "results"),
    ]
    assert [each.differences for each in found] == [[]] * 9
    kept = probe_as_json(found).decode()
    assert "msg_" not in kept
    assert "msgbatch_" not in kept
    assert '"end_turn"' in kept
    assert probe_cost_usd(HAIKU) < 0.01


def test_a_person_is_told_the_price_and_asked_first(emulator: Any, tmp_path: Path) -> None:
    between = Between(emulator.url, renamed("/results", b'"succeeded"', b'"done"'))
    key = "sk-ant-live-probe-secret"
    environment = {"ROWTIDE_HOME": str(tmp_path), "ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": between.url}
    try:
        unasked = rowtide("doctor", "--live-probe", environment=environment)
        assert unasked.status == 2
        assert "at most $0.00" in unasked.err
        assert "--yes" in unasked.err
        done = rowtide("doctor", "--live-probe", "--yes", "--json", environment=environment)
    finally:
        between.close()
    assert done.status == 2
    failed = [each for each in orjson.loads(done.out) if each["verdict"] == "failed"]
    assert [each["subject"] for each in failed] == ["shape of results"]
    (file,) = (tmp_path / "reports").glob("api-shapes-*.json")
    assert key not in file.read_text() + done.out + done.err
