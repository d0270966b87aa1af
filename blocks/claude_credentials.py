"""How to reach Claude."""

import os
from datetime import timedelta

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from blocks.documents import NAME, stored
from rowtide.api.claude import Claude
from rowtide.api.which_api import DEFAULT_URL, OWN_EMULATOR, REHEARSAL, Api, check_same, named
from rowtide.environment import number_in
from rowtide.errors import UserMistake
from rowtide.ledger.ledger import Run
from rowtide.masking import know_secrets

SLUG = "rowtide-claude"
SETTLE_SECONDS = 30.0


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
    settle_seconds: float = Field(
        default=SETTLE_SECONDS,
        ge=0,
        le=86_400,
        description="How long the server may take to list a batch it has taken. Too short a time can pay twice.",
    )

    @classmethod
    def from_environment(cls) -> "ClaudeCredentials":
        """As ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL say, as they do to the SDK; and ROWTIDE_SETTLE_SECONDS."""
        key = os.environ.get("ANTHROPIC_API_KEY")
        if not key:
            raise UserMistake(f"ANTHROPIC_API_KEY is not set, and there is no block {SLUG}/{NAME}")
        base_url = os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL
        settle = number_in(os.environ, "ROWTIDE_SETTLE_SECONDS", SETTLE_SECONDS, least=0, most=86_400)
        return cls(api_key=SecretStr(key), base_url=base_url, settle_seconds=settle)

    @classmethod
    async def in_force(cls) -> "ClaudeCredentials":
        """As the environment says; where it names no key, the block `default`. Raises UserMistake, WorldError."""
        if not os.environ.get("ANTHROPIC_API_KEY") and (found := await stored(SLUG)):
            return cls.model_validate(found)
        return cls.from_environment()

    @classmethod
    async def name_in_force(cls) -> str:
        """What the ledger knows the API by that would answer; empty where nobody has named one. Raises WorldError."""
        try:
            return (await cls.in_force()).api
        except UserMistake:
            return ""

    @property
    def settle(self) -> timedelta:
        return timedelta(seconds=self.settle_seconds)

    @property
    def api(self) -> str:
        """What the ledger knows this API by; the emulator that `rowtide` has started for itself by its name."""
        return OWN_EMULATOR if os.environ.get(REHEARSAL) else named(self.base_url)

    @classmethod
    async def api_in_force(cls) -> Api:
        """Which API would answer, and whether it makes its answers up. Raises UserMistake where there is no key."""
        if os.environ.get(REHEARSAL):
            return Api(OWN_EMULATOR, is_made_up=True)
        credentials = await cls.in_force()
        if credentials.api == DEFAULT_URL:
            return Api(DEFAULT_URL)
        async with credentials.get_client() as claude:
            return Api(credentials.api, is_made_up=await claude.is_emulator())

    def get_client(self, run: Run | None = None) -> Claude:
        """A client for as long as an `async with` lasts. Raises UserMistake when another API answers the run."""
        if run is not None:
            check_same(run.run_id, run.api, self.api)
        know_secrets({"api_key": self.api_key.get_secret_value()})
        return Claude(self.api_key.get_secret_value(), self.base_url, self.api)
