"""Prefect blocks that an operator fills in."""

# `prefect block register -m blocks` looks for blocks in this module and in no other.
from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from blocks.model_ladder import ModelLadder
from blocks.tool_server import ToolServer
from blocks.webhook_secrets import WebhookSecrets

__all__ = ["ClaudeCredentials", "LedgerDatabase", "ModelLadder", "ToolServer", "WebhookSecrets"]
