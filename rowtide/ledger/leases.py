"""The lease that lets one process at a time work on a run alone. Shared work: `claims`.

A lease is renewed while a stage works, and runs out when its process dies or freezes. The lease of a dead process on
this machine is free at once. Whoever lost a lease cannot commit any more (`check_lease`).
"""

import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import Connection, text

from rowtide import clock
from rowtide.errors import LeaseLost
from rowtide.ledger.ledger import to_timestamp

LEASE = timedelta(seconds=60)
RENEW_EVERY_SECONDS = 15.0
UNSEEN_SECONDS = RENEW_EVERY_SECONDS + 5  # a living process has renewed its lease within this time
BOOT = Path("/proc/sys/kernel/random/boot_id")


class LeaseWatch:
    """Judges from this process's monotonic clock whether others' leases have run out, whatever clocks are set to."""

    def __init__(self, seconds: Callable[[], float] = clock.monotonic_seconds) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[str, float]] = {}

    def has_run_out(self, holder: str, until: str, *, now: datetime) -> bool:
        """Return True for a dead process of this machine; for another, once this watch has seen the lease unrenewed for
        its whole length, or for UNSEEN_SECONDS after its own end time.
        """
        if is_holder_dead(holder):
            return True
        seen, since = self._seen.get(holder, ("", 0.0))
        if seen != until:
            self._seen[holder] = until, (since := self._seconds())
        unrenewed = self._seconds() - since
        return unrenewed >= LEASE.total_seconds() or (unrenewed >= UNSEEN_SECONDS and until <= to_timestamp(now))


def has_lease_run_out(holder: str, until: str, *, now: datetime) -> bool:
    """Return whether a lease has run out, judged once: its end time has passed, or its process is dead."""
    return until <= to_timestamp(now) or is_holder_dead(holder)


def new_lease_holder(token: str) -> str:
    """Return this process's name as a lease holder: machine, pid, start time, and a token for each taking."""
    return f"{_machine()}:{os.getpid()}:{_started(os.getpid())}:{token}"


def take_lease(
    tx: Connection, run_id: str, me: str, *, now: datetime, has_run_out: Callable[..., bool] = has_lease_run_out
) -> str | None:
    """Take the run's lease. Returns the other holder, or None when the lease is ours or the run does not exist yet."""
    query = text("SELECT lease_holder, lease_until FROM run WHERE run_id = :run")
    if (found := tx.execute(query, {"run": run_id}).tuples().first()) is None:
        return None
    other, until = found
    if other and until and not has_run_out(other, until, now=now):
        return str(other)
    taken = tx.execute(
        text(
            "UPDATE run SET lease_holder = :me, lease_until = :until "
            "WHERE run_id = :run AND coalesce(lease_holder, '') = :other"
        ),
        {"run": run_id, "me": me, "until": to_timestamp(now + LEASE), "other": other or ""},
    )
    return None if taken.rowcount else "another process"


def lease_state(tx: Connection, run_id: str, *, now: datetime) -> Literal["free", "held", "expired", "dead"]:
    """Return whether a process works on the run; `dead` when its processes on this machine have ended."""
    query = text(
        "SELECT lease_holder, lease_until FROM run WHERE run_id = :run AND lease_holder IS NOT NULL UNION "
        "SELECT w.holder, w.until FROM worker w JOIN run USING (run_no) WHERE run_id = :run"
    )
    holders = tx.execute(query, {"run": run_id}).tuples().all()
    living = [until for other, until in holders if not is_holder_dead(other)]
    if any(until > to_timestamp(now) for until in living):
        return "held"
    if len(living) < len(holders):
        return "dead"
    return "expired" if living else "free"


def renew_lease(tx: Connection, run_id: str, me: str, *, now: datetime) -> None:
    """Extend the lease if it is still ours."""
    tx.execute(
        text("UPDATE run SET lease_until = :until WHERE run_id = :run AND lease_holder = :me"),
        {"run": run_id, "me": me, "until": to_timestamp(now + LEASE)},
    )


def release_lease(tx: Connection, run_id: str, me: str) -> None:
    """Free our lease, so that the next process can work at once."""
    tx.execute(
        text("UPDATE run SET lease_holder = NULL, lease_until = NULL WHERE run_id = :run AND lease_holder = :me"),
        {"run": run_id, "me": me},
    )


def check_lease(tx: Connection, run_id: str, me: str) -> None:
    """Raise LeaseLost unless the lease is ours. Called at the start of every transaction that writes."""
    query = text("SELECT lease_holder FROM run WHERE run_id = :run")
    if (now := tx.execute(query, {"run": run_id}).scalar()) != me:
        raise LeaseLost(f"run {run_id} was taken over by {now or 'another process'}, so this process stops")


def is_holder_dead(other: str) -> bool:
    """Return whether the holder was a process of this machine that has ended. False for other machines."""
    machine, pid, started, _ = other.rsplit(":", 3)
    return machine == _machine() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """Return when a process started, or "" when there is none: a pid alone may have been given again.

    Linux counts it from the machine's boot. A value derived from the wall clock would change when the clock is set, and
    every process here would look dead.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else f"{fields[19]}@{_boot()}"
    except (OSError, IndexError):
        return "" if Path("/proc/self/stat").exists() else _started_elsewhere(pid)


def _started_elsewhere(pid: int) -> str:
    """Return the start time, or "", where there is no /proc."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""


@cache
def _boot() -> str:
    return BOOT.read_text().strip()[:8] if BOOT.exists() else ""


@cache
def _machine() -> str:
    """Return this machine's name; in a container, the container's: pids mean something only inside one namespace."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}{namespace.readlink() if namespace.exists() else ''}".replace(":", "")
