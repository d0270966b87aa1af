"""Blocks keep Prefect's own standards, and what is filled in reaches a run: its key, its ledger, its tools' secrets."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import ask_ledger, make_job
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect.types import SecretDict
from pydantic import SecretStr, ValidationError

import blocks
from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from blocks.operator_blocks import OperatorBlocks
from blocks.tool_server import ToolServer
from blocks.webhook_secrets import WebhookSecrets
from configuration.operator import with_operator
from configuration.tool_places import tool_places_in_force
from configuration.webhook_secrets import webhook_secrets_in_force
from flows.run_job import run_job
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.operator_servers import OperatorServers, ServerPlace, apply_operator_servers

DESK = Path(__file__).parent / "servers" / "desk.py"
ANSWER = "from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    desk: str\n"
PROMPT = "Find the desk.\n---\norder: {{ order }}\n"


class TestBlocks(BlockStandardTestSuite):
    # The suite's own fixture is abstract: without this one pytest passes the class over in silence.
    @pytest.fixture(params=[getattr(blocks, name) for name in blocks.__all__])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param

    @pytest.mark.skip(reason="it fetches a picture from the network")
    def test_has_a_valid_image(self, block: type[Block]) -> None: ...


async def test_what_stands_in_blocks_reaches_a_run_and_no_secret_stays_in_its_ledger(
    prefect_server: str, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, home, log = os.environ["ANTHROPIC_API_KEY"], tmp_path / "elsewhere", tmp_path / "hush-hush.log"
    for name in ("ANTHROPIC_API_KEY", "ROWTIDE_HOME"):
        monkeypatch.delenv(name)
    filled_in: list[Block] = [
        ClaudeCredentials(api_key=SecretStr(key), base_url=os.environ["ANTHROPIC_BASE_URL"], confirm_within_seconds=1),
        LedgerDatabase(url=SecretStr(f"sqlite:///{home / 'other.db'}"), home=home),
        ToolServer(command="python", args=[SecretStr(str(DESK))], env=SecretDict({"DESK_LOG": str(log)})),
    ]
    tools = {"desk": {"command": "not-there", "tools": ["find_order"]}}
    job = make_job(tmp_path / "job", rows="id,order\nm1,A-1\n", answer=ANSWER, prompt=PROMPT, tools=tools)
    names = ["default", "default", "desk"]
    for block, name in zip(filled_in, names, strict=True):
        await block.asave(name, overwrite=True)
    try:
        found = await run_job(str(job))
        assert log.name not in str(await ToolServer.aload("desk"))
    finally:
        for block, name in zip(filled_in, names, strict=True):
            await type(block).adelete(name)
    assert (found["loaded"], found["tools"]["desk.find_order"]["calls"]) == (1, 1)
    assert log.read_text().count("find_order") == 1
    (home / "other.db").rename(home / "ledger.db")
    assert ask_ledger(home, "SELECT count(*) FROM row WHERE state = 'loaded'") == [(1,)]
    assert b"hush-hush" not in (home / "ledger.db").read_bytes()


async def test_webhook_secrets_stand_in_a_block_where_the_environment_has_none(prefect_server: str) -> None:
    await WebhookSecrets(secrets=SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).asave("default", overwrite=True)
    try:
        with with_operator(OperatorBlocks()):
            assert (found := await webhook_secrets_in_force()) and len(found.of("any")) == 1
    finally:
        await WebhookSecrets.adelete("default")


async def test_without_a_block_nothing_is_provided(prefect_server: str) -> None:
    with with_operator(OperatorBlocks()):
        assert await tool_places_in_force() == OperatorServers({}, {})


def test_a_tool_server_is_a_program_or_a_url_or_only_secrets() -> None:
    with pytest.raises(ValidationError, match="`command` or `url`"):
        ToolServer(command="python", url="https://tools.example")
    with pytest.raises(ValidationError, match="those of `command`"):
        ToolServer(args=[SecretStr("server.py")])


def test_the_block_named_for_a_job_comes_before_the_one_for_all_and_a_capability_is_a_name_too() -> None:
    specs = {
        "the_shop": ToolServerSpec(command="python", args=["shop.py"], env={"A": "1"}, tools=["price"]),
        "clock": ToolServerSpec(capability="time"),
        "stub": ToolServerSpec(url="https://mine.example", headers={"X-Team": "me"}),
    }
    places = {
        "the-shop": ServerPlace(url="https://shop.example"),
        "job-the-shop": ServerPlace(env={"TOKEN": "${SECRET}"}),
        "time": ServerPlace(command="clock", args=["--utc"]),
        "stub": ServerPlace(url="https://theirs.example", headers={"Authorization": "${KEY}"}),
    }
    mine, others = (apply_operator_servers(job, specs, OperatorServers(places)) for job in ("job", "other"))
    assert (mine["the_shop"].command, mine["the_shop"].env) == ("python", {"A": "1", "TOKEN": "${SECRET}"})
    assert (others["the_shop"].url, others["the_shop"].args, others["the_shop"].tools) == (
        "https://shop.example",
        [],
        ["price"],
    )
    assert (mine["clock"].command, mine["clock"].args, mine["clock"].capability) == ("clock", ["--utc"], None)
    assert mine["stub"].headers == {"X-Team": "me", "Authorization": "${KEY}"}
