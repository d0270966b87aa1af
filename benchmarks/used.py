"""What this process has used so far."""

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def cpu_seconds() -> float:
    """User and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """The most memory it had at once.

    Linux counts in `ru_maxrss` what the parent had when it started this process; `VmHWM` is this program's own.
    """
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    return (kilobytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
