"""What evals find: the companies job against itself, against six candidates whose worth is known, and against plants.

On the emulator, whose models err by rule (its README, *Habits*). Here they have one gap more, which a sentence of a
skill fills: without it the job is nearly always right, and nothing could be better. Each candidate is measured by the
real command, against answers that an ordinary run left in the ledger, and as the first to ask the golden rows anything:
in a copy of that ledger, because a set that has judged five proves little of a sixth. Ends with 1 unless all seven
verdicts are right and nine in ten plants are caught.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from benchmarks.money import JOB, write_golden_source
from emulator.server import start
from rowtide.evals.golden_rows import GOLDEN_FILE, read_golden_rows

GAP = {
    "name": "a holding is taken for what it says of itself",
    "where": ["register_id", "country_evidence", "sector"],
    "mistake": "other_value",
    "share": 0.06,
    "wrong": {"haiku": 95, "sonnet": 90, "opus": 90},
    "cured_by": ["by what its subsidiaries do"],
}
SKILL = """---
name: holdings
description: The sector of a company that holds others
---
A holding has the sector of its largest subsidiary: judge it by what its subsidiaries do, not by its name.
"""
RULE = (
    "4. Choose the sector by what the company does, from its industries and the register's activities and products.\n"
)
EXAMPLE = "For example, holdings are Financials, and so is a company whose industries name none.\n\nHow to answer:"
HEADS = ("candidate", "verdict", "look", "rows", "fixed", "broken", "cost $", "$ a row", "before")
PASSES = frozenset({"not_worse", "better"})


@dataclass(frozen=True)
class Candidate:
    """A version of the job whose worth is known."""

    name: str
    words: tuple[str, ...]
    """Of `rowtide eval companies`."""
    right: frozenset[str]
    """The verdicts that are right."""


def main() -> int:
    """Print the table of verdicts, and then the proof."""
    with tempfile.TemporaryDirectory() as folder, start(Path(folder, "emulator"), habits=[GAP]) as emulator:
        place = Path(folder)
        environment = {**os.environ, "ANTHROPIC_API_KEY": "evals", "ANTHROPIC_BASE_URL": emulator.url}
        environment |= {"ROWTIDE_CONFIRM_WITHIN_SECONDS": "1", "ROWTIDE_PAGE": "0", "ROWTIDE_PREFECT_PORT": "0"}
        _answer_golden_rows(place, environment)
        print("{:<22}{:<11}{:>5}{:>6}{:>7}{:>8}{:>9}{:>10}{:>10}".format(*HEADS))
        are_right = True
        for each in _candidates(place):
            found = _evaluate(place, each.words, environment)
            are_right &= found["verdict"] in each.right
            print(_line(each, found), flush=True)
        print()
        done = _rowtide(place / "home", ["eval", str(JOB), "--prove"], environment)
        print(done.stdout.decode(), end="")
    return 0 if are_right and done.returncode == 0 else 1


def _candidates(place: Path) -> list[Candidate]:
    prompt = (JOB / "prompt.md").read_text(encoding="utf-8")
    assert RULE in prompt and "How to answer:" in prompt
    (place / "no_rule.md").write_text(prompt.replace(RULE, "4. Choose the sector, "), encoding="utf-8")
    (place / "example.md").write_text(prompt.replace("How to answer:", EXAMPLE), encoding="utf-8")
    (place / "holdings").mkdir()
    (place / "holdings" / "SKILL.md").write_text(SKILL, encoding="utf-8")
    worse = frozenset({"worse"})
    return [
        Candidate("itself", (), PASSES),
        Candidate("a rule dropped", ("--prompt", f"{place / 'no_rule.md'}"), worse),
        Candidate("a skill that helps", ("--skill", f"{place / 'holdings'}"), frozenset({"better"})),
        Candidate("opus only", ("--tiers", "opus"), PASSES),
        Candidate("haiku only", ("--tiers", "haiku"), worse),
        Candidate("a harmful example", ("--prompt", f"{place / 'example.md'}"), worse),
        Candidate("a cheaper ladder", ("--tiers", "haiku,sonnet"), PASSES),
    ]


def _answer_golden_rows(place: Path, environment: Mapping[str, str]) -> None:
    """An ordinary run over the golden rows, as last night's would have left them."""
    spec = yaml.safe_load((JOB / "job.yaml").read_text(encoding="utf-8"))
    source = place / "golden.csv"
    golden = {row.key: row.answer for row in read_golden_rows(JOB / GOLDEN_FILE)}
    write_golden_source(JOB / spec["source"]["path"], source, golden)
    _rowtide(place / "home", ["run", str(JOB), "--source", str(source)], environment).check_returncode()


def _evaluate(place: Path, words: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, Any]:
    home = place / "copy"
    shutil.copytree(place / "home", home)
    done = _rowtide(home, ["eval", str(JOB), *words, "--json"], environment)
    shutil.rmtree(home)
    return orjson.loads(done.stdout.splitlines()[-1])


def _rowtide(home: Path, words: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(command, env={**environment, "ROWTIDE_HOME": str(home)}, stdout=subprocess.PIPE, check=False)


def _line(each: Candidate, found: Mapping[str, Any]) -> str:
    costs = "".join(f"{found['arms'][arm]['cost_per_row_usd']:>10.5f}" for arm in ("candidate", "incumbent"))
    counts = f"{found['look']:>5}{found['rows']:>6}{len(found['fixed']):>7}{len(found['broken']):>8}"
    wrong = "" if found["verdict"] in each.right else f"  WRONG: {' or '.join(sorted(each.right))} is right"
    return f"{each.name:<22}{found['verdict']:<11}{counts}{found['cost_usd']:>9.4f}{costs}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
