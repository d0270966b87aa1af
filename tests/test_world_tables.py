"""Any table that a stranger has becomes a job that can run at once, or he is told in a sentence what to do."""

import asyncio
import csv
import gzip
import http.server
import io
import os
import pty
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run
from hypothesis import given, settings
from hypothesis import strategies as st
from outside import ROOT, rowtide

from cli.main import app
from rowtide.errors import UserMistake
from rowtide.evals.label_sheet import read_label_sheet
from rowtide.intake.source_rows import SourceRow, row_key
from rowtide.intake.sources import read_pages
from rowtide.job.job_folder import load_job
from rowtide.job.skills import read_skills
from rowtide.stages.create_job.csv_header import CsvOptions
from rowtide.stages.create_job.field_list import AskedField, parse_fields, with_evidence
from rowtide.stages.create_job.import_table import TableOptions
from rowtide.stages.create_job.make_job import (
    Decided,
    Place,
    TableSeen,
    check_name,
    default_decisions,
    look_at_table,
    make_job,
)
from rowtide.stages.create_job.write_job import staging_folder
from rowtide.stages.preflight import plan_run

TEXT = "The parcel that was ordered in spring is still not here, and nobody has answered two letters about it."
HEADER = ("Ticket ID", "a{{b", "100 %", "row", "x#}", 'say "so"', "items")
TICKETS = [["Nr", "Kunde", "Eingang", "Betrag", "Text"]] + [
    [f"T-{n}", f"Müller {n % 7}", f"{n % 28 + 1}.3.2026", f"{n},50", f"{n}: {TEXT}"] for n in range(40)
]


def table(*heads: Any, rows: int, of: Callable[[int], list[Any]]) -> list[list[Any]]:
    return [list(heads), *(of(n) for n in range(rows))]


