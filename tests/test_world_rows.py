"""A source is read as it is written, or the row quarantined, or the file refused with its place. Never fewer rows."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from rowtide.errors import UserMistake
from rowtide.intake.admission import admit_page, row_keys_of_page, with_unused_names
from rowtide.intake.source_rows import KEY_BYTES, BadRow, SourceRow, canonical_json, key_fault
from rowtide.intake.sources import read_pages, source_shape
from rowtide.job.job_spec import SourceSpec
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger

NIGHT = os.environ.get("ROWTIDE_PROPERTIES") == "night"
EXAMPLES = settings(
    max_examples=1500 if NIGHT else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def records(folder: Path, name: str, content: bytes | None, row_bytes: int = 1_000_000, **spec: Any) -> list[Any]:
    """What is read: a row's values, or (reason, line)."""
    if content is not None:
        (folder / name).write_bytes(content)
    source = SourceSpec(path=Path(name), **spec)
    source_shape(source, folder, {})
    found = [row for page in read_pages(source, folder, 3, {}, row_bytes) for row in page]
    return [row.values if isinstance(row, SourceRow) else (row.reason, row.line) for row in found]


def refusal(folder: Path, name: str, content: bytes, **spec: Any) -> str:
    with pytest.raises(UserMistake) as caught:
        records(folder, name, content, **spec)
    return str(caught.value)


