"""The clock of a process: starts at the wall clock's time and then runs steadily, whatever sets the wall clock.

A wall clock is set: by a person, by NTP, when a virtual machine is moved. A process that measured leases, pauses and
deadlines by it would take itself for dead, or wait for an hour.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # it goes on while the machine sleeps


def monotonic_seconds() -> float:
    """Return the seconds of a monotonic clock. Only differences have a meaning."""
    return time.clock_gettime(_CLOCK)


def steady_clock(began: datetime, seconds: Callable[[], float]) -> Callable[[], datetime]:
    """Return a clock that shows `began` now and advances with `seconds`."""
    first = seconds()
    return lambda: began + timedelta(seconds=seconds() - first)


now = steady_clock(datetime.now(UTC), monotonic_seconds)
"""The time, aware, in UTC. Never earlier than before."""
