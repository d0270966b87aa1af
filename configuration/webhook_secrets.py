"""Webhook secrets in force."""

import os

from configuration.operator import current_operator
from rowtide.intake.signatures import WebhookSecretSet, parse_webhook_secrets


async def webhook_secrets_in_force() -> WebhookSecretSet | None:
    """Return the secrets in ROWTIDE_WEBHOOK_SECRETS, else the operator's, else None. Raises WorldError, UserMistake."""
    if words := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return parse_webhook_secrets(words)
    return await current_operator().filled_in(WebhookSecretSet)
