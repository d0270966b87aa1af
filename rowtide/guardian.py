"""Run a program so that nothing of it outlives whoever started it: `python guardian.py PROGRAM ARGUMENT…`.

The guardian ends when the program ends, when it is told to (SIGINT, SIGTERM), or when the process that started it is
gone, however it went. Then it ends everything that the program has started, also what has moved into a session of its
own. It is a file of the standard library alone, so that it starts in some 20 ms, and passes its streams on untouched.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.25  # at the most, between two looks; the first come quicker
GRACE_SECONDS = 15.0  # for the program to end by itself, once told to
# Options of Linux's prctl: orphans below become our children; a signal for a child whose parent has gone.
SUBREAPER, DEATH_SIGNAL = 36, 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command(*words: str) -> list[str]:
    """The command that runs `words` under a guardian."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *words]


def main(words: list[str]) -> int:
    """Run the program to its end and return its exit status; 128 and more for a signal, as a shell says it."""
    parent = os.getppid()
    _ask_linux(SUBREAPER, 1)
    told: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _: told.append(number))
    try:
        program = subprocess.Popen(words, start_new_session=True, preexec_fn=_end_with_us)
    except OSError as error:
        print(f"{words[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 # all that a guardian has
        return 127
    until: float | None = None
    pause = 0.01
    while program.poll() is None:
        if os.getppid() != parent and not told:
            told.append(signal.SIGTERM)
        if told and until is None:
            until = time.monotonic() + GRACE_SECONDS
            _send(program.pid, told[0])
        if until is not None and time.monotonic() > until:
            program.kill()
        time.sleep(pause)
        pause = 0.01 if until else min(pause * 1.5, LOOK_SECONDS)
    _end_strays()
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def _end_with_us() -> None:
    """In the program, before it begins: it is killed when its guardian is."""
    _ask_linux(DEATH_SIGNAL, signal.SIGKILL)


def _ask_linux(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # elsewhere only children proper are ended
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_strays() -> None:
    """End what the program has left: asked first, then not. What it has started in between is found again."""
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
        until = time.monotonic() + seconds
        while (strays := _below(os.getpid())) and time.monotonic() < until:
            for stray in strays:
                _send(stray, number)
            time.sleep(0.02)
            _reap()


def _below(root: int) -> list[int]:
    """Every living process below this one, by what /proc says of parents."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    below = list(children.get(root, ()))
    for process in below:  # it grows while it is walked
        below += children.get(process, ())
    return below


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
