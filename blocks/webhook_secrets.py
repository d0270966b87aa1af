"""The block of the secrets that webhooks are signed with."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from rowtide.intake.signatures import SHAPE, WebhookSecretSet, parse_webhook_secrets

SLUG = "rowtide-webhook-secrets"


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
    _documentation_url = HttpUrl("https://www.standardwebhooks.com")

    secrets: SecretStr = Field(description=f"{SHAPE}.")

    def get_secrets(self) -> WebhookSecretSet:
        """Return the secrets for checking signatures. Raises UserMistake."""
        return parse_webhook_secrets(self.secrets.get_secret_value())
