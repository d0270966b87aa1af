"""What an eval stands on: both versions hear the same tools, no group falls, no price rises, and little is asked."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import PROMPT, make_job
from test_eval_command import WIDE, asked_of, eval_job, make_golden

from rowtide.evals.outcome import EvalOutcome

DESK = Path(__file__).parent / "servers" / "desk.py"
ANSWER = "from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    desk: str\n"
ASK = "Find the desk.\n---\norder: {{ order }}\n"


def make_desk_job(folder: Path, log: Path, rows: int) -> Path:
    """A job whose rows each call a tool once; every call that goes out is a line in `log`."""
    desk = {"command": "python", "args": [str(DESK)], "env": {"DESK_LOG": str(log)}, "tools": ["find_order"]}
    source = "id,order\n" + "".join(f"m{n},A-{n}\n" for n in range(rows))
    job = make_job(folder, rows=source, answer=ANSWER, prompt=ASK, tools={"desk": desk}, **WIDE)
    golden = [{"key": f"m{n}", "answer": {"desk": f"desk {n % 10}"}} for n in range(rows)]
    (job / "golden.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in golden))
    return job


def test_what_tools_said_to_one_version_is_played_back_to_the_other(api: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    home, job = tmp_path / "home", make_desk_job(tmp_path / "job", log, rows=140)
    found = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    calls = len(log.read_text().splitlines())
    assert found.verdict == "not_worse"
    assert found.incumbent.live_calls == calls > 0
    assert found.candidate.live_calls == 0
    assert found.candidate.replayed_calls == found.incumbent.live_calls + found.incumbent.replayed_calls

    (tmp_path / "other.md").write_text(ASK.replace("{{ order }}", "{{ order }}5"))
    other = eval_job(job, home, changes={"prompt": tmp_path / "other.md"})
    asked_anew = len(log.read_text().splitlines()) - calls
    assert other.candidate.live_calls == asked_anew > 0, "what nobody has asked before goes out, and is counted"
    assert other.incumbent.live_calls == 0, "its answers are known"


@pytest.mark.parametrize(("least_rows", "verdict"), [(20, "worse"), (60, "not_worse")])
def test_no_group_of_enough_rows_may_fall_below_its_floor(
    api: Any, tmp_path: Path, least_rows: int, verdict: str
) -> None:
    rows = "id,message,kind\n" + "".join(f"m{n},the invoice is wrong ({n}),{'ab'[n % 3 == 0]}\n" for n in range(120))
    groups = {"by": "kind", "floors": {"b": 0.5}, "least_rows": least_rows}
    job = make_job(tmp_path / "job", rows=rows, evals={**WIDE["evals"], "groups": groups})
    answers = [{"key": f"m{n}", "answer": {"topic": "billing" if n % 3 else "product"}} for n in range(120)]
    (job / "golden.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in answers))
    found = eval_job(job, tmp_path / "home")
    assert found.verdict == verdict
    if verdict == "worse":
        assert "rows of 'b' are right, under its floor of 50%" in found.reasons[0]


@pytest.mark.parametrize(("ceiling", "verdict"), [(0.0000001, "worse"), (1, "not_worse")])
def test_an_accepted_row_may_cost_no_more_than_the_ceiling(
    api: Any, tmp_path: Path, ceiling: float, verdict: str
) -> None:
    job = make_job(tmp_path / "job", rows=70, evals={**WIDE["evals"], "cost_per_accepted_row": ceiling})
    make_golden(job, 70)
    found = eval_job(job, tmp_path / "home")
    assert found.verdict == verdict
    assert ("over the ceiling of" in " ".join(found.reasons)) == (verdict == "worse")


def test_an_eval_on_postgresql_finds_the_same(
    api: Any, tmp_path: Path, postgres_ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "job", rows=200, **WIDE)
    make_golden(job, 200)
    (tmp_path / "worse.md").write_text("Sort the message.\n---\nmessage: {{ message }}\n")
    changes = {"prompt": tmp_path / "worse.md"}
    on_sqlite = eval_job(job, tmp_path / "home", changes=changes)
    monkeypatch.setenv("ROWTIDE_LEDGER", postgres_ledger)
    on_postgresql = eval_job(job, tmp_path / "home", changes=changes)
    again = eval_job(job, tmp_path / "home", changes=changes)
    assert again.eval_id == on_postgresql.eval_id != on_sqlite.eval_id
    assert _findings(on_postgresql) == _findings(on_sqlite)
    assert on_postgresql.verdict == "worse"


def _findings(found: EvalOutcome) -> list[Any]:
    looks = [(each.rows, each.finding.right.counts, each.finding.harm.counts) for each in found.looks]
    return [found.verdict, looks, [(row.key, row.change) for row in found.rows], found.cost_micro]


# Of rows that are right either way, the candidate's words spare 1 in 50 a mistake, and cost 1 in 50 one.
SPARED = {"name": "careless", "mistake": "other_value", "share": 0.02, "cured_by": ["take care"]}
MADE = {"name": "slip", "mistake": "other_value", "share": 0.02, "caused_by": ["take care"]}


def test_a_version_that_differs_on_4_percent_of_rows_costs_three_looks_and_an_unchanged_one_nothing(
    api: Any, tmp_path: Path
) -> None:
    api.world.settings.change(os.environ["ANTHROPIC_API_KEY"], habits=[SPARED, MADE])
    evals = {**WIDE["evals"], "dev_share": 0.999}  # on dev, whose verdicts have all of the level
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=490, evals=evals)
    make_golden(job, 490)
    (tmp_path / "care.md").write_text(PROMPT.replace("Sort the message.", "Sort the message. Take care."))
    found = eval_job(job, home, part="dev", changes={"prompt": tmp_path / "care.md"})
    assert 0.01 < len(found.fixed + found.broken) / len(found.counted) < 0.08
    assert found.verdict == "not_worse"
    assert len(found.looks) <= 3
    assert asked_of(home) <= 2 * found.planned[2], "the rows of three looks, in both versions"
    asked = asked_of(home)
    unchanged = eval_job(job, home, part="dev", changes={"settings": ("description=another",)})
    assert (unchanged.verdict, unchanged.cost_micro, asked_of(home)) == ("not_worse", 0, asked)
