"""Commands that start at once: each is forked from a process that has imported what commands import.

A new interpreter imports for two or three seconds before `rowtide run` does anything; how a command starts is the
subject of tests/test_start.py, and not of the hundreds of tests that start one. The process is the command's own all
the same: its environment, folder and streams are set before the command line, or Prefect, is imported, and it ends as
any other.

As a program: `python tests/warm_process.py SOCKET`. It ends when its stdin does.
"""

import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

ROOT = Path(__file__).parent.parent
IMPORTED = (
    "anthropic",
    "cyclopts",
    "duckdb",
    "flows.pump",
    "mcp",
    "rich.console",
    "rowtide.binomial",
    "rowtide.tools.tool_servers",
)
READ_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # variables that only a new interpreter reads
OPEN_MODE = "rw"


class WarmProcess:
    """A process from which modules are started as programs, as by `python -m`, until it is closed."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="warm-")
        self._address = str(Path(self._folder.name) / "socket")
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, self._address]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, **pipes)
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n", "it could not import what commands import"

    def close(self) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def is_like(self, environment: Mapping[str, str]) -> bool:
        """Whether a new interpreter would start in this environment as the warm one has."""
        return not any(name.startswith(READ_AT_START) for name, _ in environment.items() ^ self._environment.items())

    def run(
        self, module: str, words: list[str], *, env: dict[str, str], cwd: Path, input: str, timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run a module to its end, as `subprocess.run` would. Raises TimeoutExpired."""
        with (
            socket.socket(socket.AF_UNIX) as line,
            TemporaryFile("w+") as given,
            TemporaryFile("w+") as out,
            TemporaryFile("w+") as err,
        ):
            given.write(input)
            given.seek(0)
            line.connect(self._address)
            socket.send_fds(line, [b"."], [stream.fileno() for stream in (given, out, err)])
            with line.makefile(OPEN_MODE) as answers:
                answers.write(json.dumps({"module": module, "words": words, "env": env, "cwd": str(cwd)}) + "\n")
                answers.flush()
                pid = int(answers.readline())
                line.settimeout(timeout)
                try:
                    status = int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired([module, *words], timeout) from None
            for stream in (out, err):
                stream.seek(0)
            return subprocess.CompletedProcess([module, *words], status, out.read(), err.read())


def main(address: str) -> dict[str, Any] | None:
    """Start what is ordered until stdin ends. Returns the order in the process that is to carry it out."""
    for name in IMPORTED:
        import_module(name)
    import_module("rowtide.gates.gate_files").import_great_expectations()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that pass on how a command ended
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            if sys.stdin in select([listener, sys.stdin], [], [])[0]:
                return None
            line, _ = listener.accept()
            with line:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listener.close()
                    return _begin(line)


def _begin(line: socket.socket) -> dict[str, Any]:
    """Fork once more, and say how that ended. Returns the order in the process that was forked."""
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    with line.makefile(OPEN_MODE) as orders:
        order = json.loads(orders.readline())
        if pid := os.fork():
            orders.write(f"{pid}\n")
            orders.flush()
            orders.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
            orders.flush()
            os._exit(0)
    for wanted, stream in enumerate(streams):
        os.dup2(stream, wanted)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    random.seed()
    return order


if __name__ == "__main__" and (order := main(sys.argv[1])):
    sys.argv, sys.path[0] = ["", *order["words"]], order["cwd"]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
