"""What the ladder and the batch price save on rows whose right answer is known, and what that costs in accuracy.

Runs jobs/companies over its golden rows in four ways, on the emulator unless ANTHROPIC_API_KEY is set: then it is
Claude, and money. A copy of the job is run by the real command; only `tiers` and `lane` differ. Ends with 1 when this
job, in batches, saves less than 85% against all rows live on the top tier, or gets fewer rows right.
"""

import csv
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import yaml

from rowtide.evals.golden_rows import GOLDEN_FILE, read_golden_rows

JOB = Path(__file__).parent.parent / "jobs" / "companies"
KEY = "company_id"
LADDER = ["haiku", "sonnet", "opus"]
WAYS = {
    "top tier, live": {"tiers": LADDER[-1:], "lane": "live"},
    "top tier, batch": {"tiers": LADDER[-1:], "lane": "batch"},
    "ladder, live": {"tiers": LADDER, "lane": "live"},
    "ladder, batch": {"tiers": LADDER, "lane": "batch"},
}
LEAST_SAVING = 0.85
NORMAL_95 = 1.96

Answers = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Way:
    """One way to run the job, and what came of it. `right` counts rows by field; "all" is every field of a row."""

    name: str
    rows: int
    accepted: int
    right: dict[str, int]
    wrong: dict[str, str]
    """Rows that came out wrong: key → what was said instead of what."""
    cost_usd: float
    seconds: float
    tiers: dict[str, Any]
    reasons: dict[str, int]


def main() -> int:
    """Run all four, print the table, leave the figures as JSON."""
    golden = {row.key: row.answer for row in read_golden_rows(JOB / GOLDEN_FILE)}
    with tempfile.TemporaryDirectory() as folder:
        ways = [_run(Path(folder) / f"way-{n}", name, WAYS[name], golden) for n, name in enumerate(WAYS)]
    first, last = ways[0], ways[-1]
    print(table(ways))
    print(told(ways))
    Path("benchmarks-money.json").write_bytes(orjson.dumps(ways, option=orjson.OPT_INDENT_2))
    return 0 if saving(last, first) >= LEAST_SAVING and last.right["all"] >= first.right["all"] else 1


def _run(place: Path, name: str, changes: dict[str, Any], golden: Answers) -> Way:
    """Copy the job, change its config, run it over the golden rows in a home of its own: no cache is warm."""
    job = place / "companies"
    shutil.copytree(JOB, job, ignore=shutil.ignore_patterns("__pycache__"))
    spec = yaml.safe_load((job / "job.yaml").read_text(encoding="utf-8"))
    (job / "job.yaml").write_text(yaml.safe_dump({**spec, **changes}, sort_keys=False), encoding="utf-8")
    source = place / "golden.csv"
    write_golden_source(job / spec["source"]["path"], source, golden)
    home = place / "home"
    command = [sys.executable, "-m", "cli", "run", str(job), "--source", str(source), "--json"]
    began = time.monotonic()
    done = subprocess.run(command, env={**os.environ, "ROWTIDE_HOME": str(home)}, stdout=subprocess.PIPE, check=True)
    seconds = time.monotonic() - began
    found = orjson.loads(done.stdout.splitlines()[-1])
    answers = _loaded(home / spec["sink"]["path"])
    right, wrong = right_by_field(answers, golden), wrong_rows(answers, golden)
    return Way(
        name, found["rows"], found["loaded"], right, wrong, found["cost_usd"], seconds, found["tiers"], found["reasons"]
    )


def write_golden_source(whole: Path, golden_only: Path, golden: Answers) -> None:
    """The golden rows of a CSV source, as one of their own."""
    with whole.open(encoding="utf-8", newline="") as source, golden_only.open("w", encoding="utf-8", newline="") as out:
        reader = csv.DictReader(source)
        writer = csv.DictWriter(out, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in reader if row[KEY] in golden)


def _loaded(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["row_key"]: row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()}


def right_by_field(answers: Answers, golden: Answers) -> dict[str, int]:
    """How many golden rows came out right, by field and in all of them. A row that was not accepted is not right."""
    fields = list(next(iter(golden.values())))
    hits = [{field: answers.get(key, {}).get(field) == want[field] for field in fields} for key, want in golden.items()]
    return {field: sum(hit[field] for hit in hits) for field in fields} | {
        "all": sum(all(hit.values()) for hit in hits)
    }


def wrong_rows(answers: Answers, golden: Answers) -> dict[str, str]:
    """What each row that is not right says, and what it should."""
    wrong: dict[str, str] = {}
    for key, want in golden.items():
        said = answers.get(key)
        if said is None:
            wrong[key] = "not accepted"
        elif amiss := [
            f"{field}: {said[field]!r}, not {right!r}" for field, right in want.items() if said[field] != right
        ]:
            wrong[key] = "; ".join(amiss)
    return wrong


def saving(way: Way, against: Way) -> float:
    return 1 - way.cost_usd / against.cost_usd


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """The 95% interval of a share."""
    share, z = hits / rows, NORMAL_95
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return middle - half, middle + half


def table(ways: Sequence[Way]) -> str:
    """One line for each way."""
    fields = list(ways[0].right)
    heads = "".join(f"{'right: ' + field:>24}" for field in fields)
    lines = [f"{'':<16}{'rows':>6}{'accepted':>10}{heads}{'cost $':>11}{'$/accepted':>12}{'saves':>8}{'wall s':>8}"]
    for way in ways:
        shares = "".join(f"{_share(way.right[field], way.rows):>24}" for field in fields)
        money = f"{way.cost_usd:>11.4f}{way.cost_usd / max(way.accepted, 1):>12.6f}{saving(way, ways[0]):>8.1%}"
        lines.append(f"{way.name:<16}{way.rows:>6,}{way.accepted:>10,}{shares}{money}{way.seconds:>8.0f}")
    return "\n".join(lines)


def _share(hits: int, rows: int) -> str:
    low, high = wilson(hits, rows)
    return f"{hits / rows:.1%} ({low:.1%}–{high:.1%})"


def told(ways: Sequence[Way]) -> str:
    """Where the rows of each way ended."""
    lines = []
    for way in ways:
        tiers = ", ".join(f"{tier} {each['accepted']:,} of {each['in']:,}" for tier, each in way.tiers.items())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in way.reasons.items()) or "nothing"
        lines.append(f"{way.name}: accepted on {tiers}; quarantined: {reasons}")
        news = {key: words for key, words in way.wrong.items() if key not in ways[0].wrong}
        lines += [f"  wrong here only: {key}: {words}" for key, words in news.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