def as_csv(lines: list[list[Any]], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    return text.getvalue().encode(encoding)


def as_jsonl(lines: list[list[Any]]) -> bytes:
    return b"".join(orjson.dumps(dict(zip(lines[0], line, strict=True))) + b"\n" for line in lines[1:])


def as_xlsx(**sheets: list[list[Any]]) -> bytes:
    """A workbook as Excel writes one, but for what nobody reads."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as book:
        types = "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType='
            f'"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        book.writestr("[Content_Types].xml", (
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
            'PartName="/xl/workbook.xml" ContentType='
            f'"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>{types}</Types>'
        ))  # fmt: skip
        office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        package = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        book.writestr("_rels/.rels", f'{package}<Relationship Id="r" Type="{office}/officeDocument" '
                                     'Target="xl/workbook.xml"/></Relationships>')  # fmt: skip
        links = "".join(
            f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        book.writestr("xl/_rels/workbook.xml.rels", f"{package}{links}</Relationships>")
        named = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{named}</sheets></workbook>'
        )
        for n, lines in enumerate(sheets.values(), 1):
            rows = "".join(
                f'<row r="{r}">' + "".join(_cell(value, r, c) for c, value in enumerate(line)) + "</row>"
                for r, line in enumerate(lines, 1)
            )
            book.writestr(
                f"xl/worksheets/sheet{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
            )
    return content.getvalue()


def _cell(value: Any, row: int, column: int) -> str:
    place = f"{chr(65 + column)}{row}"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'


def as_parquet(lines: list[list[Any]]) -> bytes:
    content = io.BytesIO()
    columns = dict(zip(lines[0], map(list, zip(*lines[1:], strict=True)), strict=True))
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def as_tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("export.csv"))
    return content.getvalue()


def twice_the_same_name() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), content)
    return content.getvalue()


class Made:
    """A job that was made, and what it reads."""

    def __init__(self, folder: Path, seen: TableSeen, notes: list[str]) -> None:
        self.folder, self.seen, self.notes = folder, seen, notes
        self.job = load_job(folder)
        self.key = self.job.spec.key_columns
        self.sample = ""

    @property
    def rows(self) -> list[dict[str, object]]:
        """What a run reads of the job's own source."""
        pages = read_pages(self.job.spec.source, self.folder, 1000, os.environ)
        return [record.values for page in pages for record in page if isinstance(record, SourceRow)]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """`rowtide new` up to its folder, in a folder of its own; the job is then checked as a run checks it."""
    monkeypatch.chdir(tmp_path)

    def make(
        given: str,
        content: bytes | None = None,
        *,
        key: str | None = None,
        database: str | None = None,
        question: str | None = None,
        fields: str | None = None,
        sheet: str | None = None,
        **options: Any,
    ) -> Made:
        if content is not None:
            Path(given).write_bytes(content)
        folder = tmp_path / "jobs" / "job"
        with staging_folder(tmp_path / "home") as staging:
            place = Place(staging, folder, os.environ)
            how = TableOptions(CsvOptions(**options), sheet)
            seen = look_at_table(given, database, how, key, place, lambda _: None)
            usual = default_decisions(seen.profile)
            decided = Decided(
                question or usual.question, with_evidence(parse_fields(fields)) if fields else usual.fields, usual.key
            )
            sample, keys = make_job(folder.name, seen, decided, place)
        assert not list((tmp_path / "home" / "new").iterdir())
        made = Made(folder, seen, list(seen.table.notes))
        asyncio.run(plan_run(folder, None, os.environ))
        made.sample = str(sample)
        assert keys and all(isinstance(made.job.message_for(row), str) for row in made.rows)
        return made

    return make


TABLES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "semicolons in cp1252": ("export.csv", as_csv(TICKETS, ";", "cp1252"), ("Nr",)),
    "UTF-16 with a mark": ("export.csv", as_csv(TICKETS, "\t", "utf-16"), ("Nr",)),
    "UTF-16 without one": ("export.csv", as_csv(TICKETS, ";", "utf-16-le"), ("Nr",)),
    "UTF-8 with a mark": ("export.csv", as_csv(TICKETS, ",", "utf-8-sig"), ("Nr",)),
    "tabs": ("export.tsv", as_csv(TICKETS, "\t"), ("Nr",)),
    "text with an ending nobody knows": ("export.txt", as_csv(TICKETS, "|"), ("Nr",)),
    "no ending": ("export", as_csv(TICKETS), ("Nr",)),
    "what Excel writes above a CSV": ("export.csv", b"sep=;\r\n" + as_csv(TICKETS, ";"), ("Nr",)),
    "a title above the header": ("export.csv", as_csv([["Report of March"], [], *TICKETS], ";"), ("Nr",)),
    "a padded title": ("export.csv", as_csv([["Report", "", "", "", ""], *TICKETS], ";"), ("Nr",)),
    "JSON Lines": ("export.jsonl", as_jsonl(TICKETS), ("Nr",)),
    "JSON Lines called JSON": ("export.json", as_jsonl(TICKETS), ("Nr",)),
    "a JSON array": ("export.json", b"[" + b",\n".join(as_jsonl(TICKETS).splitlines()) + b"]", ("Nr",)),
    "Parquet": ("export.parquet", as_parquet(TICKETS), ("Nr",)),
    "Parquet with another ending": ("export.dat", as_parquet(TICKETS), ("Nr",)),
    "gzip": ("export.csv.gz", gzip.compress(as_csv(TICKETS, ";", "cp1252")), ("Nr",)),
    "a gzip that does not say so": ("export.csv", gzip.compress(as_csv(TICKETS)), ("Nr",)),
    "a spreadsheet": ("export.xlsx", as_xlsx(Notes=[["read me"]], Orders=TICKETS), ("Nr",)),
    "a spreadsheet with a title": ("export.xlsx", as_xlsx(A=[["Orders"], [], *TICKETS]), ("Nr",)),
    "spaces and odd characters": (
        "export.csv",
        as_csv(table(*HEADER, rows=9, of=lambda n: [n, *"abcdef"])),
        ("Ticket ID",),
    ),
    "the same name twice": (
        "export.csv", as_csv(table("id", "name", "name", rows=9, of=lambda n: [n, "a", n % 3])), ("id",)
    ),
    "a column without a name": (
        "export.csv", as_csv(table("", "id", "t", "", rows=9, of=lambda n: [0, n, "x", ""])), ("id",)
    ),
    "no header": ("export.csv", as_csv([[f"2026-03-{n + 10}", n, "late"] for n in range(9)]), ("column_2",)),
    "two columns name a row": (
        "export.csv",
        as_csv([["order", "line", "text"]] + [[n // 4, n % 4, "x"] for n in range(40)]),
        ("order", "line"),
    ),
    "nothing names a row": ("export.csv", as_csv([["text", "mood"]] + [["late", "bad"]] * 9), ("row_number",)),
    "an id that some rows repeat": (
        "export.csv", as_csv([["id", "text"]] + [[n % 98, f"t{n}"] for n in range(100)]), ("id",)
    ),
    "a line break in the header": ("export.csv", b'"id\nnumber",text\n1,a\n2,b\n', ("id\nnumber",)),
    "a delimiter at each line's end": ("export.csv", b"id;text;\n1;a;\n2;b;\n", ("id",)),
    "a delimiter at each row's end": ("export.csv", b"id;text\n1;a;\n2;b;\n", ("id",)),
    "only carriage returns": ("export.csv", b"id,text\r1,a\r2,b\r", ("id",)),
    "NULs": ("export.csv", b"id,text\n1,a\0b\n2,c and so on\n", ("id",)),
    "JSON under a name": ("export.json", orjson.dumps({"page": 1, "data": [{"id": n} for n in range(9)]}), ("id",)),
    "JSON that is called CSV": ("export.csv", b'[{"id": 1, "t": "a, b"},\n {"id": 2, "t": "c"}]', ("id",)),
    "JSON Lines in UTF-16": ("export.jsonl", '{"id": 1, "t": "ü"}\n{"id": 2, "t": "x"}\n'.encode("utf-16"), ("id",)),
    "values of several kinds": ("export.jsonl", b'{"id":1,"o":{"a":[1]},"t":null}\n{"id":2,"x":true}\n', ("id",)),
    "twice packed": ("export.gz", gzip.compress(gzip.compress(as_xlsx(A=TICKETS))), ("Nr",)),
    "one row": ("export.csv", as_csv(TICKETS[:2]), ("Nr",)),
    "one column of sentences": (
        "texts.csv", b"text\nHello, you there\nNo, never\nWell\nAnd so on, and on\n", ("text",)
    ),
    "two hundred columns": (
        "wide.csv",
        as_csv([["id", *(f"m {n}" for n in range(199))]] + [[f"r{r}", *range(r, r + 199)] for r in range(30)]),
        ("id",),
    ),
    "names beyond ASCII": ("export.csv", as_csv([["番号", "本文"]] + [[f"日{n}", TEXT] for n in range(9)]), ("番号",)),
    "names that YAML and Jinja know": (
        "export.csv",
        as_csv([["no", "true", "null", "range", "1e3", "a: b", "- x", "#c"]] + [[n, *"abcdefg"] for n in range(9)]),
        ("no",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_strangers_table_becomes_a_job_that_reads_every_row_and_runs_at_once(
    api: Any, make: Callable[..., Made], table: str
) -> None:
    name, content, key = TABLES[table]
    made = make(name, content)
    assert tuple(made.key) == key, made.notes
    assert len(made.rows) == made.seen.profile.rows
    keys = {row_key(row, made.key) for row in made.rows}
    assert None not in keys and len(keys) == len(made.rows) - made.seen.profile.repeats * (made.key != ["row_number"])
    assert (
        "Kunde" not in made.rows[0]
        or [row["Kunde"] for row in made.rows[:2]] == ["Müller 0", "Müller 1"][: len(made.rows)]
    )
    found = run(made.folder, source=made.sample)
    assert found["rows"] == found["loaded"] + found["quarantined"] == min(len(keys), 20)
    assert found["loaded"], found["reasons"]


NO_TABLES: dict[str, tuple[str, bytes, list[str]]] = {
    "a PDF": ("scan.pdf", b"%PDF-1.7\n%\xe2\xe3", ["is a PDF", "export the table"]),
    "an image called CSV": ("a.csv", b"\x89PNG\r\n\x1a\n\0\0", ["is an image"]),
    "a tar archive": ("a.csv.gz", gzip.compress(as_tar()), ["is a tar archive", "unpack it"]),
    "an archive": ("a.zip", b"PK\x03\x04" + bytes(40), ["is a ZIP archive", "unpack it"]),
    "a program's data": ("a.csv", b"ab\0\1\2\0\0\0\3cd\n" * 9, ["is no text"]),
    "a web page": ("a.csv", b"<!DOCTYPE html><html><body>log in</body>", ["is a web page"]),
    "nothing": ("a.csv", b"", ["is empty"]),
    "a header without rows": ("a.csv", b"id,text\n", ["no rows yet"]),
    "JSON of another shape": ("a.json", b'{\n "data": [1, 2]\n}', ["neither an array of objects", "jq"]),
    "an empty array": ("a.json", b"[]", ["empty"]),
    "a list of numbers": ("a.json", b"[1, 2, 3]", ["array"]),
    "a broken gzip": ("a.csv.gz", gzip.compress(b"id,t\n1,a\n" * 99)[:25], ["cannot be unpacked"]),
    "a broken spreadsheet": ("a.xlsx", b"PK\x03\x04" + b"no" * 40, ["cannot be read as a spreadsheet"]),
    "an empty spreadsheet": ("a.xlsx", as_xlsx(A=[]), ["is empty"]),
    "an encoding nobody can tell": ("a.csv", b"id,t\n1,\x81\x8d\x8f\n", ["--encoding"]),
    "letters that are not Western": ("a.csv", "id,t\n1,Привет\n".encode("cp1251"), ["--encoding cp1251"]),
    "two columns of one name": ("a.parquet", twice_the_same_name(), ["two columns have this name"]),
    "a list of lists": ("a.json", b'{"a": [[1, 2]],\n "b": 1}', ["jq"]),
    "rows of another width": ("a.csv", b"id,price\n1,2,50\n2,3,10\n", ["3 cells where the header has 2"]),
    "spaces before quotes": ("a.csv", b'id, t\n1, "a, b"\n2, "c"\n', ["--skip-spaces"]),
    "a header in a spreadsheet": ("a.xlsx", as_xlsx(A=[["id", "text"]]), ["no rows"]),
    "two delimiters": ("a.csv", b"a,b;c,d\n1,2;3,4\n", ["--delimiter"]),
    "an open quote": ("a.csv", b'id,t\n1,"abc\n2,d\n3,e\n', ["a.csv:2", "quote"]),
}


@pytest.mark.parametrize("what", NO_TABLES)
def test_what_is_no_table_is_refused_in_a_sentence(make: Callable[..., Made], tmp_path: Path, what: str) -> None:
    name, content, words = NO_TABLES[what]
    with pytest.raises(UserMistake) as caught:
        make(name, content)
    assert all(word in str(caught.value) for word in (name, *words)), str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "jobs").exists()


def test_a_query_is_asked_where_its_database_stands(make: Callable[..., Made], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER, text TEXT, due DATE)")
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(n, TEXT, "2026-03-01") for n in range(30)])
    made = make("SELECT * FROM orders ORDER BY id", database="sqlite:///shop.db")
    assert (made.key, len(made.rows)) == (["id"], 30)


@pytest.mark.parametrize(
    ("given", "database", "words"),
    [
        ("SELECT * FROM t", None, "--database"),
        ("SELECT * FROM t", "postgresql://me:secret@host/db", "'${DATABASE_URL}'"),
        ("SELECT * FROM t", "no url", "no URL of a database"),
        ("SELECT * FROM missing", "sqlite://", "no such table"),
        ("postgresql://host/db", None, "--from 'SELECT"),
        ("s3://bucket/a.csv", None, "copy the file here"),
        ("ftp://host/a.csv", None, "copy the file here"),
        ("http://127.0.0.1:9/a.csv", None, "fetch it yourself"),
        ("missing.csv", None, "no such file"),
        ("/dev/null", None, "save it to one first"),
        (".", None, "is a folder"),
    ],
)
def test_what_cannot_be_reached_is_named(
    make: Callable[..., Made], given: str, database: str | None, words: str
) -> None:
    with pytest.raises(UserMistake) as caught:
        make(given, database=database)
    assert words in str(caught.value) and "secret" not in str(caught.value)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in tmp_path/web."""
    (tmp_path / "web").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_fetched_once_into_the_job(make: Callable[..., Made], tmp_path: Path, web: str) -> None:
    (tmp_path / "web" / "export.csv.gz").write_bytes(gzip.compress(as_csv(TICKETS, ";", "cp1252")))
    made = make(f"{web}/export.csv.gz?token=abc")
    assert (made.key, len(made.rows), made.job.spec.source.path) == (["Nr"], 40, Path("data/export.csv"))
    assert "abc" not in (made.folder / "job.yaml").read_text()
    with pytest.raises(UserMistake, match="404") as caught:
        make(f"{web.replace('//', '//me:secret@')}/missing.csv?token=abc")
    assert "abc" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_key_that_somebody_names_is_taken_or_the_nearest_is_named(make: Callable[..., Made]) -> None:
    Path("a.csv").write_bytes(as_csv(table("id", "a,b", "text", rows=9, of=lambda n: [n // 2, n, "x"])))
    with pytest.raises(UserMistake, match="did you mean 'text'"):
        make("a.csv", key="id, txt")
    assert make("a.csv", key="a,b").key == ["a,b"]
    with pytest.raises(UserMistake, match="--key: no row has a value in id"):
        make("b.csv", b"id,text\n ,a\n ,b\n", key="id")


@pytest.mark.parametrize(("option", "value"), [("encoding", "klingon"), ("delimiter", "||"), ("quote", "''")])
def test_an_option_that_nothing_can_be_read_by_is_named(make: Callable[..., Made], option: str, value: str) -> None:
    with pytest.raises(UserMistake, match=f"--{option}"):
        make("a.csv", b"id,text\n1,a\n", **{option: value})


def test_a_job_that_the_api_would_refuse_is_not_written(make: Callable[..., Made], tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="at most 16"):
        make("a.csv", b"id,text\n1,a\n", fields=", ".join(f"f{n}?: number" for n in range(20)))
    assert not (tmp_path / "jobs").exists()


def test_an_id_with_repeats_says_how_many_rows_that_costs(make: Callable[..., Made]) -> None:
    made = make(*TABLES["an id that some rows repeat"][:2])
    assert made.seen.profile.repeats == 2
    assert "2 rows have a key that another has too" in (made.folder / "job.yaml").read_text()


def test_what_looks_personal_is_left_out_of_the_prompt_unless_the_question_names_it(make: Callable[..., Made]) -> None:
    people = table("id", "E-Mail", "Note", rows=9, of=lambda n: [n, f"p{n}@example.com", TEXT])
    made = make("a.csv", as_csv(people))
    assert all("example.com" not in str(made.job.message_for(row)) for row in made.rows)
    (made.folder.parent / "job").rename(made.folder.parent / "other")
    made = make("a.csv", question="Of which company is the E-Mail?")
    assert all("example.com" in str(made.job.message_for(row)) for row in made.rows)


def test_memory_holds_a_bounded_sample_of_long_rows(make: Callable[..., Made]) -> None:
    made = make("a.csv", as_csv(table("id", "text", rows=150, of=lambda n: [n, f"{n} " * 200_000])))
    kept = sum(len(str(row.values["text"])) for row in made.seen.profile.sample)
    assert 30_000_000 < kept <= 64_000_000 and made.seen.profile.rows == 150


@pytest.mark.parametrize(
    ("typed", "fields"),
    [
        ("topic", [("topic", "text")]),
        ("topic: billing|delivery, urgent: yes/no", [("topic", "choice"), ("urgent", "yes/no")]),
        (
            "1st choice, class, Straße, 番号",
            [(n, "text") for n in ("field_1st_choice", "class_", "strasse", "field_4")],
        ),
        ("amount: number; due: date\ncount: int", [("amount", "number"), ("due", "date"), ("count", "whole")]),
        ("why?: text (in one, or two words), ok: bool", [("why", "text"), ("ok", "yes/no")]),
        ("schema, model_config, copy", [(n, "text") for n in ("schema_", "model_config_", "copy_")]),
    ],
)
def test_fields_are_typed_as_people_type_them(typed: str, fields: list[tuple[str, str]]) -> None:
    assert [(each.name, each.kind) for each in parse_fields(typed)] == fields


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("topic: numbr", "did you mean 'number'"),
        ("topic: one|", "two values at least"),
        ("a, a", "stands twice"),
        (" , ", "at least one field"),
        (":", "is no field"),
        ("a: text: b", "is no kind"),
        ("evidence: yes/no", "give your field another name"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(typed: str, words: str) -> None:
    with pytest.raises(UserMistake, match="--fields") as caught:
        with_evidence(parse_fields(typed))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("My Job!", "my-job"),
        ("jobs/a", "a"),
        ("../x", "x"),
        ("1st", "st"),
        ("-", "my-job"),
        ("Ü", "my-job"),
        ("", "my-job"),
    ],
)
def test_a_name_that_no_job_can_have_is_refused_with_one_that_it_can(name: str, meant: str) -> None:
    with pytest.raises(UserMistake) as caught:
        check_name(name)
    assert caught.value.meant == meant and check_name(meant) is None


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ODD_WORDS = WORDS | st.sampled_from(
    ["{{ x }}", "{% raw %}", "#}", "---", '"', "\\", "'", "\n---\n", "$", "a: b", "*", "&a"]
)


@pytest.mark.properties
@settings(deadline=None, max_examples=30)
@given(names=st.lists(ODD_WORDS, min_size=1, max_size=6), question=ODD_WORDS, about=ODD_WORDS, choice=ODD_WORDS)
def test_whatever_columns_and_questions_say_the_job_can_be_loaded_and_says_it_to_the_model(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], question: str, about: str, choice: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    lines = [names, *([f"c{n}", *(f"v{n}" for _ in names[1:])] for n in range(4))]
    (home / "a.jsonl").write_bytes(as_jsonl([[f"{name}{n}" for n, name in enumerate(names)], *lines[1:]]))
    with staging_folder(home) as staging:
        place = Place(staging, home / "jobs" / "job", {})
        seen = look_at_table(str(home / "a.jsonl"), None, TableOptions(), None, place, lambda _: None)
        fields = [AskedField("topic", about, "choice", (choice, "other"), about), AskedField("evidence", "", "text")]
        make_job("job", seen, Decided(question, fields, default_decisions(seen.profile).key), place)
    job = load_job(home / "jobs" / "job")
    for page in read_pages(job.spec.source, job.folder, 10, {}):
        for record in page:
            assert isinstance(record, SourceRow)
            message = job.message_for(record.values)
            assert isinstance(message, str) and all(str(value) in message for value in record.values.values())


@pytest.mark.parametrize("there", ["a file", "an empty folder", "a link to nowhere", "no folder for jobs"])
def test_what_stands_in_a_jobs_place_is_left_as_it_is(desk: Path, there: str) -> None:
    folder = desk / "jobs" / "tickets"
    if there == "no folder for jobs":
        (desk / "jobs").write_text("mine")
    else:
        folder.parent.mkdir()
        {
            "a file": lambda: folder.write_text("mine"),
            "an empty folder": folder.mkdir,
            "a link to nowhere": lambda: folder.symlink_to(desk / "nowhere"),
        }[there]()
    before = sorted((str(path), path.is_symlink()) for path in desk.rglob("*"))
    made = rowtide(
        "new", "tickets", "--from", "export.csv", folder=desk, environment={"ROWTIDE_HOME": str(desk / "home")}
    )
    assert made.status == 2 and len(made.err.splitlines()) == 1, made.err
    assert before == sorted((str(path), path.is_symlink()) for path in desk.rglob("*"))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "export.csv").write_bytes(as_csv(TICKETS, ";", "cp1252"))
    return tmp_path


@pytest.mark.slow
def test_a_job_is_tried_at_once_and_never_written_over(desk: Path) -> None:
    keyless = {"ANTHROPIC_API_KEY": None, "ROWTIDE_HOME": None}
    flags = ("--from", "export.csv", "--question", "Worum geht es?", "--fields", "thema: rechnung|lieferung")
    made = rowtide("new", "tickets", *flags, folder=desk, environment=keyless)
    assert made.status == 0, made.err
    lines = made.out.splitlines()
    assert lines[lines.index("") + 1].startswith("made up: the emulator answers")
    assert "20 = " in made.out and "40 rows to ask" in made.out
    commands = [shlex.split(line, comments=True)[1:] for line in lines[lines.index("next:") + 1 :]]
    assert len(commands) == 3
    for command in commands:
        assert rowtide(*command, folder=desk, environment=keyless).status == 0, command
    before = {path: path.read_bytes() for path in (desk / "jobs").rglob("*") if path.is_file()}
    again = rowtide("new", "tickets", *flags, folder=desk, environment=keyless)
    assert again.status == 2 and "is there already" in again.err
    assert before == {path: path.read_bytes() for path in (desk / "jobs").rglob("*") if path.is_file()}


def test_a_key_in_the_environment_is_not_spent_on_a_try(desk: Path) -> None:
    """No API is reached: the address that the environment names does not answer."""
    paid = {"ANTHROPIC_API_KEY": "sk-real", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ROWTIDE_HOME": None}
    made = rowtide("new", "tickets", "--from", "export.csv", folder=desk, environment=paid)
    assert made.status == 0 and "made up by the emulator" in made.out, made.err
    assert "ANTHROPIC_API_KEY is set: Claude answers, for money" in made.out.splitlines()[-1]


def at_a_terminal(desk: Path) -> tuple[subprocess.Popen[bytes], int]:
    """`rowtide new tickets --from export.csv`, and what it reads and writes."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | {"ROWTIDE_HOME": str(desk / "home")}
    command = [sys.executable, "-m", "cli", "new", "tickets", "--from", "export.csv"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=desk, env=environment)
    os.close(theirs)
    return process, ours


def shown_until(terminal: int, words: bytes) -> bytes:
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4096)
    return shown


def test_who_mistypes_an_answer_is_asked_again(desk: Path) -> None:
    process, terminal = at_a_terminal(desk)
    shown = b""
    for question, typed in ((b"find out", b"Why?"), (b"which fields", b"due: dat"), (b"which fields", b"due: date")):
        shown += shown_until(terminal, question)
        os.write(terminal, typed + b"\n")
    shown += shown_until(terminal, b"name a row")
    assert shown.count(b"did you mean 'date'") == 1
    process.kill()
    process.wait(60)
    os.close(terminal)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_who_goes_away_at_a_question_leaves_nothing_behind(desk: Path, end: signal.Signals) -> None:
    process, terminal = at_a_terminal(desk)
    shown_until(terminal, b"find out")
    assert len(list((desk / "home" / "new").iterdir())) == 1
    process.send_signal(end)
    status = process.wait(60)
    os.close(terminal)
    assert status == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[end]
    assert not (desk / "jobs").exists()
    with staging_folder(desk / "home") as staging:  # the next one takes away what a killed one could not
        assert list((desk / "home" / "new").iterdir()) == [staging.parent]


def test_what_teaches_a_coding_agent_names_only_commands_files_and_skills_that_exist(make: Callable[..., Made]) -> None:
    made = make("export.csv", as_csv(TICKETS, ";", "cp1252"))
    guide, skills = (made.folder / "AGENTS.md").read_text(), made.folder / ".claude" / "skills"
    (skill,) = read_skills([skills], [], job_file=made.folder / "job.yaml")
    assert set(re.findall(r"`rowtide (\w[\w-]*)", guide + skill.body)) <= set(app)
    for file in re.findall(r"^\| `([\w./]+)` \|", guide, re.MULTILINE):
        assert (made.folder / file).is_file(), file
    assert not {path.name for path in made.folder.rglob("*")} & {"__pycache__", "golden.jsonl"}


def test_labels_that_a_person_fills_in_become_golden_rows(make: Callable[..., Made]) -> None:
    many = table("id", "text", rows=200, of=lambda n: [n, f"{n}: {TEXT}"])
    made = make("export.csv", as_csv(many), fields="topic: invoice|parcel, due?: date")
    sheet = made.folder / "labels.csv"
    lines = list(csv.DictReader(io.StringIO(sheet.read_text("utf-8-sig"))))
    assert len(lines) == 50 and {each["stratum"] for each in lines} == {"random", "diverse"}
    for line in lines[:3]:
        line |= {"answer.topic": "parcel", "answer.due": "null"}
    golden = read_label_sheet(
        as_csv([[*lines[0]], *(list(line.values()) for line in lines)]), sheet, made.job.answer, "me"
    )
    assert [each.answer for each in golden] == [{"topic": "parcel", "due": None}] * 3
    assert {each.key for each in golden} <= {row_key(row, made.key) for row in made.rows}
