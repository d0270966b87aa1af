"""Stages that follow each other share their tool servers; nothing is kept for a batch that takes hours."""

import os
from contextvars import ContextVar
from pathlib import Path

import psutil
from conftest import make_job, wait_until
from outside import rowtide

from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.kept_pool import KeptPool, keep_tool_servers, one_event_loop, pool_of
from rowtide.tools.tools import ToolPool

SERVER = """
import os, sys
from pathlib import Path
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

with Path(os.environ["STARTED"]).open("a") as file:
    file.write(f"{os.getpid()}\\n")
server = MCPServer("shop")

@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def price(what: str) -> str:
    if what == "death":
        os._exit(1)
    return f"{what}: 7"

server.run()
"""


PRICE = '{"result":"tea: 7"}'


def made_of(folder: Path) -> tuple[dict[str, ToolServerSpec], Path, dict[str, str], int]:
    """A server that notes each of its starts in `folder/started`."""
    (folder / "server.py").write_text(SERVER)
    env = {"STARTED": str(folder / "started")}
    return {"shop": ToolServerSpec(command="python", args=["server.py"], env=env)}, folder, dict(os.environ), 10_000


def starts(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "started").read_text().split()]


async def ask(folder: Path, what: str = "tea") -> str:
    """One stage that calls a tool."""
    given = made_of(folder)
    async with pool_of(given, lambda: ToolPool(*given)) as pool:
        return (await pool.call("shop__price", {"what": what})).text


async def test_stages_share_a_server_while_they_follow_each_other_and_it_ends_with_the_pump(tmp_path: Path) -> None:
    async with keep_tool_servers():
        assert [await ask(tmp_path) for _ in range(3)] == [PRICE] * 3
        (only,) = starts(tmp_path)
        assert psutil.pid_exists(only)
    wait_until(lambda: not psutil.pid_exists(only))


async def test_without_a_pump_each_stage_has_servers_of_its_own(tmp_path: Path) -> None:
    assert [await ask(tmp_path) for _ in range(2)] == [PRICE] * 2
    assert len(starts(tmp_path)) == 2


async def test_a_server_that_nobody_calls_for_a_moment_is_ended_and_started_again_when_it_is_called(
    tmp_path: Path,
) -> None:
    given, kept = made_of(tmp_path), KeptPool(idle_seconds=0)
    async with kept.opened(given, lambda: ToolPool(*given)) as pool:
        await pool.call("shop__price", {"what": "tea"})
    assert kept.ending is not None
    await kept.ending
    (first,) = starts(tmp_path)
    wait_until(lambda: not psutil.pid_exists(first))
    async with kept.opened(given, lambda: ToolPool(*given)) as pool:
        assert (await pool.call("shop__price", {"what": "tea"})).text == PRICE
    await kept.end()
    assert len(starts(tmp_path)) == 2


async def test_what_is_made_of_something_else_is_another_pool(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with keep_tool_servers():
        await ask(first)
        await ask(second)
    assert (len(starts(first)), len(starts(second))) == (1, 1)


async def test_a_server_that_died_is_not_kept(tmp_path: Path) -> None:
    """What it was counted for is forgotten with it, as it was when each stage had servers of its own."""
    given, kept = made_of(tmp_path), KeptPool()
    async with kept.opened(given, lambda: ToolPool(*given)) as pool:
        await pool.call("shop__price", {"what": "death"})
        assert pool.is_unhealthy
    assert kept.ending is not None
    await kept.ending
    async with kept.opened(given, lambda: ToolPool(*given)) as other:
        assert other is not pool
        assert (await other.call("shop__price", {"what": "tea"})).text == PRICE
    await kept.end()


def test_coroutines_on_one_event_loop_share_a_server_and_each_sees_what_its_caller_set(tmp_path: Path) -> None:
    """As a command's plan and its run do."""
    setting = ContextVar("setting", default="before")

    async def seen() -> str:
        return setting.get()

    with one_event_loop() as run_on_loop:
        assert run_on_loop(ask(tmp_path)) == PRICE
        setting.set("after")
        assert run_on_loop(seen()) == "after"
        assert run_on_loop(ask(tmp_path)) == PRICE
        (only,) = starts(tmp_path)
        assert psutil.pid_exists(only)
    wait_until(lambda: not psutil.pid_exists(only))


def test_a_command_starts_a_server_once_for_its_plan_and_for_all_rounds_of_its_run(api: object, tmp_path: Path) -> None:
    """One row after the other: the stages come round for each of them. The key, which is set between plan and run of a
    rehearsal, is not the server's."""
    job = make_job(
        tmp_path / "job",
        rows="id,what\n" + "".join(f"m{n},thing {n}\n" for n in range(3)),
        answer="from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    price: str\n",
        prompt="Find the price.\n---\nwhat: {{ what }}\n",
        tools={"shop": {"command": "python", "args": ["server.py"], "env": {"STARTED": str(tmp_path / "started")}}},
        limits={"batch_rows": 1},
    )
    (job / "server.py").write_text(SERVER)
    found = rowtide("run", job, "--json", environment={"ANTHROPIC_API_KEY": None}).summary
    assert (found["loaded"], found["batches"] > 1) == (3, True)
    assert len(starts(tmp_path)) == 1
