"""Verifies Standard Webhooks signatures, and the age of signed messages."""

import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rowtide.errors import UserMistake
from rowtide.extras import extra
from rowtide.intake.messages import MessageRefused
from rowtide.intake.request_headers import check_signature_headers

if TYPE_CHECKING:
    from standardwebhooks import Webhook

SECRET_BYTES = 24  # the specification's minimum
SHAPE = "whsec_… or JOB=whsec_…, several with a space between them"


@dataclass(frozen=True, slots=True)
class WebhookSecretSet:
    """The secrets that may sign: for every job, or for one. A job with secrets of its own accepts no others."""

    of_all: "Sequence[Webhook]"
    of_job: "Mapping[str, Sequence[Webhook]]"

    def of(self, job: str) -> "Sequence[Webhook]":
        return self.of_job.get(job) or self.of_all


def parse_webhook_secrets(words: str) -> WebhookSecretSet:
    """Parse secrets as an operator writes them. Raises UserMistake, which never shows one."""
    of_all: list[Webhook] = []
    of_job: dict[str, list[Webhook]] = {}
    for n, word in enumerate(words.split(), 1):
        job, _, secret = word.rpartition("=whsec_") if "=whsec_" in word else ("", "", word.removeprefix("whsec_"))
        (of_job.setdefault(job, []) if job else of_all).append(_webhook(secret, n))
    if not of_all and not of_job:
        raise UserMistake(f"holds no secret; write {SHAPE}", key="ROWTIDE_WEBHOOK_SECRETS")
    return WebhookSecretSet(of_all, of_job)


def check_signature(
    secrets: "Sequence[Webhook]", headers: Mapping[str, str], body: bytes, *, now: datetime, window: timedelta
) -> str:
    """Return the id of a message that one of the secrets signed within the window. Raises MessageRefused.

    The age is checked last: only a valid signer learns that the message is too old.
    """
    message_id, signed_at, given = check_signature_headers(headers)
    try:
        expected = [secret.sign(message_id, signed_at, body.decode()).encode() for secret in secrets]
    except UnicodeDecodeError as error:
        raise MessageRefused("not_json", f"not UTF-8: {error.reason} at byte {error.start}") from None
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise MessageRefused(
            "bad_signature", "no v1 signature in webhook-signature is one that a secret of this job makes"
        )
    if signed_at < now - window:
        raise MessageRefused("stale", f"{_seconds(now - signed_at)} s ago; at most {_seconds(window)} s")
    if signed_at > now + window:
        raise MessageRefused("from_the_future", f"in {_seconds(signed_at - now)} s; at most {_seconds(window)} s")
    return message_id


def _webhook(secret: str, n: int) -> "Webhook":
    try:
        decoded = binascii.a2b_base64(secret + "==")
    except binascii.Error:
        decoded = b""
    if len(decoded) < SECRET_BYTES:
        words = f"secret {n} is not base64 of at least {SECRET_BYTES} bytes; write {SHAPE}"
        raise UserMistake(words, key="ROWTIDE_WEBHOOK_SECRETS")
    with extra("serve"):
        from standardwebhooks import Webhook  # noqa: PLC0415 # an extra: flows read this module, and sign nothing
    return Webhook(decoded)


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
