"""Rows are chosen for labelling where labels teach most; what people say of them becomes golden rows, or is refused."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from conftest import NOW, make_rows, make_run
from hypothesis import given
from hypothesis import strategies as st
from outside import rowtide
from sqlalchemy import text

from rowtide.errors import UserMistake
from rowtide.evals.golden_rows import GoldenRow, read_golden_rows
from rowtide.evals.job_golden import read_job_golden
from rowtide.evals.label_choice import Candidate, Stratum, choose_rows
from rowtide.evals.label_sheet import read_label_sheet
from rowtide.job.job_folder import Job, load_job
from rowtide.ledger.labels import answers_of_persons, disputed_keys, quarantined_keys
from rowtide.ledger.ledger import Ledger
from rowtide.stages.label.choose_rows_to_label import rows_to_label
from rowtide.stages.label.golden_labels import take_answers_of_persons, take_labels

COMPANIES = Path(__file__).parent.parent / "jobs" / "companies"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """The companies job in a folder of its own, with two golden rows."""
    shutil.copytree(COMPANIES, tmp_path / "companies")
    golden = tmp_path / "companies" / "golden.jsonl"
    golden.write_bytes(b"".join(golden.read_bytes().splitlines(keepends=True)[:2]).rstrip(b"\n"))
    yield load_job(tmp_path / "companies")


def rows_of(count: int) -> list[Candidate]:
    return [Candidate(f"k{n}", {"name": f"word{n} common"}) for n in range(count)]


@given(st.integers(0, 300), st.integers(1, 80), st.sets(st.integers(0, 299)), st.sets(st.integers(0, 299)))
def test_as_many_rows_are_chosen_as_there_are_each_once_and_none_that_is_labelled(
    count: int, wanted: int, odd: set[int], labelled: set[int]
) -> None:
    strata: dict[str, Stratum] = {f"k{n}": "quarantined" if n % 2 else "disagreement" for n in odd}
    known = {f"k{n}" for n in labelled}
    chosen = choose_rows(rows_of(count), strata, known, wanted)
    keys = [row.key for row in chosen]
    assert len(keys) == len(set(keys)) == min(wanted, len({row.key for row in rows_of(count)} - known))
    assert not known & set(keys)
    assert all(strata[row.key] == row.stratum for row in chosen if row.stratum in ("quarantined", "disagreement"))


def test_half_are_drawn_at_random_whatever_the_order_of_the_source_and_the_rest_are_odd_or_unlike() -> None:
    rows = [*rows_of(999), Candidate("rare", {"name": "quite other words than all those others have, far and wide"})]
    strata: dict[str, Stratum] = {f"k{n}": "quarantined" for n in range(0, 999, 7)}
    strata |= {f"k{n}": "disagreement" for n in range(1, 999, 7)}
    chosen = choose_rows(rows, strata, (), 40)
    counted = {stratum: sum(row.stratum == stratum for row in chosen) for stratum in {row.stratum for row in chosen}}
    assert counted == {"random": 20, "disagreement": 10, "quarantined": 5, "diverse": 5}
    assert [row.key for row in choose_rows(rows[::-1], strata, (), 40)] == [row.key for row in chosen]
    assert "rare" in {row.key for row in choose_rows(rows, strata, (), 100)}


def test_a_sheet_goes_out_is_filled_in_and_comes_back_as_golden_rows_and_twice_changes_nothing(
    job: Job, tmp_path: Path
) -> None:
    sheet, home = tmp_path / "sheet.csv", {"ROWTIDE_HOME": str(tmp_path / "home")}
    done = rowtide("label", job.folder, "--to", sheet, "--rows", "6", environment=home)
    assert done.status == 0, done.err
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    lines[0] |= {"answer.country": "GB", "answer.sector": "Energy", "how": "its annual report", "pinned": "yes"}
    lines[5] |= {"answer.country": "US"}
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0], delimiter=";")
        writer.writeheader()
        writer.writerows(lines)
    done = rowtide("label", job.folder, "--import", sheet, "--by", "Ada", environment=home)
    assert (done.status, done.out) == (0, "2 golden rows added\n"), done.err
    before = (job.folder / "golden.jsonl").read_bytes()
    first, last = read_golden_rows(job.folder / "golden.jsonl")[2:]
    assert (first.key, first.answer, first.how) == (
        lines[0]["row_key"], {"country": "GB", "sector": "Energy"}, "its annual report",
    )  # fmt: skip
    assert (first.by, first.pinned, first.stratum, first.labeller) == ("Ada", True, "random", "person")
    assert (last.answer, last.pinned, last.stratum) == ({"country": "US"}, False, lines[5]["stratum"])
    done = rowtide("label", job.folder, "--import", sheet, "--by", "Ada", environment=home)
    assert done.out == "0 golden rows added; 2 were golden already\n"
    assert (job.folder / "golden.jsonl").read_bytes() == before


HEADER = "row_key,stratum,answer.country,answer.sector,how,pinned"
ODD = {
    "a sector that is none": (f"{HEADER}\nBARC.L,random,,Banking,,", r"sheet.csv:2: BARC.L: sector: "),
    "a key twice": (f"{HEADER}\nBARC.L,,GB,,,\nBARC.L,,GB,,,", r"sheet.csv:3: BARC.L: stands on line 2 too"),
    "a key of no row": (f"{HEADER}\nNOBODY,,GB,,,", r"sheet.csv:2: no row of the source has the key 'NOBODY'"),
    "another answer than is known": (f"{HEADER}\nMMM,,GB,,,", r"sheet.csv:2: MMM: golden.jsonl, line 2, knows another"),
    "no such column": (f"{HEADER},answer.contry\nBARC.L,,GB,,,,", r"answer.contry: no such column; did you mean"),
    "neither yes nor no": (f"{HEADER}\nBARC.L,,GB,,,perhaps", r"sheet.csv:2: pinned: 'perhaps' is neither yes nor no"),
    "a cell too many": (f"{HEADER}\nBARC.L,,GB,,,,", r"sheet.csv:2: 7 cells where the header has 6"),
    "no key": ("stratum,answer.country\nrandom,GB", r"sheet.csv:1: row_key: this column is missing"),
    "not UTF-8": (f"{HEADER}\nBARC.L,,GB,,caf\udce9,", r"sheet.csv:2: not UTF-8"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_sheet_is_refused_whole_with_file_and_line(job: Job, kind: str) -> None:
    content, words = ODD[kind]
    before = (job.folder / "golden.jsonl").read_bytes()
    good = "\nTSLA,,US,,,"
    with pytest.raises(UserMistake, match=words):
        sheet = (content + good * (content.startswith(HEADER + "\n"))).encode(errors="surrogateescape")
        labels = read_label_sheet(sheet, Path("sheet.csv"), job.answer, "Ada")
        take_labels(job, labels, ["BARC.L", "TSLA", "MMM"], Path("sheet.csv"))
    assert (job.folder / "golden.jsonl").read_bytes() == before


def test_null_says_that_there_is_no_value_and_an_empty_cell_says_nothing(job: Job) -> None:
    sheet = f"{HEADER}\nBARC.L,,null,,,\nTSLA,,,,who knows,"
    (label,) = read_label_sheet(sheet.encode(), Path("sheet.csv"), job.answer, "Ada")
    assert label == GoldenRow("BARC.L", {"country": None}, 2, by="Ada")


def test_asked_row_by_row_each_answer_is_kept_at_once_and_one_that_does_not_fit_is_said(
    job: Job, tmp_path: Path
) -> None:
    said = "GB\n\n\nEnergy\n\nits web site\n" + "US\n\n\nNonsense\n\n\n" + "q\n"
    home = {"ROWTIDE_HOME": str(tmp_path / "home")}
    done = rowtide("label", job.folder, "--terminal", "--by", "Ada", environment=home, stdin=said)
    assert done.status == 0, done.err
    assert "1 rows labelled" in done.out
    assert "not taken: sector: " in done.err
    (label,) = read_golden_rows(job.folder / "golden.jsonl")[2:]
    assert (label.answer, label.how, label.by) == ({"country": "GB", "sector": "Energy"}, "its web site", "Ada")


def test_a_run_says_which_rows_are_odd_and_what_people_answered_in_its_quarantine(ledger: Ledger, job: Job) -> None:
    run = make_run(ledger, job="companies", job_folder=str(job.folder))
    disputed, waiting, answered, plain = make_rows(ledger, run, 4)
    note = text(
        "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who) "
        "VALUES (:row, 1, :move, 'x', '', :at, :who)"
    )
    answer = {"country": "FR", "sector": "Energy", "register_id": "R-000001", "country_evidence": "x", "confidence": 1}
    with ledger.page() as tx:
        tx.execute(text("UPDATE row SET turn = 1, state = 'loaded' WHERE row_no <> :row"), {"row": waiting})
        tx.execute(
            text("UPDATE row SET turn = 1, state = 'quarantined', reason = 'not_verified' WHERE row_no = :row"),
            {"row": waiting},
        )
        for row, move, who in ((disputed, "escalate", None), (answered, "override_answer", "Ada")):
            tx.execute(note, {"row": row, "move": move, "at": NOW.isoformat(), "who": who})
        for row in (disputed, answered, plain):
            tx.execute(
                text("INSERT INTO answer (row_no, content) VALUES (:row, :content)"),
                {"row": row, "content": orjson.dumps(answer)},
            )
    with ledger.view() as tx:
        assert (disputed_keys(tx, run), quarantined_keys(tx, run)) == (["key-1"], ["key-2"])
        assert [(each.row_key, each.who) for each in answers_of_persons(tx, [run])] == [("key-3", "Ada")]
    assert take_answers_of_persons(job, ledger, []).added == 1
    assert take_answers_of_persons(job, ledger, []).known == 1
    (label,) = read_golden_rows(job.folder / "golden.jsonl")[2:]
    assert (label.key, label.answer, label.by) == ("key-3", {"country": "FR", "sector": "Energy"}, "Ada")
    assert (label.stratum, label.how) == ("quarantined", "answered in the quarantine of run run-1")
    queue = rows_to_label(job, None, {}, ledger, 10)
    assert {row.stratum for row in queue.rows} <= {"random", "diverse"}
    assert len(queue.rows) == 10


def test_golden_rows_are_counted_as_their_fields_are_meant_and_one_that_does_not_fit_is_refused(job: Job) -> None:
    comparer = (
        "\n\ndef compare_country(known: str, answered: str) -> bool:\n    return known.lower() == answered.lower()\n"
    )
    with (job.folder / "answer.py").open("a") as file:
        file.write(comparer)
    golden = read_job_golden(load_job(job.folder))
    assert golden.is_right("MMM", {"country": "us", "sector": "Industrials", "confidence": 1})
    assert not golden.is_right("MMM", {"country": "us", "sector": "industrials"})
    assert not golden.is_right("MMM", {"country": "us"})
    with (job.folder / "golden.jsonl").open("a") as file:
        file.write('\n{"key": "TSLA", "answer": {"sector": "Cars"}}')
    with pytest.raises(UserMistake, match=r"golden.jsonl:3: TSLA: sector"):
        read_job_golden(load_job(job.folder))
