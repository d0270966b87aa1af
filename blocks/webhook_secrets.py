"""Who may send rows."""

import os

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import Field, SecretStr

from rowtide.errors import WorldError
from rowtide.intake.signatures import SHAPE, Secrets, read_secrets

SLUG, NAME = "rowtide-webhook-secrets", "default"


class WebhookSecrets(Block):
    """The secrets that webhooks are signed with.

    Example:
        Load the secrets and see for which jobs there are some:
        ```python
        from blocks.webhook_secrets import WebhookSecrets

        secrets = WebhookSecrets.load("BLOCK_NAME")
        secrets.get_secrets()
        ```
    """

    _block_type_name = "Webhook Secrets"
    _block_type_slug = SLUG
    _description = "The secrets that webhooks to `rowtide serve` are signed with: several, so that they can be changed."

    secrets: SecretStr = Field(description=f"{SHAPE}.")

    def get_secrets(self) -> Secrets:
        """The secrets, as signatures are checked with them. Raises UserMistake."""
        return read_secrets(self.secrets.get_secret_value())


async def secrets_in_force() -> Secrets | None:
    """As ROWTIDE_WEBHOOK_SECRETS says, else the block where there is a Prefect API, else None. Raises WorldError."""
    if words := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return read_secrets(words)
    if not get_current_settings().api.url:
        return None
    try:
        async with get_client() as client:
            document = await client.read_block_document_by_name(NAME, SLUG)
    except ObjectNotFound:
        return None
    except httpx.HTTPError as error:
        raise WorldError(f"Prefect did not say whether there are secrets: {type(error).__name__}") from error
    return WebhookSecrets.model_validate(dict(document.data)).get_secrets()
