"""Whatever a tool server does, a call ends in an outcome the model can read."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rowtide.errors import UserMistake
from rowtide.job import ToolServerSpec
from rowtide.tools import ToolPool

SERVERS = Path(__file__).parent / "servers"


def pool(**spec: Any) -> ToolPool:
    given = {"command": "python", "args": ["fickle.py"], "timeout_seconds": 10.0, **spec}
    return ToolPool({"fickle": ToolServerSpec.model_validate(given)}, SERVERS, {"PATH": "/usr/bin:/bin"}, 500)


async def test_a_tool_is_called_by_its_wire_name_and_answers_as_json() -> None:
    async with pool() as tools:
        found = await tools.call("fickle__add", {"a": 2, "b": 3})
    assert (found.tool, found.is_error) == ("fickle.add", False)
    assert '"sum": 5' in found.text or '"sum":5' in found.text


async def test_the_catalogue_is_in_a_fixed_order_and_holds_only_what_the_job_allows() -> None:
    async with pool() as tools, pool(tools=["add"]) as fewer:
        names = [tool.wire_name for tool in await tools.catalogue()]
        (only,) = await fewer.catalogue()
        denied = await fewer.call("fickle__crash", {})
    assert names == sorted(names)
    assert (only.name, only.read_only) == ("fickle.add", True)
    assert only.input_schema["additionalProperties"] is False
    assert denied.is_error


async def test_a_tool_that_says_no_says_it_to_the_model() -> None:
    async with pool() as tools:
        found = await tools.call("fickle__refuse", {})
        unknown = await tools.call("fickle__divide", {})
        wrong = await tools.call("fickle__add", {"a": "two"})
    assert found.is_error
    assert "try tomorrow" in found.text
    assert unknown.is_error
    assert wrong.is_error


async def test_a_server_that_crashes_costs_its_calls_and_is_started_again() -> None:
    async with pool() as tools:
        crashed = await tools.call("fickle__crash", {})
        after = await tools.call("fickle__add", {"a": 1, "b": 1})
    assert crashed.is_error
    assert "stopped while answering" in crashed.text
    assert not after.is_error


async def test_a_tool_that_hangs_is_given_up_and_the_others_go_on() -> None:
    async with pool(timeout_seconds=1.0) as tools:
        hung, fine = await asyncio.gather(tools.call("fickle__hang", {}), tools.call("fickle__add", {"a": 1, "b": 1}))
    assert hung.is_error
    assert "within 1 seconds" in hung.text
    assert not fine.is_error


async def test_a_tool_that_says_too_much_is_cut_and_the_model_is_told() -> None:
    async with pool() as tools:
        found = await tools.call("fickle__talk", {})
    assert len(found.text) < 600
    assert "characters, the first 500 shown" in found.text


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"args": ["nowhere.py"]}, "tools.fickle: `python nowhere.py` did not start.*No such file"),
        ({"command": "no-such-program", "args": []}, "tools.fickle: `no-such-program` did not start"),
        ({"tools": ["adds"]}, "no tool 'adds'.*did you mean 'add'"),
    ],
)
async def test_a_server_that_will_not_serve_is_named_before_anything_is_sent(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        async with pool(**spec) as tools:
            await tools.catalogue()


def test_a_missing_variable_of_a_server_is_named() -> None:
    with pytest.raises(UserMistake, match="tools.fickle.env: TOKEN is not set"):
        pool(env={"TOKEN": "${TOKEN}"})
