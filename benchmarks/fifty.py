"""Many `rowtide run` at once against one emulator: `python -m benchmarks.fifty [RUNS] [ROWS] [AT_ONCE]`.

Prints how many exited 0 with their JSON, and what the others said.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulator.server import start

RUN_SECONDS = 900


def main(runs: int = 50, rows: int = 50, at_once: int = 6) -> int:
    """Start the runs, each on a home of its own. Returns 0 when each ended well."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start(Path(folder) / "emulator", batch_seconds=(0.0, 1.0)) as server,
        ThreadPoolExecutor(at_once) as pool,
    ):
        ends = list(pool.map(lambda number: _run(server.url, Path(folder) / f"home-{number}", rows), range(runs)))
    for words, count in Counter(ends).most_common():
        sys.stdout.write(f"{count:4} {words}\n")
    good = sum(words == "exit 0, with its JSON" for words in ends)
    sys.stdout.write(f"{good} of {runs} runs of {rows} rows, {at_once} at once, exited 0 with their JSON\n")
    return 0 if good == runs else 1


def _run(url: str, home: Path, rows: int) -> str:
    """How one run ended, in words."""
    named = {"ANTHROPIC_API_KEY": home.name, "ANTHROPIC_BASE_URL": url, "ROWTIDE_HOME": str(home)}
    words = [sys.executable, "-m", "cli", "run", "jobs/companies", "--limit", str(rows), "--no-prefect", "--json"]
    try:
        done = subprocess.run(
            words, env={**os.environ, **named}, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"nothing within {RUN_SECONDS} s"
    lines = done.stdout.splitlines()
    try:
        is_whole = json.loads(lines[-1])["rows"] == rows if lines else False
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if done.returncode == 0 and is_whole:
        return "exit 0, with its JSON"
    last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
    return f"exit {done.returncode}, {'with' if is_whole else 'without'} its JSON: {last[:200]}"


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
