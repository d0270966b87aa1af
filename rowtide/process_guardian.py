"""Run a program so that nothing it starts outlives its parent: `process_guardian.py SECONDS PARENT PROGRAM ARGUMENT…`.

The guardian ends when the program ends, when it is told to (SIGINT, SIGTERM), or when the process that started it is
gone, however it went. Then it ends everything that the program has started, also what has moved into a session of its
own. It is a file of the standard library alone, so that it starts in some 20 ms, and passes its streams on untouched.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.25  # at the most, between two looks; the first come quicker
GRACE_SECONDS = 15.0  # for the program to end by itself, once told to
ORPHAN_SECONDS = 2.0  # for what it has left, after each signal
# Options of Linux's prctl: orphans below become our children; a signal for a child whose parent has gone.
SUBREAPER, DEATH_SIGNAL = 36, 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def guarded_command(*words: str, grace_seconds: float = GRACE_SECONDS) -> list[str]:
    """Return the command that runs `words` under a guardian; told to stop, they have `grace_seconds` to end by
    themselves.
    """
    parent = os.getpid()  # who starts it: a guardian that asked for itself could ask too late
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(grace_seconds), str(parent), *words]


def longest_shutdown_seconds(grace_seconds: float = GRACE_SECONDS) -> float:
    """Return how long a guardian that was told to end may take at the most, in seconds."""
    return grace_seconds + 2 * ORPHAN_SECONDS + 2.0


def main(words: list[str], parent: int, grace_seconds: float) -> int:
    """Run the program to its end and return its exit status; 128 and more for a signal, as a shell says it. `parent` is
    the process whose end is the program's too.
    """
    _ask_linux(SUBREAPER, 1)
    signals: list[int] = []
    woken = _pipe_of_signals()
    for number in SIGNALS:
        signal.signal(number, lambda number, _: signals.append(number))
    try:
        program = subprocess.Popen(words, start_new_session=True, preexec_fn=_end_with_us)
    except OSError as error:
        print(f"{words[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 # all that a guardian has
        return 127
    _let_go()
    until: float | None = None
    pause = 0.01
    while not _has_ended(program):
        if os.getppid() != parent and not signals:
            signals.append(signal.SIGTERM)
        if signals and until is None:
            until = time.monotonic() + grace_seconds
            _send(program.pid, signals[0])
        if until is not None and time.monotonic() > until:
            program.kill()
        if select.select([woken], [], [], pause)[0]:  # a signal has come: told to end, or the program has
            os.read(woken, 512)
        pause = 0.01 if until else min(pause * 1.5, LOOK_SECONDS)
    _end_orphans(program.pid)
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def _pipe_of_signals() -> int:
    """A file descriptor that becomes readable when a signal has come, so that a wait for it ends."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken


def _let_go() -> None:
    """Close our copies of the program's streams, so that the other side sees when the program is gone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    os.close(nothing)


def _has_ended(program: "subprocess.Popen[bytes]") -> bool:
    """Whether the program has ended; reaps orphans below us meanwhile."""
    with contextlib.suppress(AttributeError, ChildProcessError):  # macOS has no waitid, and no orphans come to us
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == program.pid:
                break
            os.waitpid(ended.si_pid, os.WNOHANG)
    return program.poll() is not None


def _end_with_us() -> None:
    """In the program, before it starts: have it killed when its guardian dies."""
    _ask_linux(DEATH_SIGNAL, signal.SIGKILL)


def _ask_linux(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # elsewhere only children proper are ended
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_orphans(program: int) -> None:
    """End the processes that the program left: terminate, then kill. Processes started meanwhile are found again."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program, number)  # all that can be found of it where there is no /proc
        until = time.monotonic() + ORPHAN_SECONDS
        while (orphans := _below(os.getpid())) and time.monotonic() < until:
            for orphan in orphans:
                _send(orphan, number)
            time.sleep(0.02)
            _reap()


def _below(root: int) -> list[int]:
    """Every living process below `root`, by the parents in /proc."""
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
    sys.exit(main(sys.argv[3:], int(sys.argv[2]), float(sys.argv[1])))
