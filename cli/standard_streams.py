"""Prepare stdin, stdout and stderr, whoever started the process: closed, full, ASCII, or no longer read."""

import os
import sys
from pathlib import Path

from rowtide.errors import RowtideError

NARROWEST = 20  # columns


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable, with a width that fits a line."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a database is opened as stdout
        pass
    os.close(taken)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 # for ever
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="replace")  # a stream of ASCII takes no middle dot
    if not os.environ.get("COLUMNS", "").isdigit() or int(os.environ["COLUMNS"]) < NARROWEST:
        os.environ.pop("COLUMNS", None)


def write_stdout(text: str) -> None:
    """Write to stdout. A reader that stops early is no error. Raises RowtideError where writing fails."""
    try:
        sys.stdout.write(text)
    except OSError as error:
        abandon_output(error)


def flush_streams() -> None:
    """Flush what was printed. Raises RowtideError when that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        abandon_output(error)


def abandon_output(error: OSError) -> None:
    """Discard all further output. Raises RowtideError unless its reader has gone away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    if not isinstance(error, BrokenPipeError):
        raise RowtideError(f"what came of it could not be printed: stdout: {error.strerror}") from None
