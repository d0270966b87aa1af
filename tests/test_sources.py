"""A source gives every record it can, and names every one it cannot."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from rowtide.errors import UserMistake
from rowtide.intake.source_rows import BadRow, SourceRow, canonical_json, row_id, row_key
from rowtide.intake.sources import read_pages, source_columns, source_display_name
from rowtide.job.job_spec import SourceSpec


def read(folder: Path, name: str, content: bytes | None = None, page_rows: int = 2) -> list[SourceRow | BadRow]:
    if content is not None:
        (folder / name).write_bytes(content)
    pages = list(read_pages(SourceSpec(path=Path(name)), folder, page_rows, {}, 10_000_000))
    assert all(len(page) <= page_rows for page in pages)
    return [row for page in pages for row in page]


def refusal(folder: Path, name: str, content: bytes | None = None) -> str:
    with pytest.raises(UserMistake) as caught:
        if content is not None:
            (folder / name).write_bytes(content)
        spec = SourceSpec(path=Path(name))
        source_columns(spec, folder, {})
        list(read_pages(spec, folder, 10, {}))
    return str(caught.value)


def test_csv_keeps_line_breaks_quotes_and_the_line_each_record_began_on(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", '\ufeffid,note\n1,"two\nlines"\n2,"a ""quote"""\n'.encode())
    assert rows == [
        SourceRow(2, {"id": "1", "note": "two\nlines"}),
        SourceRow(4, {"id": "2", "note": 'a "quote"'}),
    ]


def test_one_undecodable_byte_costs_one_row(tmp_path: Path) -> None:
    first, bad, last = read(tmp_path, "a.csv", b"id,note\n1,a\n2,\xff\n3,c\n")
    assert isinstance(first, SourceRow)
    assert isinstance(last, SourceRow)
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.reason) == (3, "undecodable")
    assert "'note' holds the byte 0xff" in bad.detail


def test_a_row_of_another_width_costs_one_row(tmp_path: Path) -> None:
    _, bad, _ = read(tmp_path, "a.csv", b"id,note\n1,a\n2,b,c\n3,d\n")
    assert isinstance(bad, BadRow)
    assert bad.reason == "wrong_width"


def test_a_ten_megabyte_cell_is_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "a.csv", b"id,note\n1," + b"x" * 10_000_000 + b"\n")
    assert isinstance(row, SourceRow)
    assert len(str(row.values["note"])) == 10_000_000


def test_jsonl_names_what_is_not_json_not_an_object_and_not_utf8(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", b'{"id":1}\nnope\n[1]\n"\xff"\n\n{"id":2}\n')
    assert [row.reason if isinstance(row, BadRow) else row.line for row in rows] == [
        1,
        "not_json",
        "not_an_object",
        "undecodable",
        6,
    ]


def test_parquet_and_sql_give_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "note": ["a", None, "c"]}), tmp_path / "a.parquet")
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with create_engine(url).begin() as tx:
        tx.execute(text("CREATE TABLE t (id INTEGER, note TEXT)"))
        tx.execute(text("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'c')"))
    spec = SourceSpec(url="${DB}", query="SELECT * FROM t ORDER BY id")
    pages = list(read_pages(spec, tmp_path, 2, {"DB": url}))
    assert [row for page in pages for row in page] == read(tmp_path, "a.parquet")
    assert source_columns(spec, tmp_path, {"DB": url}) == ["id", "note"]


def test_a_failed_query_never_shows_the_password(tmp_path: Path) -> None:
    spec = SourceSpec(url="sqlite:///nowhere/at/all.db?password=hunter2", query="SELECT 1")
    with pytest.raises(UserMistake) as caught:
        list(read_pages(spec, tmp_path, 10, {}))
    spec = SourceSpec(url="postgresql://me:hunter2@localhost/x", query="SELECT 1")
    assert "hunter2" not in source_display_name(spec, tmp_path)
    assert "query failed" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, "no such source"),
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\n", "no header"),
        ("twice.csv", b"a,a\n1,2\n", "a: this column stands twice"),
        ("unnamed.csv", b"a,,c\n", "no name"),
        ("rows.xlsx", b"x", "source.kind"),
        ("a.parquet", b"not it", "not a Parquet file"),
        ("bad.jsonl", b"nope\n", "no record that can be read"),
    ],
)
def test_a_source_that_cannot_be_read_is_named_with_why(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    said = refusal(tmp_path, name, content)
    assert name in said
    assert words in said


def test_a_source_that_is_not_there_suggests_the_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "companies.csv").write_text("a\n")
    assert "did you mean 'companies.csv'" in refusal(tmp_path, "companys.csv")


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="DB_URL is not set.*did you mean 'DB_URI'"):
        list(read_pages(SourceSpec(url="${DB_URL}", query="x"), tmp_path, 1, {"DB_URI": ""}))


values = st.dictionaries(
    st.text(max_size=8),
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=20) | st.decimals(),
    max_size=6,
)


@given(values)
def test_a_rows_identity_does_not_depend_on_the_order_of_its_columns(row: dict[str, object]) -> None:
    turned = dict(reversed(list(row.items())))
    assert row_id(canonical_json(row)) == row_id(canonical_json(turned))


@given(values, values)
def test_different_content_has_a_different_identity(one: dict[str, object], other: dict[str, object]) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (
        row_id(canonical_json(one)) == row_id(canonical_json(other))
    )


pairs = st.tuples(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5))


@given(pairs, pairs)
def test_composite_keys_never_collide(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys = [row_key({"a": first, "b": second}, ["a", "b"]) for first, second in (one, other)]
    if keys[0] is not None and keys[0] == keys[1]:
        assert [part.strip() for part in one] == [part.strip() for part in other]


def test_a_key_that_is_null_or_blank_in_any_part_is_none() -> None:
    assert row_key({"a": 1, "b": None}, ["a", "b"]) is None
    assert row_key({"a": " "}, ["a"]) is None
    assert row_key({"a": 7}, ["a"]) == "7"


def test_money_and_dates_are_part_of_a_row() -> None:
    assert canonical_json({"price": Decimal("1.10")}) == b'{"price":"1.10"}'
