"""`rowtide emulator`."""

import subprocess
import sys
from pathlib import Path

from cli.say import home


def emulator(*, port: int = 8787, data: Path | None = None, faults: Path | None = None) -> int:
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
    """
    command = [sys.executable, "-m", "emulator", "--port", str(port), "--data", str(data or home() / "emulator")]
    return subprocess.run([*command, *(["--faults", str(faults)] if faults else [])], check=False).returncode
