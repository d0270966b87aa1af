"""How long a command takes to begin, and three rows to go through: wall time in a process, the best and median of five.

    python -m benchmarks.startup [TIMES]

Compiled modules and the files are in the cache: a first call, not counted, sees to that. A machine that does something
else at the time shows in the distance between the best and the median.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median

TIMES = 5
WITHOUT = {"PREFECT_API_URL", "ANTHROPIC_API_KEY", "ROWTIDE_LEDGER", "PYTHONDONTWRITEBYTECODE"}
COMMANDS: dict[str, tuple[Sequence[str], float]] = {
    "rowtide --help": (["--help"], 0.5),
    "rowtide run --help": (["run", "--help"], 0.5),
    "rowtide run companies --limit 3": (["run", "companies", "--limit", "3"], 6.0),
}
"""What is called, and the seconds it may take on two quiet cores."""


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    print(f"{'command':<34}{'best':>8}{'median':>8}{'at most':>9}")
    for words, (arguments, most) in COMMANDS.items():
        _seconds(arguments)
        found = [_seconds(arguments) for _ in range(times)]
        print(f"{words:<34}{min(found):>7.2f}s{median(found):>7.2f}s{most:>8.1f}s", flush=True)


def _seconds(arguments: Sequence[str]) -> float:
    """The wall time of one call in a home of its own. Raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as home:
        kept = {name: value for name, value in os.environ.items() if name not in WITHOUT}
        environment = {**kept, "ROWTIDE_HOME": home, "ROWTIDE_PREFECT_PORT": "0"}
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "cli", *arguments], env=environment, capture_output=True, check=True)
        return time.monotonic() - began


if __name__ == "__main__":
    main()
