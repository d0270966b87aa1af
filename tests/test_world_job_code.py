"""Code of a job that raises, or returns what it should not, costs one row; on most rows it stops the run, resumable."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import ANSWER, PROMPT, ask_ledger, make_job
from conftest import run as pumped

from rowtide.errors import RunStopped, UserMistake
from rowtide.job.job_folder import load_job


@pytest.fixture
def world(api: Any) -> Any:
    """The emulator, with an account and a ROWTIDE_HOME of this test's own."""
    return api


def run(job: Path, run_id: str = "run-1", lane: str = "batch") -> dict[str, Any]:
    return pumped(job, run_id=run_id, lane=lane)


def told(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Of each quarantined row: key → (reason, detail)."""
    query = (
        "SELECT r.row_key, r.reason, n.detail FROM row r JOIN note n USING (row_no) "
        "WHERE r.state = 'quarantined' AND n.move = 'quarantine'"
    )
    return {key: (reason, detail) for key, reason, detail in ask_ledger(tmp_path / "home", query)}


def billed(world: Any) -> int:
    return world.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["requests"]


HOSTILE_CHECKS = {  # what a check does → what its row's reason tells of it
    "return float('')": "raised ValueError: could not convert string to float",
    "return row['none']['tags'][0]": "raised KeyError: 'none'",
    "return {}['tags']": "raised KeyError: 'tags'",
    "return 1 / 0": "raised ZeroDivisionError: division by zero",
    "return answer.totl": "raised AttributeError: 'Answer' object has no attribute 'totl'",
    "return missing_name": "raised NameError",
    "assert row['id'] == ''": "raised AssertionError",
    "sys.exit()": "raised SystemExit",
    "sys.exit('enough')": "raised SystemExit: enough",
    "raise KeyboardInterrupt": "raised KeyboardInterrupt",
    "raise Odd('very')": "raised Odd: very",
    "raise Mute": "raised Mute",
    "raise StopIteration": "raised StopIteration",
    "raise ExceptionGroup('some', [ValueError('one')])": "raised ExceptionGroup: some",
    "return deep(0)": "raised RecursionError: maximum recursion depth exceeded",
    "return open('/nowhere').read()": "raised FileNotFoundError",
    "raise ValueError('x' * 10**6)": "raised ValueError: xxx",
    "raise ValueError('\\udc80 \\x00 \\x1b[31m')": "raised ValueError: ? \\u0000 \\u001b[31m",
    "raise ValueError('postgresql://me:hunter2@db/x')": "raised ValueError: postgresql://***@db/x",
    "return True": "returned bool: True; a check returns None when the answer is right, else what is wrong, as a text",
    "return False": "returned bool: False",
    "return 0": "returned int: 0",
    "return []": "returned list: []",
    "return ['wrong']": "returned list: ['wrong']",
    "return (x for x in iter(int, 1))": "returned generator",
    "return Unspeakable()": "raised RuntimeError: no words",
    "return b'wrong'": "returned bytes",
}
HOSTILE_ANSWER = f"""import sys
{ANSWER}

class Odd(BaseException):
    pass


class Mute(Exception):
    def __str__(self):
        return 1


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


def deep(n):
    return deep(n + 1)


def check_it(answer, row):
    match int(row["how"]):
"""


def hostile_job(folder: Path, **spec: Any) -> Path:
    """A job whose check does something else for each of its first rows, and is content with the others."""
    cases = "".join(f"        case {n}:\n            {code}\n" for n, code in enumerate(HOSTILE_CHECKS))
    rows = "".join(f"h{n},the parcel is late,{n}\n" for n in range(len(HOSTILE_CHECKS)))
    rows += "".join(f"g{n},the parcel is late,999\n" for n in range(12))
    return make_job(folder, rows="id,message,how\n" + rows, answer=HOSTILE_ANSWER + cases, tiers=["opus"], **spec)


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_whatever_a_check_does_it_costs_its_row(world: Any, tmp_path: Path, lane: str) -> None:
    found = run(hostile_job(tmp_path / "job"), lane=lane)
    assert (found["loaded"], found["quarantined"]) == (12, len(HOSTILE_CHECKS))
    assert found["reasons"] == {"check_failed": len(HOSTILE_CHECKS)}
    rows = told(tmp_path)
    for number, words in enumerate(HOSTILE_CHECKS.values()):
        reason, detail = rows[f"h{number}"]
        assert reason == "check_failed"
        assert words in detail, detail
        assert detail.startswith("check_it (answer.py:")
        assert len(detail) < 500
    assert billed(world) == found["turns"] == found["rows"]


CARELESS_ANSWER = """
from typing import Literal
from pydantic import BaseModel, Field, computed_field, field_validator, model_validator


class Answer(BaseModel):
    topic: Literal["billing", "delivery", "product"] = Field(description="What the message is about.")
    message: str = Field(description="The message, as written.")

    @field_validator("message")
    def careless(cls, value):
        return {}[value] if "carton" in value else value

    @model_validator(mode="after")
    def leaves(self):
        return exit() if "leave" in self.message else self

    @computed_field
    @property
    def share(self) -> float:
        return 1 / (0 if "zero" in self.message else 2)
"""


def test_validators_and_computed_fields_cost_their_row(world: Any, tmp_path: Path) -> None:
    words = ["carton", "leave", "zero", *["late"] * 6]
    rows = "id,message\n" + "".join(f"{word}{n},the parcel is {word}\n" for n, word in enumerate(words))
    found = run(make_job(tmp_path / "job", rows=rows, answer=CARELESS_ANSWER, tiers=["opus"]))
    assert (found["loaded"], found["quarantined"], found["turns"]) == (6, 3, 9)
    assert told(tmp_path) == {
        "carton0": ("validator_failed", "Answer.careless (answer.py:12) raised KeyError: 'the parcel is carton'"),
        "leave1": ("validator_failed", "Answer.leaves (answer.py:16) raised SystemExit: None"),
        "zero2": ("serializer_failed", "Answer.share (answer.py:21) raised ZeroDivisionError: division by zero"),
    }


TEMPLATES = {  # what a line of the prompt says, for one row → what that row's reason tells of it
    '{{ tags | join(", ") }}': "TypeError: 'NoneType' object is not iterable",
    "{{ message * 1.1 }}": "TypeError: can't multiply sequence by non-int of type 'float'",
    "{{ 7 // zero }}": "ZeroDivisionError: integer division or modulo by zero",
    "{% for t in tags %}{{ t }}{% endfor %}": "TypeError: 'NoneType' object is not iterable",
    "{{ tags.first.name }}": "UndefinedError: 'None' has no attribute 'first'",
    "{{ message.nothing }}": "UndefinedError: 'str object' has no attribute 'nothing'",
    "{{ tags | length }}": "TypeError: object of type 'NoneType' has no len()",
    "{{ message | round }}": "TypeError",
    "{{ message | tojson | int | dictsort }}": "AttributeError",
    "{{ tags[0] }}": "UndefinedError: None has no element 0",
    "{{ tags() }}": "TypeError: 'NoneType' object is not callable",
    "{% include 'other.md' %}": "TypeError: no loader for this environment specified",
    "{% for n in range(10 ** 12) %}x{% endfor %}": "OverflowError: Range too big",
    "{% for n in range(99999) %}{{ '%999s' % n }}{% endfor %}": "ValueError: it makes more than 32,000,000 characters",
    "{{ '\\ud800' }}": "UnicodeEncodeError",
    "{{ zero.conjugate.missing.deeper }}": "UndefinedError",
    "{{ '%d' % message }}": "TypeError: %d format: a real number is required, not str",
    "{{ message | int('x') + 1 }}": "TypeError",
}


def careless_prompt(lines: list[str]) -> str:
    cases = "".join(f"{{% if how == {n} %}}{line}{{% endif %}}\n" for n, line in enumerate(lines))
    return PROMPT + cases


def careless_rows(cases: int, good: int) -> str:
    rows = [{"id": f"h{n}", "message": "late", "how": n, "tags": None, "zero": 0} for n in range(cases)]
    rows += [{"id": f"g{n}", "message": "late", "how": 999, "tags": ["a"], "zero": 1} for n in range(good)]
    return "\n".join(orjson.dumps(row).decode() for row in rows)


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_a_template_that_raises_costs_its_row_and_no_money(world: Any, tmp_path: Path, lane: str) -> None:
    job = make_job(tmp_path / "job", prompt=careless_prompt(list(TEMPLATES)), tiers=["opus"])
    (job / "rows.csv").write_text(careless_rows(len(TEMPLATES), 8))
    (job / "job.yaml").write_text(
        (job / "job.yaml").read_text().replace("path: rows.csv", "{path: rows.csv, kind: jsonl}")
    )
    found = run(job, lane=lane)
    assert (found["loaded"], found["reasons"]) == (8, {"template_failed": len(TEMPLATES)})
    rows = told(tmp_path)
    for number, words in enumerate(TEMPLATES.values()):
        detail = rows[f"h{number}"][1]
        assert words in detail, detail
        assert detail.startswith(("prompt.md:", "prompt.md raised ")), detail
    assert f"prompt.md:{8 + 2} raised ZeroDivisionError" in rows["h2"][1]
    assert billed(world) == found["turns"] == 8


TOPICS = "- billing: invoice, refund\n- delivery: parcel, late\n- product: broken, manual"
RUBRIC = (
    f"Say whether the answer fits the row.\n\n{TOPICS}\n---\nmessage: {{{{ message }}}}\nanswer: {{{{ answer }}}}\n"
)


def test_a_rubric_that_raises_costs_its_row_and_keeps_what_was_paid_for(world: Any, tmp_path: Path) -> None:
    rows = "id,message,how\n" + "".join(f"m{n},the parcel is late,{n}\n" for n in range(6))
    checks = {"self_check": {"tier": "opus"}}
    job = make_job(tmp_path / "job", rows=rows, tiers=["opus"], checks=checks)
    (job / "rubric.md").write_text(RUBRIC + "{% if how == '1' %}{{ claimed.nothing.more }}{% endif %}\n")
    found = run(job)
    assert (found["loaded"], found["reasons"]) == (5, {"template_failed": 1})
    assert told(tmp_path)["m1"][1].startswith("rubric.md:9 raised UndefinedError: ")


CHECK = """

def check_total(answer, row):
    return None if float(row["total"]) >= 0 else "it is negative"
"""


OUTSIDE = """

from pathlib import Path

def check_least(answer, row):
    least = float(Path(__file__).with_name("least.txt").read_text())
    return None if float(row["total"]) >= least else "it is too little"
"""


def totals(folder: Path, totals: list[str], check: str = CHECK, **spec: Any) -> Path:
    """A job whose check wants a number in each row."""
    rows = "id,message,total\n" + "".join(f"m{n},the parcel is late,{total}\n" for n, total in enumerate(totals))
    return make_job(folder, rows=rows, answer=ANSWER + check, tiers=["opus"], **spec)


def states(tmp_path: Path) -> dict[str, int]:
    return dict(ask_ledger(tmp_path / "home", "SELECT state, count(*) FROM row GROUP BY state"))


@pytest.mark.parametrize("lane", ["batch", "live"])
@pytest.mark.parametrize("rows", [3, 12, 40])
def test_a_check_that_raises_on_most_rows_stops_the_run_and_harms_none(
    world: Any, tmp_path: Path, lane: str, rows: int
) -> None:
    job = totals(tmp_path / "job", ["1"] * rows, check=OUTSIDE)
    for _ in range(2):  # and again when it is resumed as it was
        with pytest.raises(RunStopped, match=r"rows: check_least \(answer.py:14\) raised FileNotFoundError: "):
            run(job, lane=lane)
        assert "quarantined" not in states(tmp_path)
    paid = billed(world)
    assert paid == rows if lane == "batch" or rows < 20 else 20 <= paid <= rows
    (job / "least.txt").write_text("0")
    found = run(job, lane=lane)
    assert (found["loaded"], found["turns"], billed(world)) == (rows, rows, rows)


def test_a_prompt_that_raises_on_most_rows_stops_the_run_before_a_cent_is_spent(world: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=30, prompt=PROMPT + "{{ message * 1.1 }}\n", tiers=["opus"])
    for lane in ("batch", "live"):
        with pytest.raises(RunStopped, match=r"rows: prompt.md:8 raised TypeError: can't multiply"):
            run(job, lane, lane)
    assert states(tmp_path) == {"ready": 60}
    assert billed(world) == 0


def test_few_rows_of_many_that_fail_stop_nothing(world: Any, tmp_path: Path) -> None:
    job = totals(tmp_path / "job", ["1"] * 300 + [""] * 3 + ["2"] * 700)
    found = run(job)
    assert (found["loaded"], found["reasons"]) == (1000, {"check_failed": 3})
    assert found["turns"] == billed(world) == 1003


CANNOT_BE_CALLED = {
    "def check_one(answer): pass": "check_one: too many positional arguments",
    "async def check_one(answer, row): pass": "check_one is async",
    "check_digits = 5": "check_digits is no function",
    "int('x')": "answer.py:10: ValueError: invalid literal",
    "import sys; sys.exit(1)": "answer.py:10: SystemExit: 1",
    "{}['x']": "answer.py:10: KeyError: 'x'",
}


@pytest.mark.parametrize("code", CANNOT_BE_CALLED)
def test_a_check_that_cannot_be_called_is_refused_before_anything_is_sent(tmp_path: Path, code: str) -> None:
    job = make_job(tmp_path / "job", answer=f"{ANSWER}\n{code}\n")
    with pytest.raises(UserMistake, match=CANNOT_BE_CALLED[code]):
        load_job(job)
