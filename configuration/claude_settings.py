"""Settings of the Claude API: key, server, and how long to wait for a batch to be listed."""

import os
from dataclasses import dataclass, field
from datetime import timedelta

from configuration.operator import current_operator
from rowtide.api.api_identity import DEFAULT_URL, OWN_EMULATOR, REHEARSAL, Api, api_name, check_same_api
from rowtide.api.claude import Claude
from rowtide.environment_numbers import number_from_environment
from rowtide.errors import UserMistake
from rowtide.ledger.ledger import Run
from rowtide.masking import register_secrets

CONFIRM_WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class ClaudeSettings:
    """An API key and the server it is for."""

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_URL
    confirm_within_seconds: float = CONFIRM_WITHIN_SECONDS

    @classmethod
    def from_environment(cls) -> "ClaudeSettings":
        """Read ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL, like the SDK, and ROWTIDE_CONFIRM_WITHIN_SECONDS. Raises
        UserMistake.
        """
        key = os.environ.get("ANTHROPIC_API_KEY")
        if not key:
            raise UserMistake("ANTHROPIC_API_KEY is not set, and there is no block rowtide-claude/default")
        base_url = os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL
        confirm_within = number_from_environment(
            os.environ, "ROWTIDE_CONFIRM_WITHIN_SECONDS", CONFIRM_WITHIN_SECONDS, least=0, most=86_400
        )
        return cls(key, base_url, confirm_within)

    @classmethod
    async def in_force(cls) -> "ClaudeSettings":
        """Return the environment's settings; without a key there, the operator's. Raises UserMistake, WorldError."""
        if not os.environ.get("ANTHROPIC_API_KEY") and (found := await current_operator().filled_in(cls)):
            return found
        return cls.from_environment()

    @classmethod
    async def name_in_force(cls) -> str:
        """Return the ledger's name of the API in force; empty if none is configured. Raises WorldError."""
        try:
            return (await cls.in_force()).api
        except UserMistake:
            return ""

    @property
    def confirm_within(self) -> timedelta:
        return timedelta(seconds=self.confirm_within_seconds)

    @property
    def api(self) -> str:
        """The ledger's name of this API; a rehearsal's emulator has a name of its own."""
        return OWN_EMULATOR if os.environ.get(REHEARSAL) else api_name(self.base_url)

    @classmethod
    async def api_in_force(cls) -> Api:
        """Return the API in force, and whether it makes its answers up. Raises UserMistake without a key."""
        if os.environ.get(REHEARSAL):
            return Api(OWN_EMULATOR, is_made_up=True)
        credentials = await cls.in_force()
        if credentials.api == DEFAULT_URL:
            return Api(DEFAULT_URL)
        async with credentials.get_client() as claude:
            return Api(credentials.api, is_made_up=await claude.is_emulator())

    def get_client(self, run: Run | None = None) -> Claude:
        """Return a client for the length of an `async with`. Raises UserMistake when the run belongs to another API."""
        if run is not None:
            check_same_api(run.run_id, run.api, self.api)
        register_secrets({"api_key": self.api_key})
        return Claude(self.api_key, self.base_url, self.api)
