"""Who may send rows."""

import os

from configuration.operator import current_operator
from rowtide.intake.signatures import WebhookSecretSet, parse_webhook_secrets


async def webhook_secrets_in_force() -> WebhookSecretSet | None:
    """As ROWTIDE_WEBHOOK_SECRETS says, else as was filled in, else None. Raises WorldError."""
    if words := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return parse_webhook_secrets(words)
    return await current_operator().filled_in(WebhookSecretSet)
