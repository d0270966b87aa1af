"""Recognizes API errors that concern the account, the key or the job's request, not a single row.

The API sends many of them as `invalid_request_error`, the type it also uses for a fault of one row. So the message
decides, or the code in the error's details. Each entry has its source.
"""

import re
from typing import NamedTuple


class AccountRefusal(NamedTuple):
    """An error that the API gives to every request."""

    regex: str
    """A pattern to find, case-insensitive, in the message or in `error.details.error_code`."""
    means: str
    do: str
    source: str


SDK = "anthropic 2.11, types/shared: an `error_code`"
CODE = "anthropics/claude-code"

REFUSALS = [
    AccountRefusal(
        r"credit balance is too low",
        "the account has no credit left",
        "buy credits (Plans & Billing)",
        "bespokelabsai/curator#296",
    ),
    AccountRefusal(
        r"reached your (specified )?(workspace )?(api )?usage limits?",
        "the account, or its workspace, has reached a spend limit that somebody set",
        "raise the limit, or wait for the date the message names",
        f"{CODE}#38035, #2127; platform.claude.com, rate limits: setting your own spend limit",
    ),
    AccountRefusal(
        r"monthly api usage threshold|(monthly |enforced |contract )spend(ing)? limit"
        r"|(enforced|contract|linked_organization)_spend_limit_reached",
        "the organization has reached the spend limit of its tier or contract",
        "ask for a higher tier, or wait for the next month",
        SDK,
    ),
    AccountRefusal(
        r"organization has been (disabled|suspended)|organization is (disabled|on hold)|organization_on_hold",
        "the organization is disabled",
        "ask Anthropic's support why, or use another account's key",
        f"{CODE}#19028, #72457; {SDK}",
    ),
    AccountRefusal(
        r"linked_organization_billing_unavailable|user_profile_not_billable|user_profile_billing_not_authorized",
        "the API cannot bill the account",
        "correct the account's billing",
        SDK,
    ),
    AccountRefusal(
        r"identity verification is required",
        "the organization has to prove who it is",
        "finish the identity verification in the console",
        f"{CODE}#88505",
    ),
    AccountRefusal(
        r"not yet available for this (subscription|organization|account)"
        r"|(extra usage is|usage credits are) required for long context",
        "the account may not send so long a context",
        "enable it for the account, or use another tier",
        f"{CODE}#29584, #64982",
    ),
    AccountRefusal(
        r"data[ -]retention mode|zero data retention|data retention (policy|settings?)",
        "the model or a feature is not available under the organization's data retention",
        "change the organization's data retention, or use another tier",
        "Claude on Bedrock: \"data retention mode 'default' is not available for this model\"",
    ),
    AccountRefusal(
        r"(not|n't) (enabled|enrolled|available|supported) (for|in|on|to) (your|this|the) "
        r"(organization|workspace|account|api key)|organization_not_enrolled_in_beta|organization_type_not_supported",
        "a feature that the request uses is not enabled for the organization",
        "have it enabled, or take it out of the job",
        "anthropic 2.11, types/beta_organization_not_enrolled_in_beta_error.py",
    ),
    AccountRefusal(
        r"(organization|account|workspace|api key) (does not|doesn't) have (access|permission)",
        "the key may not use the model or a feature",
        "use a key that may, or another tier",
        "platform.claude.com, errors: permission_error",
    ),
    AccountRefusal(
        r"(not available|unsupported|not supported) in your (country|region)|unsupported (country|region)",
        "the API is not available from here",
        "send from a supported place",
        "platform.claude.com, supported regions",
    ),
    AccountRefusal(
        r"cmek_(key_disabled|key_network_blocked)|customer-managed encryption key",
        "the workspace's encryption key cannot be used",
        "enable the key, or let the API reach it",
        SDK,
    ),
    AccountRefusal(
        r"claude_code_key_creator_not_member|workspace (is|has been) (archived|disabled)",
        "the key's workspace, or who made the key, is gone",
        "make a new key",
        SDK,
    ),
    AccountRefusal(
        r"(invalid|incorrect) (x-)?api[- ]key|api[- ]key (is|has been|was) "
        r"(invalid|disabled|deactivated|revoked|expired|archived)|x-api-key header is required",
        "the key was refused",
        "set ANTHROPIC_API_KEY to a key that is good",
        "platform.claude.com, errors: authentication_error",
    ),
    AccountRefusal(
        r"unexpected value\(s\) .* for the `anthropic-beta` header|anthropic-version: ",
        "the API does not know a version or a beta that this Rowtide asks for",
        "upgrade Rowtide, or take the feature out of the job",
        "platform.claude.com, beta headers",
    ),
]

# Errors of the same types for a fault of one row: they never stop a run, however many rows meet them.
OF_THE_ROW = re.compile(
    r"prompt is too long|exceed(s|ed)? (the )?(context|maximum)|context (window|limit)|image|pdf|document"
    r"|request_too_large|non-empty|non-whitespace|surrogate",
    re.IGNORECASE,
)

_PATTERNS = [(re.compile(each.regex, re.IGNORECASE | re.DOTALL), each) for each in REFUSALS]


def account_refusal_of(message: str) -> AccountRefusal | None:
    """Return the refusal that an error's message or code matches; None if the error may be one row's fault."""
    return next((each for pattern, each in _PATTERNS if pattern.search(message)), None)
