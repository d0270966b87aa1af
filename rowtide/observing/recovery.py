"""Decide what each unfinished run needs: wake, restart, cancel, reconcile, or a warning. A pure function.

A parked run is woken when a batch of it has ended. A run whose process died is started again, a few times; so is one
that died before the ledger knew of it. A run that a person canceled has its batches canceled too. Whoever is at work on
a run is left alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

PARKED = "park-"  # how the keys of Prefect's suspensions begin, when it is a run that parks itself
RESTARTS = 5  # in a day: a run that dies that often needs a person
# With its worker it may have been ended by what ended the machine, or have ended the worker, by its memory. Nobody can
# tell, so such a death counts for less; but a run that kills whoever works on it stops in the end.
RESTARTS_WITH_WORKER = 25
RESTARTS_WITHIN = timedelta(days=1)
RESULTS_LAST = timedelta(days=29)  # the API's promise, from a batch's creation on
WARN_BEFORE = timedelta(days=4)
LOOK_BACK = timedelta(days=35)  # a run that was left longer has nothing at the API any more
SILENCE = timedelta(minutes=10)
WORKER_CRASHED = "its worker died"  # what a worker says of the flow runs that died with the last one
STARTS_WITHIN = timedelta(minutes=3)  # a worker has taken it by then, and its process has begun
UNCONFIRMED = "a batch's POST was never answered"
HEARTBEATS = 3  # of Prefect's, that may be missed

# Prefect's worker reports a crash twice: at once, and when it has looked in the flow, loaded anew, for hooks. What was
# started again in between is crashed by the second report. That took four to ten seconds on two cores.
LAST_WORD = timedelta(minutes=1)

Lease = Literal["free", "held", "expired", "dead"]


@dataclass(frozen=True, slots=True)
class UnfinishedRunStatus:
    """A run that is not over, and the flow run that last worked on it."""

    run_id: str
    """Empty: its flow run has not come so far as to begin a run."""
    flow_run_id: str
    flow_state: str
    """The type of Prefect's state: RUNNING, PAUSED, …"""
    flow_state_id: str
    """That very state: whoever acts looks first whether it is still so."""
    can_start: bool
    """It has a deployment, so a worker can start it."""
    is_parked: bool
    lease: Lease
    silent_for: timedelta
    """Since the last sign of life of its process: a change of state, a heartbeat."""
    opened: Mapping[str, datetime]
    """The batches it has at the API, by their ids there, and since when."""
    unconfirmed: int
    """Batches of which nobody knows yet whether the API has them."""
    is_canceled: bool
    """A person has stopped it, here: by `rowtide cancel`."""
    to_cancel: int
    """Open batches that nobody has asked the API to cancel."""
    restarts: int
    """How often it was started again within a day, after it died alone."""
    restarts_with_worker: int
    """How often within a day, after it died with its worker."""
    crashed_with_worker: bool

    @property
    def name(self) -> str:
        return f"run {self.run_id}" if self.run_id else f"flow run {self.flow_run_id}"


@dataclass(frozen=True)
class PlannedStep:
    """A step that an unfinished run needs, and why."""

    at: UnfinishedRunStatus
    why: str


class Wake(PlannedStep):
    """A batch has ended: resume the flow run."""


class Restart(PlannedStep):
    """Its process is dead: have a worker start it again."""


class Cancel(PlannedStep):
    """A person canceled it in Prefect or in the ledger: cancel it in the other too."""


class Reconcile(PlannedStep):
    """Look for its unconfirmed batches: no other process does."""


class Warn(PlannedStep):
    """Only a person can act; tell one."""


Step = Wake | Restart | Cancel | Reconcile | Warn


def longest_silence(heartbeat_seconds: int | None) -> timedelta:
    """Return how long a live process may show no sign of life, given its frequency of heartbeats."""
    return max(SILENCE, HEARTBEATS * timedelta(seconds=heartbeat_seconds or 0))


def recovery_steps(
    at: UnfinishedRunStatus, *, unended: Collection[str], silence: timedelta, now: datetime
) -> list[Step]:
    """Return the steps that a run needs now. `unended` are the batches that the API still works on."""
    found: list[Step] = [] if (step := _step(at, unended, silence)) is None else [step]
    oldest = min(at.opened.values(), default=now)
    if now - oldest > RESULTS_LAST - WARN_BEFORE:
        until = oldest + RESULTS_LAST
        found.append(Warn(at, f"results of a batch expire on {until:%d %b %H:%M} UTC: `rowtide resume {at.run_id}`"))
    return found


def _step(at: UnfinishedRunStatus, unended: Collection[str], silence: timedelta) -> Step | None:
    if at.lease == "held":
        return None
    match at.flow_state:
        case "PAUSED" if at.is_parked:
            return _parked(at, unended)
        case "CANCELLED" if at.to_cancel:
            return Cancel(at, "its flow run was canceled")
        case "CANCELLED" if at.unconfirmed:
            return Reconcile(at, UNCONFIRMED)
        case "CANCELLING" if _is_dead(at, silence):
            return Cancel(at, "its flow run was canceled, and its process is dead")
        case "CRASHED" if at.crashed_with_worker:
            return _restart(at, WORKER_CRASHED)
        case "CRASHED" if at.silent_for > LAST_WORD:
            return _restart(at, "its process died")
        case "PENDING" if at.silent_for > STARTS_WITHIN:
            return _restart(at, "its worker died before its process began")
        case "RUNNING" if _is_dead(at, silence):
            return _restart(at, "its process and its worker died")
        case _:
            return None


def _parked(at: UnfinishedRunStatus, unended: Collection[str]) -> Step | None:
    if at.is_canceled:
        return Cancel(at, "`rowtide cancel` stopped it while it was parked")
    ended = [api_id for api_id in at.opened if api_id not in unended]
    if ended:
        return Wake(at, f"{len(ended)} of {len(at.opened)} batches have ended")
    if at.unconfirmed:
        return Reconcile(at, UNCONFIRMED)
    return None if at.opened else Wake(at, "nothing of it is at the API any more")


def _is_dead(at: UnfinishedRunStatus, silence: timedelta) -> bool:
    """Whether its process is dead: its lease belongs to a process of this machine that is gone, or it was silent too
    long.
    """
    return at.lease == "dead" or at.silent_for > silence


def _restart(at: UnfinishedRunStatus, why: str) -> Step | None:
    if not at.can_start or at.is_canceled:
        return None
    if at.crashed_with_worker and at.restarts_with_worker >= RESTARTS_WITH_WORKER:
        deaths = at.restarts_with_worker + 1
        return Warn(at, f"{why}, {deaths} times in a day: not started again; look whether its memory is what ended it")
    if at.restarts >= RESTARTS and not at.crashed_with_worker:
        return Warn(at, f"{why}, {at.restarts + 1} times in a day: not started again; see its flow run's logs")
    return Restart(at, why)
