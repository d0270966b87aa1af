"""An operator's settings from Prefect's blocks, read when needed, so that a change takes effect at once."""

from collections.abc import Callable
from typing import Any, TypeVar

from prefect.blocks.core import Block

from blocks.block_documents import read_all_blocks, read_default_block
from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from blocks.model_ladder import ModelLadder
from blocks.tool_server import SLUG, ToolServer
from blocks.webhook_secrets import WebhookSecrets
from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from configuration.operator import Operator
from rowtide.intake.signatures import WebhookSecretSet
from rowtide.tiers.catalogue import Overrides
from rowtide.tools.operator_servers import OperatorServers

T = TypeVar("T")


class OperatorBlocks(Operator):
    """Prefect's blocks: the one called `default` of each kind, and those of all tool servers."""

    async def filled_in(self, kind: type[T]) -> T | None:
        """Raises WorldError when Prefect does not answer, and UserMistake when a block is wrong."""
        block, read = _BLOCKS[kind]
        if block is ToolServer:
            return read(await read_all_blocks(SLUG))
        found = await read_default_block(block.get_block_type_slug())
        return None if found is None else read(block.model_validate(found))


def _places(found: dict[str, dict[str, Any]]) -> OperatorServers:
    servers = {name: ToolServer.model_validate(each) for name, each in found.items()}
    return OperatorServers(
        {name: server.get_place(name) for name, server in servers.items()},
        {key: value for name, server in servers.items() for key, value in server.get_secrets(name).items()},
    )


_BLOCKS: dict[type, tuple[type[Block], Callable[[Any], Any]]] = {
    ClaudeSettings: (ClaudeCredentials, ClaudeCredentials.get_settings),
    LedgerSettings: (LedgerDatabase, LedgerDatabase.get_settings),
    Overrides: (ModelLadder, ModelLadder.get_overrides),
    OperatorServers: (ToolServer, _places),
    WebhookSecretSet: (WebhookSecrets, WebhookSecrets.get_secrets),
}
