"""Who may send rows."""

import os

from configuration.operator import operator
from rowtide.intake.signatures import Secrets, read_secrets


async def secrets_in_force() -> Secrets | None:
    """As ROWTIDE_WEBHOOK_SECRETS says, else as was filled in, else None. Raises WorldError."""
    if words := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return read_secrets(words)
    return await operator().filled_in(Secrets)
