"""`rowtide emulator`: serve a stand-in for the Claude API on this machine."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

from cli.home_folders import home_folder
from cli.numbers import Port


def emulator(
    *,
    port: Port = 8787,
    data: Path | None = None,
    faults: Path | None = None,
    limits: str | None = None,
    reply_seconds: str | None = None,
    hardness: Literal["text", "features"] | None = None,
    habits: Path | None = None,
) -> int:
    """Serve a stand-in for the Claude API on this machine, for rehearsals without a key.

    Point any client at it with ANTHROPIC_BASE_URL and any ANTHROPIC_API_KEY. `python -m emulator --help` has more.

    Parameters
    ----------
    port
        The port to listen on; 0 picks a free one.
    data
        Where it keeps batches; by default under ROWTIDE_HOME.
    faults
        A plan of what goes wrong: which calls, rows and batches, and how (emulator/README.md has the language).
    limits
        Rates per minute, account and class of models: `requests=60,input-tokens=40000,output-tokens=8000`.
    reply_seconds
        How long a live reply takes, or a stream to be written: LOW..HIGH.
    hardness
        Which rows are hard: `features` are those with something missing, long, noisy, foreign or ambiguous.
    habits
        Further mistakes: what sentences of a prompt cure or cause, or begins at a date (emulator/README.md).
    """
    given = {"--faults": faults, "--limits": limits, "--reply-seconds": reply_seconds}
    given |= {"--hardness": hardness, "--habits": habits}
    command = [sys.executable, "-m", "emulator", "--port", str(port), "--data", str(data or home_folder() / "emulator")]
    command += [part for name, value in given.items() if value is not None for part in (name, str(value))]
    return subprocess.run(command, check=False).returncode
