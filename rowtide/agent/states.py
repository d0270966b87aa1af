"""The states of a row, and the moves that are legal between them.

States decide; reasons are only shown. The ledger applies moves and never sets a state.

    ready ─submit→ in_flight ─reply→ replied ─answer→ answered ─accept→ accepted ─load→ loaded
      ↑               │ bounce          │ continue · correct · check · escalate      │ escalate
      └───────────────┴─────────────────┴────────────────────────────────────┘
    verify is answer and accept at once, where no gate judges answers;
    quarantine ends any row that cannot be verified; unchanged ends one that already was;
    hold keeps one for a person, who releases it, finds its batch, recalls it or quarantines it;
    from quarantine, a person retries a row, edits it, overrides its answer, or discards it;
    when a job is amended, replies are judged again (rejudge), or asked for again under the new version (restart);
    when answers are judged again, a row that passes is accepted (recheck), and one that fails may be taken out.
"""

from enum import StrEnum


class RowState(StrEnum):
    READY = "ready"  # its next request can be sent
    IN_FLIGHT = "in_flight"  # its request is in a batch, or about to be
    REPLIED = "replied"  # the model replied; nobody has acted on it yet
    ANSWERED = "answered"  # the answer passed the row's own checks and waits for the gate
    ACCEPTED = "accepted"  # verified; waits for the load
    HELD = "held"  # waits for a person
    LOADED = "loaded"  # in the sink
    QUARANTINED = "quarantined"  # could not be verified; waits for a person, with its reason
    UNCHANGED = "unchanged"  # an earlier run settled the same content under the same job version


class RunStop(StrEnum):
    """Why a run stopped with rows still to send. It can be resumed."""

    REFUSED = "refused"  # the API refuses the account, the key or the job's request: every row would meet it
    SAME_ERROR = "same_error"  # the first rows all met an error that nobody foresaw
    JOB_CODE = "job_code"  # the job's own code fails alike on most of the first rows
    STUCK = "stuck"  # several rounds changed nothing


SETTLED = frozenset({RowState.LOADED, RowState.QUARANTINED, RowState.UNCHANGED})

MOVES: dict[tuple[RowState, str], RowState] = {
    (RowState.READY, "submit"): RowState.IN_FLIGHT,
    (RowState.READY, "recheck"): RowState.ACCEPTED,  # an earlier run's answer to the same question passes
    (RowState.READY, "quarantine"): RowState.QUARANTINED,  # its request cannot be built or is too large
    (RowState.IN_FLIGHT, "reply"): RowState.REPLIED,
    (RowState.IN_FLIGHT, "escalate"): RowState.READY,  # the API blocked what the model wrote
    (RowState.IN_FLIGHT, "bounce"): RowState.READY,  # errored, expired or canceled at the API
    (RowState.IN_FLIGHT, "recall"): RowState.READY,  # its batch was certainly never taken, or we canceled it
    (RowState.IN_FLIGHT, "hold"): RowState.HELD,  # its batch is orphaned
    (RowState.IN_FLIGHT, "quarantine"): RowState.QUARANTINED,  # bounced too often, or refused for good
    (RowState.REPLIED, "continue"): RowState.READY,  # tools ran; ask again
    (RowState.REPLIED, "correct"): RowState.READY,  # told what was wrong; ask again
    (RowState.REPLIED, "extend_max_tokens"): RowState.READY,  # its reply was cut; ask again with max_tokens doubled
    (RowState.REPLIED, "escalate"): RowState.READY,  # a fresh conversation, one tier up
    (RowState.REPLIED, "restart"): RowState.READY,  # its job was amended: it begins afresh under the new version
    (RowState.REPLIED, "check"): RowState.READY,  # its answer gets a self-check
    (RowState.REPLIED, "answer"): RowState.ANSWERED,
    (RowState.REPLIED, "verify"): RowState.ACCEPTED,  # answer and accept at once, where no gate judges answers
    (RowState.REPLIED, "hold"): RowState.HELD,
    (RowState.REPLIED, "quarantine"): RowState.QUARANTINED,
    (RowState.HELD, "release"): RowState.REPLIED,  # a person allowed or denied
    (RowState.HELD, "find"): RowState.IN_FLIGHT,  # a person found its batch
    (RowState.HELD, "recall"): RowState.READY,  # a person accepts that it may be paid for again
    (RowState.HELD, "quarantine"): RowState.QUARANTINED,
    (RowState.ANSWERED, "rejudge"): RowState.REPLIED,
    (RowState.ANSWERED, "restart"): RowState.READY,
    (RowState.ANSWERED, "accept"): RowState.ACCEPTED,
    (RowState.ANSWERED, "escalate"): RowState.READY,
    (RowState.ANSWERED, "quarantine"): RowState.QUARANTINED,
    (RowState.ACCEPTED, "load"): RowState.LOADED,
    (RowState.LOADED, "take_out"): RowState.QUARANTINED,  # it fails today's checks, and left the sink
    (RowState.ACCEPTED, "quarantine"): RowState.QUARANTINED,  # a gate, a recheck or the sink refused it
    (RowState.QUARANTINED, "retry"): RowState.READY,  # a person sends it again
    (RowState.QUARANTINED, "edit"): RowState.QUARANTINED,  # a person corrected its content
    (RowState.QUARANTINED, "override_answer"): RowState.ANSWERED,  # a person answers for it
    (
        RowState.QUARANTINED,
        "rejudge",
    ): RowState.REPLIED,  # its last reply is judged again, after an amendment or a fault of job code
    (RowState.QUARANTINED, "recheck"): RowState.ACCEPTED,  # its last answer passes today's checks
    (RowState.QUARANTINED, "discard"): RowState.QUARANTINED,  # a person gives it up; it stays counted
}

ANSWERING = {True: "answer", False: "verify"}  # the move of a row that has answered, by whether a gate judges answers


def state_after(move: str) -> RowState:
    """Return the state of a row after `move`. Raises ValueError for an unknown move."""
    (target,) = {after for (_, name), after in MOVES.items() if name == move}
    return target


def states_before(move: str) -> list[RowState]:
    """Return the states from which `move` is legal."""
    return [state for (state, name) in MOVES if name == move]
