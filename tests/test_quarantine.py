"""The quarantine: out to a sheet, mended by a person, back in, sent again, loaded; the counts add up all the while."""

import csv
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import answers_of, ask_ledger, make_job, run
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cli.main import app
from rowtide.errors import UserMistake
from rowtide.quarantine.quarantine_cells import to_cell, unguard_cell, value_kinds
from rowtide.quarantine.quarantine_sheet import KINDS, SheetEntry, SheetShape, read_sheet, sheet_record
from rowtide.quarantine.sheet_edits import EditRules, edits_of_sheet

ANSWER = """
from typing import Literal
from pydantic import BaseModel, Field


class Answer(BaseModel):
    topic: Literal["billing", "delivery", "product"] = Field(description="What the message is about.")
    message: str = Field(description="The message, as written.")


def check_order(answer: Answer, row: dict[str, object]) -> str | None:
    return None if str(row["order"]).startswith("A-") else f"order: {row['order']!r} is no order of ours"
"""
PROMPT = """Sort the message.

- billing: invoice, refund
- delivery: parcel, late
- product: broken, manual
---
order: {{ order }}
message: {{ message }}
"""
HEADER = b"id,order,message\n"


def quarantine(*words: str) -> int:
    return app(["quarantine", *words], result_action="return_value")


def source(*parts: tuple[int, Callable[[int], str]]) -> bytes:
    """That many lines of each kind, numbered through."""
    lines, number = list[str](), 0
    for count, line in parts:
        lines += [line(n) for n in range(number, number + count)]
        number += count
    return HEADER + "".join(lines).encode("latin-1")


def states(home: Path) -> Counter[str]:
    return Counter(dict(ask_ledger(home, "SELECT state, count(*) FROM row GROUP BY state")))


def reasons(home: Path) -> dict[str, int]:
    found = ask_ledger(home, "SELECT reason, count(*) FROM row WHERE state = 'quarantined' GROUP BY reason")
    return dict(found)