def abc(*cells: str) -> dict[str, str]:
    return dict(zip("abc", cells, strict=False))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'a,b\n1,"6"" pipe"\n', [abc("1", '6" pipe')]),
        (b'a,b\n1,6" pipe\n', [abc("1", '6" pipe')]),  # a quote in a cell that is not quoted is a quote
        (b'a,b\n1,"6" pipe"\n2,x\n', [("not_csv", 2), abc("2", "x")]),
        (b'a,b,c\n1,"say \\"hi\\" now",x\n2,y,z\n', [("not_csv", 2), abc("2", "y", "z")]),
        (b'a,b\n1, "Acme, Inc"\n2,x\n', [("not_csv", 2), abc("2", "x")]),
        (b'a,b\n1,"Acme" ,x\n2,y\n', [("not_csv", 2), abc("2", "y")]),
        (b"a,b\n1,x\r2,y\n3,z\n", [("not_csv", 2), abc("3", "z")]),  # a lone CR ends no row of a file that has LFs
        (b"a,b\r1,x\r2,y\r", [abc("1", "x"), abc("2", "y")]),
        (b"a,b\r\n1,x\r\n2,y\r\n", [abc("1", "x"), abc("2", "y")]),
        (b'a,b\n1,"x\r\ny"\r\n2,z\n', [abc("1", "x\r\ny"), abc("2", "z")]),
        (b'a,b\n1,"x\ry"\n', [abc("1", "x\ry")]),
        (b"a,b\n1\n1,2,3\n1,2,\n", [("wrong_width", 2), ("wrong_width", 3), ("wrong_width", 4)]),
        (b'a,b\n1,""\n2,\n', [abc("1", ""), abc("2", "")]),
        (b"a,b\n007,1.50\n12345678901234567890123,1e9\n", [abc("007", "1.50"), abc("12345678901234567890123", "1e9")]),
        (b"a,b\n1,x\0y\n", [abc("1", "x\0y")]),
        (b"\xef\xbb\xbfa,b\n1,x\n", [abc("1", "x")]),
        ("a,b\n1,Zoë\n".encode("utf-16"), [abc("1", "Zoë")]),
        ("a,b\n1,Zoë\n".encode("utf-16-le"), [abc("1", "Zoë")]),
        ("a,b\n1,Zoë\n".encode("utf-16-be"), [abc("1", "Zoë")]),
        ("a,b\n1,Zoë\n".encode("utf-32"), [abc("1", "Zoë")]),
        (b"a;b\n1;x,y\n", [abc("1", "x,y")]),
        (b"a\tb\n1\tx\n", [abc("1", "x")]),
        (b"a|b\n1|x\n", [abc("1", "x")]),
        (b"a,b;c\n1,x\n2,y\n", [{"a": "1", "b;c": "x"}, {"a": "2", "b;c": "y"}]),
        (b"a\n1\n\n2\n", [abc("1"), abc("2")]),
        (b"a,b\n", []),
        (b"a,b\n1,Z\xf6\n2,x\n", [("undecodable", 2), abc("2", "x")]),
        (b" a ,b\n1,x\n", [abc("1", "x")]),
        ("a,b\n1,x\x0b\x0c\x1c\x85\u2028y\n".encode(), [abc("1", "x\x0b\x0c\x1c\x85\u2028y")]),
    ],
)  # fmt: skip
def test_a_csv_is_read_as_it_is_written_or_the_row_set_aside(
    tmp_path: Path, content: bytes, expected: list[Any]
) -> None:
    assert records(tmp_path, "a.csv", content) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'a,b\n1,"Acme\n2,Beta\n3,Gamma\n', ["a.csv:2", "column 3", "not closed"]),
        (b'a,b\n1,x\n2,"Acme\n3,"Beta"\n', ["a.csv:4", "column 3", "not doubled"]),
        (b'a,b\n1,"x\ny"z\n2,x\n', ["a.csv:3", "column 2"]),
        (b'a,b\n1,"Acme', ["a.csv:2", "column 3"]),
        (b'a,b,c\n1,"say \\"hi, now\n2,y,z\n', ["a.csv:2", "source.escape"]),
        (b'a,b\n1, "two\nlines"\n2,x\n', ["a.csv:2", "column 3", "source.skip_spaces"]),
        (b'a,"b\n1,x\n', ["a.csv:1", "column 3"]),
        ("Soci\xe9t\xe9,b\n1,x\n".encode("cp1252"), ["a.csv:1", "0xe9", "'Société' is right, say `source"]),
        (b"a,a\n1,2\n", ["a.csv:1: a", "twice"]),
        (b"a, a\n1,2\n", ["a.csv:1: a", "twice"]),
        (b"a,b,\n1,2,\n", ["a.csv:1", "column 3 has no name"]),
        (b"a,,b\n", ["a.csv:1", "column 2 has no name"]),
        (b"a,b\0\n", ["a.csv:1", "column 2 holds a NUL"]),
        (b"", ["a.csv", "empty"]),
        (b"a;b,c\n1;2,5\n", ["a.csv:1", "`,` or `;`", "source.delimiter"]),
        ("a,b\n1,x\n".encode("utf-16") + b"\0", ["a.csv", "not utf-16"]),
    ],
)  # fmt: skip
def test_a_csv_that_leaves_open_what_it_says_is_refused_by_line(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    said = refusal(tmp_path, "a.csv", content)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        ("Société;b\n1;Zoë\n".encode("cp1252"), {"encoding": "cp1252"}, [{"Société": "1", "b": "Zoë"}]),
        (b"a;b,c\n1;2,5\n", {"delimiter": ";"}, [{"a": "1", "b,c": "2,5"}]),
        (b"a^b\n1^x\n", {"delimiter": "^"}, [abc("1", "x")]),
        (b"a\tb\n1\tx\n", {"delimiter": "tab"}, [abc("1", "x")]),
        (b"a,b\n1,'x,y'\n", {"quote": "'"}, [abc("1", "x,y")]),
        (b'a,b\n1,"x\n2,6" y\n', {"quote": ""}, [abc("1", '"x'), abc("2", '6" y')]),
        (b'a,b\n1,"say \\"hi\\", he"\n', {"escape": "\\"}, [abc("1", 'say "hi", he')]),
        (b'a,b\n1, "x, y"\n', {"skip_spaces": True}, [abc("1", "x, y")]),
        (b"a,b\n1,\x81\n2,x\n", {"encoding": "cp1252"}, [("undecodable", 2), abc("2", "x")]),
    ],
)
def test_how_a_csv_is_written_can_be_said(
    tmp_path: Path, content: bytes, keys: dict[str, Any], expected: list[Any]
) -> None:
    assert records(tmp_path, "a.csv", content, **keys) == expected


