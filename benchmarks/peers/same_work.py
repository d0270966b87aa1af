"""What every peer is given: the rows, the words and the tool of our own jobs; and how it is measured.

It runs in the peers' venvs, so it imports nothing of ours that needs more than the standard library.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sources import rows_of
from benchmarks.used import cpu_seconds, peak_mb

JOBS = Path(__file__).parent.parent / "jobs"
FOLDERS = {"one-turn": "one_turn", "one-trip": "one_trip"}


@dataclass(frozen=True)
class RunContext:
    """One kind of work, asked for as `WORK MODEL SOURCE HOME`."""

    kind: str
    model: str
    rows: list[dict[str, str]]
    home: Path
    system: str

    @property
    def has_tool(self) -> bool:
        return self.kind == "one-trip"

    def message(self, row: dict[str, str]) -> str:
        """What our job's prompt makes of a row."""
        fields = ("message", "customer") if self.kind == "one-turn" else ("parcel", "region_code")
        return "\n".join(f"{name}: {row[name]}" for name in fields)


def asked() -> RunContext:
    """The work this process was given."""
    kind, model, source, home = sys.argv[1:]
    rows = list(rows_of(Path(source)))
    system = (JOBS / FOLDERS[kind] / "prompt.md").read_text().partition("\n---\n")[0]
    return RunContext(kind, model, rows, Path(home), system)


def find_desk(region_code: str) -> str:
    """Find the desk of a region."""
    return json.dumps({"desk": f"desk {region_code}"})


def done(answers: Sequence[object], since: float) -> None:
    """Print the figures."""
    figures = {"rows": len(answers), "cpu_seconds": cpu_seconds() - since, "peak_mb": peak_mb()}
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
