"""How to reach Claude."""

import os

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from rowtide.claude import Claude
from rowtide.errors import UserMistake


class ClaudeCredentials(Block):
    """An API key and the server it is for."""

    _block_type_name = "Claude Credentials"
    _block_type_slug = "rowtide-claude"
    _description = "An API key for Claude and the server it is for."

    api_key: SecretStr = Field(description="An Anthropic API key; its workspace pays for the batches.")
    base_url: str = Field(default="https://api.anthropic.com", description="The server that speaks the API.")

    @classmethod
    def from_environment(cls) -> "ClaudeCredentials":
        """As ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL say, as they do to the SDK."""
        key = os.environ.get("ANTHROPIC_API_KEY")
        if not key:
            raise UserMistake("ANTHROPIC_API_KEY is not set")
        base_url = os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        return cls(api_key=SecretStr(key), base_url=base_url)

    def get_client(self) -> Claude:
        """A client for as long as an `async with` lasts."""
        return Claude(self.api_key.get_secret_value(), self.base_url)