@pytest.mark.parametrize("wrong", [{"encoding": "cp1253x"}, {"encoding": "hex"}, {"delimiter": ";;"}, {"quote": "''"}])
def test_what_no_csv_can_be_written_like_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SourceSpec(path=Path("a.csv"), **wrong)


def test_how_a_file_is_read_is_said_where_it_is_not_the_usual_way(tmp_path: Path) -> None:
    def said(name: str, content: bytes) -> list[str]:
        (tmp_path / name).write_bytes(content)
        return source_shape(SourceSpec(path=Path(name)), tmp_path, {}).notes

    assert said("a.csv", b"a,b\n1,x\n") == []
    assert said("a.csv", b"a;b\n1;x\n") == ["a.csv: read as UTF-8, `;`"]
    assert said("a.tsv", b"a\tb\n1\tx\n") == ["a.tsv: read as UTF-8, tab"]
    assert said("a.csv", "a,b\n1,x\n".encode("utf-16")) == ["a.csv: read as utf-16, `,`"]
    assert said("a.csv", b"a\n1\n") == ["a.csv: read as UTF-8, one column"]
    assert said("a.csv", b" a,b\n1,x\n") == ["a.csv: the column ' a' is called 'a'"]


BIG = "1" * 40_000


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", f"a,b\n1,{BIG}\n2,x\n", [("too_large", 2), abc("2", "x")]),
        ("a.csv", f'a,b\n1,"{BIG}\n{BIG},"" {BIG}"\n2,x\n', [("too_large", 2), abc("2", "x")]),
        ("a.csv", f'a,b\n1,6" {BIG}\n2,x\n', [("too_large", 2), abc("2", "x")]),
        ("a.csv", f'a,b\n"1","{BIG}",""\n2,x\n', [("too_large", 2), abc("2", "x")]),
        ("a.jsonl", f'{{"a":"{BIG}"}}\n{{"a":"2"}}\n', [("too_large", 1), {"a": "2"}]),
        ("a.jsonl", f'{{"a":"2"}}\n{{"a":"{BIG}"}}', [{"a": "2"}, ("too_large", 2)]),
    ],
)
def test_a_record_longer_than_any_row_may_be_is_passed_over_and_the_next_one_read(
    tmp_path: Path, name: str, content: str, expected: list[Any]
) -> None:
    assert records(tmp_path, name, content.encode(), row_bytes=1000) == expected


def test_an_open_quote_is_not_followed_to_the_end_of_a_large_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,b\n1,"Acme\n' + b"2,x\n" * 10_000)
    with pytest.raises(UserMistake, match="a.csv:2: a quote that opens here is not closed"):
        list(read_pages(SourceSpec(path=Path("a.csv")), tmp_path, 100, {}, 1000))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"id":12345678901234567890123}\n{"id":12345678901234567890124}\n',
         [{"id": "12345678901234567890123"}, {"id": "12345678901234567890124"}]),
        (b'{"a":18446744073709551615}\n{"a":18446744073709551616}\n{"a":-9223372036854775809}\n',
         [{"a": 2**64 - 1}, {"a": "18446744073709551616"}, {"a": "-9223372036854775809"}]),
        (b'{"a":0.1234567890123456789}\n{"a":0.5}\n{"a": 1e2}\n',
         [{"a": "0.1234567890123456789"}, {"a": 0.5}, {"a": 100.0}]),
        (b'{"a":1e-400}\n{"a":1e999}\n{"a":NaN}\n{"a":-Infinity}\n',
         [{"a": "1e-400"}, ("not_json", 2), ("not_json", 3), ("not_json", 4)]),
        (b'{"a":1,"a":2}\n{"b":{"a":1, "a":1}}\n{"a":2}\n', [("not_json", 1), ("not_json", 2), {"a": 2}]),
        (b'nope\n{"a":1}\n', [("not_json", 1), {"a": 1}]),
        (b'[1]\n7\n"x"\nnull\n{"a":1}\n', [*(("not_an_object", n) for n in (1, 2, 3, 4)), {"a": 1}]),
        (b'\n \n{"a":1}\r\n\n', [{"a": 1}]),
        (b'\xef\xbb\xbf{"a":1}\n', [{"a": 1}]),
        ('{"a":"Zoë"}\n{"a":1}\n'.encode("utf-16"), [{"a": "Zoë"}, {"a": 1}]),
        (b'{"a":"\\ud800"}\n{"a":"\xff"}\n{"a":"\\u0000"}\n', [("not_json", 1), ("undecodable", 2), {"a": "\0"}]),
        (b'{"a":' + b"[" * 300 + b"]" * 300 + b'}\n{"a":' + b"[" * 2000 + b"]" * 2000 + b'}\n{"a":1}\n',
         [("not_json", 1), ("not_json", 2), {"a": 1}]),
        (b'{"a":1} {"a":2}\n{"a":1}\n', [("not_json", 1), {"a": 1}]),
        (b'{"a":' + b"7" * 5000 + b'}\n{"a":' + b"7" * 300 + b"}\n", [("not_json", 1), {"a": "7" * 300}]),
    ],
)  # fmt: skip
def test_a_line_of_json_is_read_as_it_is_written_or_the_row_set_aside(
    tmp_path: Path, content: bytes, expected: list[Any]
) -> None:
    assert records(tmp_path, "a.jsonl", content) == expected


