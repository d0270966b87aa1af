"""The policy for every way a request can end: what happens to its row.

`docs/reliability.md` is generated from it. Values that the API adds later fall under the policy of `None`.
"""

from dataclasses import dataclass
from enum import StrEnum

from rowtide.agent.account_refusals import account_refusal_of


class Do(StrEnum):
    JUDGE = "judge the answer"
    RUN_TOOLS = "run the tools, ask again"
    GO_ON = "ask again, with what was said so far"
    EXTEND_MAX_TOKENS = "ask once more with room for twice as much, then go one tier up"
    ESCALATE = "go one tier up; on the last one, quarantine"
    SEND_AGAIN = "send again, at most `limits.bounces` times; then quarantine"
    RECALL = "send again when the run goes on; it is not counted against the row"
    QUARANTINE = "quarantine"
    STOP_RUN = "stop the run, resumable; no row is the worse for it"
    ASK_PERSON = "hold, with the money at stake, for `rowtide reconcile`"


@dataclass(frozen=True, slots=True)
class Policy:
    do: Do
    reason: str
    """Its name in the ledger and the report."""
    why: str


# The stop_reason of a reply.
STOPS: dict[str | None, Policy] = {
    "end_turn": Policy(Do.JUDGE, "answered", "the model is done"),
    "stop_sequence": Policy(Do.JUDGE, "answered", "the model is done"),
    "tool_use": Policy(Do.RUN_TOOLS, "tools", "the model waits for its tools"),
    "pause_turn": Policy(Do.GO_ON, "paused", "the API paused a long turn of its own tools"),
    "max_tokens": Policy(Do.EXTEND_MAX_TOKENS, "truncated", "the reply was cut; a cut tool call is never run"),
    "refusal": Policy(Do.ESCALATE, "refused", "another model may not decline"),
    "model_context_window_exceeded": Policy(Do.ESCALATE, "context_full", "a fresh conversation is shorter"),
    None: Policy(Do.ESCALATE, "unknown_stop", "the model stopped for a reason Rowtide does not know"),
}

# The type of an errored request's error. Errors are not billed.
ERRORS: dict[str | None, Policy] = {
    "api_error": Policy(Do.SEND_AGAIN, "api_error", "the API's own fault"),
    "overloaded_error": Policy(Do.SEND_AGAIN, "overloaded_error", "the API's own fault"),
    "rate_limit_error": Policy(Do.SEND_AGAIN, "rate_limit_error", "there was no room for it"),
    "timeout_error": Policy(Do.SEND_AGAIN, "timeout_error", "the API's own fault"),
    "invalid_request_error": Policy(Do.QUARANTINE, "rejected", "no repetition mends this request"),
    "request_too_large": Policy(Do.QUARANTINE, "rejected", "no repetition mends this request"),
    "not_found_error": Policy(Do.STOP_RUN, "not_found", "no such model, and no fallback for it"),
    "permission_error": Policy(Do.STOP_RUN, "forbidden", "this key may not do it: every row would meet it"),
    "authentication_error": Policy(Do.STOP_RUN, "unauthenticated", "the key was refused: every row would meet it"),
    "billing_error": Policy(Do.STOP_RUN, "no_credit", "the account cannot pay: every row would meet it"),
    None: Policy(Do.SEND_AGAIN, "unknown_error", "an error Rowtide does not know may be gone next time"),
}

BLOCKED = Policy(Do.ESCALATE, "refused", "the API blocked what the model wrote: another model may write it")
BLOCKED_WORDS = "blocked by content filtering policy"  # comes as invalid_request_error (anthropics/claude-code#58367)

# Other outcomes of a request, with or without words of the API.
RESULTS: dict[str | None, Policy] = {
    "expired": Policy(Do.SEND_AGAIN, "expired", "the batch ran out of its 24 hours before this row's turn"),
    "canceled": Policy(Do.SEND_AGAIN, "canceled", "somebody canceled the batch before this row's turn"),
    "canceled_by_us": Policy(Do.RECALL, "canceled_by_us", "`rowtide cancel` stopped the batch before this row's turn"),
    "unreadable": Policy(Do.SEND_AGAIN, "unreadable", "a reply that is no message; what it cost stays reserved"),
    None: Policy(Do.SEND_AGAIN, "unknown_result", "an outcome Rowtide does not know, without a reply"),
}

# What may happen to a whole batch before its results are read.
BATCHES: dict[str, Policy] = {
    "deleted": Policy(Do.ASK_PERSON, "batch_deleted", "the API no longer knows the batch; it may have been paid for"),
    "no_results": Policy(
        Do.ASK_PERSON, "batch_no_results", "the API knows the batch, and for long has no results of it"
    ),
    "archived": Policy(Do.ASK_PERSON, "batch_archived", "results are kept for 29 days; it was paid for"),
    "unprovable": Policy(Do.ASK_PERSON, "batch_unproven", "a batch that may be this one vanished before its results"),
    "missing": Policy(Do.ASK_PERSON, "missing_results", "its results, read whole several times, leave rows out"),
    "never_taken": Policy(Do.RECALL, "never_taken", "the POST went unanswered and the API lists no such batch"),
    "too_large": Policy(Do.RECALL, "too_large", "the API found the body too large (413): it is sent in halves"),
}


def policy_of(table: dict[str | None, Policy], kind: str | None) -> Policy:
    """Return the policy of `kind`, or the policy for unknown kinds."""
    return table.get(kind) or table[None]


def policy_of_error(kind: str, message: str) -> Policy:
    """Return the policy of an errored request: by its message where that is known, else by its type."""
    if refusal := account_refusal_of(message):
        return Policy(Do.STOP_RUN, "account_refused", f"{refusal.means}: {refusal.do}")
    return BLOCKED if BLOCKED_WORDS in message.lower() else policy_of(ERRORS, kind)