def rows_of(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write(sheet: Path, rows: list[dict[str, str]]) -> Path:
    """As a German spreadsheet saves it: another separator, and line ends of its own."""
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return sheet


def test_three_hundred_rows_are_mended_in_a_spreadsheet_and_loaded_and_every_step_adds_up(
    api: Any, faults: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults({"rows": {"text": "rejectme"}, "result": {"errored": "invalid_request_error"}})
    home, sink = tmp_path / "home", lambda: answers_of(tmp_path / "home")
    content = source(
        (30, lambda n: f"m{n},A-{n},the parcel is late ({n})\n"),
        (120, lambda n: f"m{n},=A-{n},the parcel is late ({n})\n"),
        (100, lambda n: f'm{n},A-{n},"the invoice is wrong\n[emulator:refuse] ({n})"\n'),
        (40, lambda n: f"m{n},A-{n},the manual rejectme is missing ({n})\n"),
        (10, lambda n: f",A-{n},the parcel is late ({n})\n"),
        (10, lambda n: f"m{n - 300},A-{n},the parcel is late ({n})\n"),
        (10, lambda n: f"m{n},A-{n},the parcel is late ({n}),too wide\n"),
        (10, lambda n: f"m{n},A-{n},the parcel is l\xe4te ({n})\n"),
    )
    job = make_job(
        tmp_path / "job", rows=content, answer=ANSWER, prompt=PROMPT, tiers=["haiku", "opus"], limits={"bounces": 1}
    )
    first = run(job, run_id="r1")
    assert (first["rows"], first["loaded"], first["quarantined"]) == (330, 30, 300)
    at_first = {"not_verified": 120, "refused": 100, "rejected": 40}
    at_the_door = {"missing_key": 10, "duplicate_key": 10, "wrong_width": 10, "undecodable": 10}
    assert first["reasons"] == at_first | at_the_door

    assert quarantine("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["run_id"], listed["quarantined"]) == ("r1", 300)
    assert {each["reason"]: each["rows"] for each in listed["reasons"]} == at_first | at_the_door

    sheet = tmp_path / "rows.csv"
    assert quarantine("export", "r1", "--to", str(sheet)) == 0
    rows = rows_of(sheet)
    assert Counter(row["reason"] for row in rows) == at_first | at_the_door
    write(sheet, edited(rows))
    assert quarantine("fix", "r1", str(sheet)) == 0
    # 120 wait for `retry`, 40 were left alone, 10 given up; 60 refused ones and 40 of the door were sent again.
    assert states(home) == {"loaded": 30, "quarantined": 170, "ready": 100, "answered": 30}
    assert reasons(home) == {"edited": 120, "rejected": 40, "discarded": 10}
    before = everything(home)
    assert quarantine("fix", "r1", str(sheet)) == 0
    assert everything(home) == before

    assert quarantine("retry", "r1", "--reason", "edited") == 0
    assert states(home) == {"loaded": 30, "quarantined": 50, "ready": 220, "answered": 30}
    api.world.faults.clear()
    assert quarantine("retry", "r1", "--reason", "rejected", "--tier", "opus") == 0
    assert states(home) == {"loaded": 30, "quarantined": 10, "ready": 260, "answered": 30}
    assert ask_ledger(home, "SELECT finished_at FROM run") == [(None,)]

    found = run(job, run_id="r1")
    assert (found["rows"], found["loaded"], found["quarantined"]) == (330, 320, 10)
    assert found["reasons"] == {"discarded": 10}
    assert len(sink()) == 320
    assert sink()["m150"] == {"topic": "billing", "message": "as a person says"}
    assert {f"line {n}" for n in range(1, 600)}.isdisjoint(sink())
    assert ask_ledger(home, "SELECT count(*) FROM loaded") == [(320,)]
    assert round(found["cost_usd"] * 1e6) == api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["cost_micro"]
    assert set(ask_ledger(home, "SELECT t.tier FROM turn t JOIN note n USING (row_no) WHERE n.detail = 'at opus'")) == {
        (1,)
    }
    signed = dict(ask_ledger(home, "SELECT move, count(*) FROM note WHERE who IS NOT NULL GROUP BY move"))
    assert signed == {"edit": 220, "override_answer": 30, "retry": 260, "discard": 10}
    assert ask_ledger(home, "SELECT count(*) FROM note WHERE move = 'edit' AND was IS NOT NULL") == [(220,)]


def edited(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """What a person does: every reason its own cure."""
    refused = 0
    for row in rows:
        number = row["row_key"].strip("m")
        match row["reason"]:
            case "not_verified":
                assert row["in.order"].startswith("'=A-")
                row["in.order"] = row["in.order"].removeprefix("'=")
            case "refused":
                refused += 1
                if refused <= 30:
                    row |= {"answer.topic": "billing", "answer.message": "as a person says"}
                elif refused <= 40:
                    row["do"] = "DISCARD"
                else:
                    row |= {"in.message": row["in.message"].replace("[emulator:refuse]", "please"), "do": "retry"}
            case "rejected":
                pass
            case "missing_key" | "duplicate_key":
                row |= {"in.id": f"new {row['in.order']}", "do": "retry"}
            case _:
                line = number.removeprefix("line ")
                row |= {"in.id": f"l{line}", "in.order": f"A-{line}", "in.message": "the parcel is late", "do": "retry"}
    return rows


def everything(home: Path) -> str:
    """A hash of all that stands in the ledger."""
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        return hashlib.sha256("\n".join(db.iterdump()).encode()).hexdigest()


def a_small_run(folder: Path) -> Path:
    """Eight rows in quarantine: six that are refused, one without a key, and one that was never read."""
    rows = "".join(f"m{n},A-{n},the parcel is late [emulator:refuse] ({n})\n" for n in range(6)) + ",A-7,a parcel\nm8\n"
    job = make_job(folder / "job", rows=HEADER + rows.encode(), answer=ANSWER, prompt=PROMPT, tiers=["haiku", "opus"])
    run(job, run_id="r1")
    quarantine("export", "r1", "--to", str(folder / "rows.csv"))
    return job


@pytest.fixture(scope="module")
def small(emulator_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small run, once for the tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROWTIDE_HOME", str(folder / "home"))
        patch.setenv("ANTHROPIC_API_KEY", f"key-{folder.name}")
        patch.setenv("ANTHROPIC_BASE_URL", emulator_server.url)
        a_small_run(folder)
        yield folder


ODD = {
    "no row 'm55' in this quarantine": ({"row_key": "m55"}, ":2: row_key"),
    "of run 'r2'": ({"run": "r2"}, ":2: run"),
    "is none of retry, accept, discard": ({"do": "retri"}, ":2: do"),
    "Input should be 'billing'": ({"answer.topic": "biling"}, ":2: answer.topic"),
    "is no order of ours": ({"in.order": "B-1", "answer.topic": "billing", "answer.message": "x"}, ":2: do"),
    "a row keeps its key": ({"in.id": "m9"}, ":2: in.id"),
    "given up: which": ({"in.order": "A-9", "do": "discard"}, ":2: do"),
    "moved on": ({"as_of": "1", "in.order": "A-9"}, ":2: as_of"),
    "stands already in line 2": ({"row_key": "m1"}, ":3: row_key"),
}


@pytest.mark.parametrize("what", ODD)
def test_a_sheet_with_anything_odd_in_it_is_refused_whole_by_file_line_and_column(small: Path, what: str) -> None:
    change, place = ODD[what]
    rows = rows_of(small / "rows.csv")
    rows[3]["in.order"] = "A-mended"
    rows[0] |= change
    sheet, before = write(small / "odd.csv", rows), everything(small / "home")
    with pytest.raises(UserMistake, match=what) as refused:
        quarantine("fix", "r1", str(sheet))
    assert f"odd.csv{place}" in str(refused.value)
    assert everything(small / "home") == before


def test_a_column_nobody_knows_is_refused_with_the_one_that_was_meant(small: Path) -> None:
    rows = [
        {("in.mesage" if name == "in.message" else name): cell for name, cell in row.items()}
        for row in rows_of(small / "rows.csv")
    ]
    with pytest.raises(UserMistake, match=r"odd.csv:1: in.mesage: no such column; did you mean 'in.message'"):
        quarantine("fix", "r1", str(write(small / "odd.csv", rows)))


def test_a_row_refused_at_the_door_is_sent_only_when_it_was_mended_whole(small: Path) -> None:
    with pytest.raises(UserMistake, match="edit it first, it was refused"):
        quarantine("retry", "r1", "line 9")
    rows = rows_of(small / "rows.csv")
    (unread,) = [row for row in rows if row["reason"] == "wrong_width"]
    part = {name: cell for name, cell in unread.items() if name != "in.message"} | {"in.id": "m8"}
    with pytest.raises(UserMistake, match=r"odd.csv:2: in.message: the row was never read, so every column is needed"):
        quarantine("fix", "r1", str(write(small / "odd.csv", [part])))
    with pytest.raises(UserMistake, match="another row's key"):
        quarantine("fix", "r1", str(write(small / "odd.csv", [unread | {"in.id": "m3", "in.order": "A-3"}])))


def test_what_was_sent_again_and_then_left_to_a_new_run_is_asked_there(api: Any, tmp_path: Path) -> None:
    """A row that a person sent again is no longer one that could not be verified."""
    job = a_small_run(tmp_path)
    again = run(job, run_id="r2")
    assert (again["unchanged"], again["quarantined_before"], again["quarantined"]) == (6, 6, 2)
    assert quarantine("retry", "r1", "m1", "m2") == 0
    third = run(job, run_id="r3")
    assert (third["unchanged"], third["quarantined"], third["turns"] > 0) == (4, 4, True)
    assert quarantine("discard", "r1", "m3", "--why", "not ours") == 0
    shown = ask_ledger(tmp_path / "home", "SELECT reason, detail, who IS NOT NULL FROM note WHERE move = 'discard'")
    assert shown == [("refused", "not ours", 1)]
    found = run(job, run_id="r1")
    assert (found["rows"], found["quarantined"], found["reasons"]["discarded"]) == (8, 8, 1)


def test_on_postgresql_rows_are_mended_answered_given_up_and_loaded_just_so(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROWTIDE_LEDGER", postgres_url)
    job = a_small_run(tmp_path)
    rows = rows_of(tmp_path / "rows.csv")
    rows[0] |= {"in.message": "the parcel is late", "do": "retry"}
    rows[1] |= {"in.message": "the parcel is late"}
    rows[2] |= {"answer.topic": "billing", "answer.message": "by hand"}
    rows[3]["do"] = "discard"
    rows[7] |= {"in.id": "m8", "in.order": "A-8", "in.message": "the parcel is late", "do": "retry"}
    assert quarantine("fix", "r1", str(write(tmp_path / "mended.csv", rows))) == 0
    assert quarantine("retry", "r1", "--reason", "edited", "--tier", "opus") == 0
    found = run(job, run_id="r1")
    assert (found["rows"], found["loaded"], found["quarantined"]) == (8, 4, 4)
    assert found["reasons"] == {"refused": 2, "discarded": 1, "missing_key": 1}
    assert sorted(answers_of(tmp_path / "home")) == ["m0", "m1", "m2", "m8"]
    capsys.readouterr()
    assert quarantine("show", "m0") == 0
    assert "it was mended by " in capsys.readouterr().out


def test_a_death_in_the_middle_of_a_fix_or_a_retry_leaves_all_or_nothing(small: Path) -> None:
    rows = rows_of(small / "rows.csv")
    for row in rows[:2]:
        row |= {"in.order": "A-mended", "do": "retry"}
    rows[2] |= {"answer.topic": "billing", "answer.message": "by hand"}
    rows[3]["do"] = "discard"
    write(small / "kill.csv", rows)
    before = everything(small / "home")
    fixed = {"ready": 2, "answered": 1, "quarantined": 5}
    for words, ends in (
        (("fix", "r1", str(small / "kill.csv")), fixed),
        (("retry", "r1", "--reason", "refused"), {"ready": 6, "quarantined": 2}),
    ):
        home = small / words[0]
        copy = {**os.environ, "COPY": str(home), "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", DYING, *words]
        said = subprocess.run(command, env=copy, check=True, stdout=subprocess.PIPE, text=True).stdout
        *deaths, last = json.loads(said.splitlines()[-1])
        assert len(deaths) >= 5
        assert set(deaths) == {before} != {last}
        assert states(home) == ends


# Dies after each write in turn, until something is changed; prints what stood in the ledger each time.
DYING = """
import json, os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
import cli.quarantine  # once, not in every child
from cli.main import app
from test_quarantine import everything

home = Path(os.environ["COPY"])
shutil.copytree(os.environ["ROWTIDE_HOME"], home)
os.environ["ROWTIDE_HOME"] = str(home)
deaths = []
for number in range(1, 200):
    if not (child := os.fork()):
        left = [number]

        @event.listens_for(Engine, "after_cursor_execute")
        def die(connection, cursor, statement, *_):
            left[0] -= statement.startswith(("INSERT", "UPDATE", "DELETE"))
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        os._exit(app(["quarantine", *sys.argv[1:]], result_action="return_value"))
    os.waitpid(child, 0)
    deaths.append(everything(home))
    if deaths[-1] != deaths[0]:
        break
print(json.dumps(deaths))
"""

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.from_regex(r"'*[=+\-@]?[\d.,:/ eE\-]*", fullmatch=True)
VALUES = (
    st.lists(TEXTS, max_size=2)
    | st.dictionaries(TEXTS, TEXTS, max_size=2)
    | TEXTS
    | st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)


class TwoFields(BaseModel):
    a: str | None
    n: float | None


@given(TEXTS)
def test_every_text_comes_back_from_its_cell_and_none_is_a_formula(text: str) -> None:
    assert unguard_cell(to_cell(text)) == text
    assert not to_cell(text).lstrip().startswith(("=", "+", "-", "@"))


@given(
    key=TEXTS.filter(lambda text: text.strip() != ""),
    values=st.fixed_dictionaries({"a": VALUES, "b": VALUES, "ü": TEXTS}),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_a_sheet_that_comes_back_as_it_went_out_asks_for_nothing(key: str, values: dict[str, Any], kind: str) -> None:
    shape = SheetShape({name: value_kinds([value]) for name, value in values.items()}, ("a", "n"))
    entry = SheetEntry(1, 0, key, "quarantined", "why", "so", 3, False, values, {"a": values["a"], "n": values["b"]})
    out = io.StringIO(newline="")
    KINDS[kind][0](out, shape.columns, [sheet_record(entry, "r1", shape)])
    lines = read_sheet(out.getvalue().encode(), f"rows.{kind}", run_id="r1", shape=shape)
    rules = EditRules(f"rows.{kind}", shape, ["a"], 10**9, TwoFields, [])
    assert [line.row_key for line in lines] == [key]
    assert edits_of_sheet(lines, {key: entry}, rules, []) == []