def test_minus_zero_keeps_its_sign(tmp_path: Path) -> None:
    (row,) = records(tmp_path, "a.jsonl", b'{"a": -0.0}\n')
    assert math.copysign(1, row["a"]) == -1


def test_the_columns_of_json_lines_are_those_of_all_its_first_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'nope\n{"a":1}\n{"a":2,"b":3}\n')
    assert source_shape(SourceSpec(path=Path("a.jsonl")), tmp_path, {}).columns == ["a", "b"]
    assert "line 1" in refusal(tmp_path, "a.jsonl", b"nope\n")


TOKYO = "2024-01-02T09:00:00+09:00"
PARQUET = {
    "null": (pa.nulls(1), None),
    "nan": (pa.array([math.nan]), "NaN"),
    "infinity": (pa.array([-math.inf]), "-Infinity"),
    "half": (pa.array([1.5], pa.float16()), 1.5),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "decimal": (pa.array([Decimal("1.10")]), "1.10"),
    "binary": (pa.array([b"\x00\xff"]), "00ff"),
    "large": (pa.array(["Zoë"], pa.large_string()), "Zoë"),
    "day": (pa.array([date(1901, 2, 3)]), "1901-02-03"),
    "nanoseconds": (pa.array([1], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
    "zone": (pa.array([datetime(2024, 1, 2, tzinfo=UTC)], pa.timestamp("us", "Asia/Tokyo")), TOKYO),
    "duration": (pa.array([timedelta(days=1, seconds=2)]), "P1DT2S"),
    "list": (pa.array([[1, None, 2]]), [1, None, 2]),
    "struct": (pa.array([{"x": math.nan, "y": [b"\x01"]}]), {"x": "NaN", "y": ["01"]}),
    "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [["k", 1]]),
    "dictionary": (pa.array(["x"]).dictionary_encode(), "x"),
    "time": (pa.array([1], pa.time64("us")), "00:00:00.000001"),
}  # fmt: skip


def test_every_kind_of_parquet_column_reaches_a_row_and_what_changes_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({name: column for name, (column, _) in PARQUET.items()}), tmp_path / "a.parquet")
    (row,) = records(tmp_path, "a.parquet", None)
    assert {name: row[name] for name in PARQUET if name != "duration"} == {
        name: expected for name, (_, expected) in PARQUET.items() if name != "duration"
    }
    assert row["duration"].startswith("P1DT")
    assert orjson.loads(canonical_json(row)) == row
    notes = " ".join(source_shape(SourceSpec(path=Path("a.parquet")), tmp_path, {}).notes)
    changed = ("nan", "infinity", "decimal", "binary", "day", "duration", "zone")
    assert all(f"column {name!r}" in notes for name in changed)


def test_a_parquet_value_that_python_has_no_room_for_costs_one_row(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3], "at": pa.array([0, 2**62, 1], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet")
    first, bad, last = records(tmp_path, "a.parquet", None)
    assert (first["id"], bad, last["id"]) == (1, ("unreadable_value", 2), 3)


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1 and so on PAR1", b"\0" * 100])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a Parquet file" in refusal(tmp_path, "a.parquet", content)


def from_sql(url: str, query: str, folder: Path) -> list[Any]:
    source = SourceSpec(url=url, query=query)
    source_shape(source, folder, {})
    found = [row for page in read_pages(source, folder, 3, {}) for row in page]
    return [row.values if isinstance(row, SourceRow) else (row.reason, row.line) for row in found]


def test_every_kind_of_postgresql_column_reaches_a_row(postgres_url: str, tmp_path: Path) -> None:
    query = """SELECT interval '1 day 2 s' AS duration, 1.10::numeric AS money, '\\x00ff'::bytea AS bytes,
        'NaN'::float8 AS nan, '{"a": [1, null]}'::jsonb AS json, array['x', null] AS list,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS id, '10:00+02'::timetz AS at, '10.0.0.1'::inet AS host,
        12345678901234567890123::numeric AS big, true AS yes, '2024-01-02 03:04:05+00'::timestamptz AS then"""
    (row,) = from_sql(postgres_url, query, tmp_path)
    assert orjson.loads(canonical_json(row)) == row
    assert (row["duration"], row["money"], row["bytes"], row["nan"]) == ("P1DT2S", "1.10", "00ff", "NaN")
    assert (row["json"], row["list"], row["big"]) == ({"a": [1, None]}, ["x", None], "12345678901234567890123")
    assert (row["at"], row["host"], row["yes"]) == ("10:00:00+02:00", "10.0.0.1", True)


def test_a_kind_that_no_row_can_hold_costs_its_row_and_names_the_column(postgres_url: str, tmp_path: Path) -> None:
    source = SourceSpec(url=postgres_url, query="SELECT 1 AS id, int4range(1, 5) AS span")
    ((bad,),) = read_pages(source, tmp_path, 3, {})
    assert isinstance(bad, BadRow)
    assert "'span': a Range cannot be part of a row; cast it to text" in bad.detail


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT 1 AS a, 2 AS a", "two columns the name 'a'"),
        ("SELECT nothing", "the query failed"),
        ("SELECT 1 AS a WHERE 1 = 0", "finds no row"),
        ("SELECT CAST(x'ff' AS TEXT) AS a", "the query failed"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_at_its_line(tmp_path: Path, query: str, words: str) -> None:
    (tmp_path / "job.yaml").write_text("key: a\nsource:\n  url: x\n  query: y\n")
    with pytest.raises(UserMistake) as caught:
        from_sql(f"sqlite:///{tmp_path / 'a.db'}", query, tmp_path)
    assert words in str(caught.value)
    assert "finds no row" in words or "job.yaml:4: source.query" in str(caught.value)


KEYS = ["a\0b", "k" * 6000, "é" * 600, "\x1b[31mred", "é", "e\u0301", "1", "1.0", "line 3", "A", "A", " A ", ""]


def test_a_key_that_cannot_be_kept_costs_its_row_on_either_engine(ledger: Ledger) -> None:
    run = make_run(ledger)
    page: list[SourceRow | BadRow] = [SourceRow(n, {"id": key}) for n, key in enumerate(KEYS, 1)]
    page += [BadRow(3, "not_csv", "x\0"), SourceRow(20, {"id": 1}), SourceRow(21, {"id": 1.5})]
    keys = row_keys_of_page(page, ["id"])
    rows = admit_page(page, keys, present=(), first_row_no=run.first_row_no + 1, row_bytes=1000)
    with ledger.page() as tx:
        present = ledger_rows.keys_present(tx, run, [key for key in keys if key and not key_fault(key)])
        assert not present
        assert ledger_rows.admit_rows(tx, run, rows, read_before=0, read_after=len(page), now=datetime.now(UTC))
    ready = [row.row_key for row in rows if not row.reason]
    assert ready == ["\x1b[31mred", "é", "e\u0301", "1", "1.0", "A", "1.5"]
    reasons = [row.reason for row in rows if row.reason]
    assert reasons == [*["unusable_key"] * 3, *["duplicate_key"] * 3, "missing_key", "not_csv", "duplicate_key"]
    assert len({row.row_key for row in rows}) == len(page)


def test_a_row_named_by_its_line_never_takes_the_place_of_one_with_that_key() -> None:
    rows = admit_page([BadRow(7, "not_csv", "x")], [None], present=(), first_row_no=70, row_bytes=10)
    assert with_unused_names(rows, {"line 7"})[0].row_key == "line 7 (line 70)"


def test_the_longest_key_that_is_taken_fits_the_index_of_either_engine(ledger: Ledger) -> None:
    run = make_run(ledger)
    key = "".join(chr(0x4E00 + n * 37 % 20000) for n in range(KEY_BYTES // 3))  # text that does not compress
    page, first = [SourceRow(1, {"id": key})], run.first_row_no + 1
    rows = admit_page(page, [key], present=(), first_row_no=first, row_bytes=10**6)
    with ledger.page() as tx:
        assert ledger_rows.admit_rows(tx, run, rows, read_before=0, read_after=1, now=datetime.now(UTC))
    assert rows[0].reason is None


# Properties. `make properties` tries many more.

hostile = st.sampled_from(['"', '""', "\n", "\r\n", "\r", ",", ";", " ", ""])
cells = st.text(st.characters(codec="utf-8"), max_size=12) | hostile
delimiters, endings = st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"])
malformed = st.lists(st.sampled_from(['"', ",", "x", "\n", "\r", " ", '""', "é"]), max_size=6).map("".join)
held_by_sqlite = (
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | cells | st.binary(max_size=8)
)
tables = st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=8))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | cells,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(cells, inner, max_size=3),
    max_leaves=6,
)
objects = st.lists(st.dictionaries(cells, json_values, max_size=5), min_size=1, max_size=8)


@pytest.mark.properties
@EXAMPLES
@given(tables, delimiters, endings, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_whatever_a_csv_writer_writes_is_read_equal(
    tmp_path: Path, table: list[list[str]], delimiter: str, ending: str, encoding: str
) -> None:
    names = [f"c{n}" for n in range(len(table[0]))]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([names, *table])
    found = records(tmp_path, "a.csv", out.getvalue().encode(encoding), delimiter=delimiter)
    assert found == [dict(zip(names, row, strict=True)) for row in table]


@pytest.mark.properties
@EXAMPLES
@given(st.lists(malformed, max_size=6))
def test_of_whatever_malformed_csv_no_line_is_passed_over_without_a_word(tmp_path: Path, lines: list[str]) -> None:
    """Every line that is not blank is in some record, read or quarantined, or the file is refused."""
    content = "a,b\n" + "\n".join(lines)
    (tmp_path / "a.csv").write_text(content, newline="")
    try:
        found = [row for page in read_pages(SourceSpec(path=Path("a.csv")), tmp_path, 3, {}) for row in page]
    except UserMistake as refused:
        assert refused.line
        return
    assert "".join(_texts(found, content)).count("x") == content.count("x")


def _texts(found: list[SourceRow | BadRow], content: str) -> Iterator[str]:
    """What each record is made of: its cells; of one that was quarantined all lines up to the next one."""
    lines, ends = content.split("\n"), [*(row.line - 1 for row in found[1:]), None]
    for row, end in zip(found, ends, strict=False):
        is_read = isinstance(row, SourceRow)
        yield "".join(map(str, row.values.values())) if is_read else "\n".join(lines[row.line - 1 : end])


@pytest.mark.properties
@EXAMPLES
@given(objects, st.booleans(), st.booleans())
def test_whatever_json_says_is_read_equal(tmp_path: Path, rows: list[dict[str, Any]], ascii: bool, tight: bool) -> None:
    separators = (",", ":") if tight else None
    content = "\n".join(json.dumps(row, ensure_ascii=ascii, separators=separators) for row in rows)
    found = [
        row.values if isinstance(row, SourceRow) else row.reason
        for page in _pages(tmp_path, "a.jsonl", content.encode())
        for row in page
    ]
    assert len(found) == len(rows)
    assert all(_same(one, other) for one, other in zip(rows, found, strict=True))


def _pages(folder: Path, name: str, content: bytes) -> Iterator[list[SourceRow | BadRow]]:
    (folder / name).write_bytes(content)
    return read_pages(SourceSpec(path=Path(name)), folder, 3, {})


def _same(written: Any, read: Any) -> bool:
    """Equal; or a number of more digits than JSON readers keep, as its digits."""
    if isinstance(written, dict):
        return written.keys() == read.keys() and all(_same(written[name], read[name]) for name in written)
    if isinstance(written, list):
        return len(written) == len(read) and all(map(_same, written, read))
    if isinstance(written, int) and not isinstance(written, bool) and not -(2**63) <= written < 2**64:
        return read == str(written)
    return type(written) is type(read) and written == read


columns_of = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.string(): cells,
    pa.binary(): st.binary(max_size=8),
    pa.bool_(): st.booleans(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.date32(): st.dates(),
    pa.duration("us"): st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
    pa.decimal128(20, 4): st.decimals(-(10**15), 10**15, places=4, allow_nan=False),
    pa.list_(pa.float64()): st.lists(st.none() | st.floats(), max_size=3),
}


@pytest.mark.properties
@EXAMPLES
@given(st.data())
def test_whatever_parquet_holds_reaches_a_row_that_tells_it_apart(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(columns_of)))
    values = data.draw(st.lists(st.none() | columns_of[kind], min_size=1, max_size=8))
    pq.write_table(pa.table({"n": list(range(len(values))), "v": pa.array(values, kind)}), tmp_path / "a.parquet")
    found = records(tmp_path, "a.parquet", None)
    assert [row["n"] for row in found] == list(range(len(values)))
    contents = [canonical_json({"v": row["v"]}) for row in found]
    for one, other in ((a, b) for a in range(len(values)) for b in range(a)):
        assert (repr(values[one]) == repr(values[other])) == (contents[one] == contents[other])


@pytest.mark.properties
@EXAMPLES
@given(st.lists(held_by_sqlite, min_size=1, max_size=8))
def test_whatever_sqlite_holds_is_read_equal(tmp_path: Path, values: list[Any]) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as tx:
        tx.execute(text("DROP TABLE IF EXISTS t"))
        tx.execute(text("CREATE TABLE t (n INTEGER, v)"))
        tx.execute(text("INSERT INTO t VALUES (:n, :v)"), [{"n": n, "v": value} for n, value in enumerate(values)])
    engine.dispose()
    found = from_sql(f"sqlite:///{tmp_path / 'a.db'}", "SELECT n, v FROM t ORDER BY n", tmp_path)
    assert [row["v"] for row in found] == [_in_a_row(value) for value in values]


def _in_a_row(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value.hex() if isinstance(value, bytes) else value


@pytest.mark.properties
@EXAMPLES
@given(st.lists(st.tuples(cells.filter(lambda cell: "\0" not in cell), st.floats()), min_size=1, max_size=8))
def test_whatever_postgresql_holds_is_read_equal(
    postgres_source: Any, tmp_path: Path, rows: list[tuple[str, float]]
) -> None:
    url, engine = postgres_source
    with engine.begin() as tx:
        tx.execute(text("TRUNCATE t"))
        values = [{"n": n, "v": value, "x": number} for n, (value, number) in enumerate(rows)]
        tx.execute(text("INSERT INTO t VALUES (:n, :v, :x)"), values)
    found = from_sql(url, "SELECT n, v, x FROM t ORDER BY n", tmp_path)
    assert [(row["v"], row["x"]) for row in found] == [(value, _in_a_row(number)) for value, number in rows]


@pytest.fixture
def postgres_source(postgres_url: str) -> Iterator[Any]:
    engine = create_engine(postgres_url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE t (n int, v text, x float8)"))
    yield postgres_url, engine
    engine.dispose()
