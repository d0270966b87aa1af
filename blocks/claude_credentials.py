"""The block of credentials for the Claude API."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from configuration.claude_settings import CONFIRM_WITHIN_SECONDS, ClaudeSettings
from rowtide.api.api_identity import DEFAULT_URL
from rowtide.api.claude import Claude

SLUG = "rowtide-claude"


class ClaudeCredentials(Block):
    """An API key and the server it is for.

    Example:
        Load the credentials and make a client:
        ```python
        from blocks.claude_credentials import ClaudeCredentials

        credentials = ClaudeCredentials.load("BLOCK_NAME")
        credentials.get_client()
        ```
    """

    _block_type_name = "Claude Credentials"
    _block_type_slug = SLUG
    _description = "An API key for Claude and the server it is for."
    _documentation_url = HttpUrl("https://docs.claude.com/en/api/overview")

    api_key: SecretStr = Field(description="An Anthropic API key; its workspace pays for the batches.")
    base_url: str = Field(default=DEFAULT_URL, description="The server that speaks the API.")
    confirm_within_seconds: float = Field(
        default=CONFIRM_WITHIN_SECONDS,
        ge=0,
        le=86_400,
        description="How long the server may take to list a batch it has taken. Too short a time can pay twice.",
    )

    def get_settings(self) -> ClaudeSettings:
        """Return the settings for the stages."""
        return ClaudeSettings(self.api_key.get_secret_value(), self.base_url, self.confirm_within_seconds)

    def get_client(self) -> Claude:
        """Return a client for the length of an `async with`."""
        return self.get_settings().get_client()
