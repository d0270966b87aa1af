"""Writing a part again changes nothing, and a key stands in a sink once."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from rowtide.errors import UserMistake
from rowtide.job import SinkSpec
from rowtide.sinks import open_sink


class Answer(BaseModel):
    word: str
    number: int | None
    tags: list[str]


def record(key: str, word: str = "w", number: int | None = 1) -> dict[str, Any]:
    return {"row_key": key, "word": word, "number": number, "tags": ["a", "b"]}


def folder_sink(tmp_path: Path, kind: str = "parquet") -> Any:
    return open_sink(SinkSpec.model_validate({"kind": kind, "path": "out"}), tmp_path, Answer, {})


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_part_written_twice_stands_once_and_leaves_nothing_beside_it(tmp_path: Path, kind: str) -> None:
    sink = folder_sink(tmp_path, kind)
    for _ in range(2):
        sink.write_part("p-1", [record("a"), record("b")], {})
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["_manifest.json", f"p-1.{kind}"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_rows_a_part_replaces_are_taken_out_of_older_parts(tmp_path: Path, kind: str) -> None:
    sink = folder_sink(tmp_path, kind)
    sink.write_part("p-1", [record("a"), record("b")], {})
    sink.write_part("p-2", [record("c")], {})
    sink.write_part("p-3", [record("b", "new"), record("c", "new")], {"p-1": {"b"}, "p-2": {"c"}})
    assert sorted(file.name for file in (tmp_path / "out").glob("p-*")) == [f"p-1.{kind}", f"p-3.{kind}"]
    assert b'"new"' in (tmp_path / "out" / f"p-3.{kind}").read_bytes() or kind != "jsonl"


def test_a_column_of_nulls_keeps_its_type(tmp_path: Path) -> None:
    folder_sink(tmp_path).write_part("p-1", [record("a", number=None)], {})
    folder_sink(tmp_path).write_part("p-2", [record("b")], {})
    first, second = (pq.read_schema(tmp_path / "out" / f"p-{n}.parquet") for n in (1, 2))
    assert first == second


def test_what_a_kill_left_half_written_is_not_a_part_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".p-1.parquet.part").write_bytes(b"half")
    folder_sink(tmp_path).write_part("p-1", [record("a")], {})
    assert [file.name for file in (tmp_path / "out").glob("*.parquet")] == ["p-1.parquet"]


def sql_sink(tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path / 'out.db'}"
    return open_sink(SinkSpec(kind="sql", url="${OUT}", table="companies"), tmp_path, Answer, {"OUT": url})


def test_a_table_is_made_upserted_and_the_load_recorded_with_it(tmp_path: Path) -> None:
    for _ in range(2):
        sql_sink(tmp_path).write_part("p-1", [record("a"), record("b")], {})
    sql_sink(tmp_path).write_part("p-2", [record("b", "new")], {"p-1": {"b"}})
    with create_engine(f"sqlite:///{tmp_path / 'out.db'}").connect() as tx:
        found = tx.execute(text("SELECT row_key, word, tags FROM companies ORDER BY 1")).all()
        assert [tuple(each) for each in found] == [("a", "w", '["a","b"]'), ("b", "new", '["a","b"]')]
        assert tx.execute(text("SELECT part, rows FROM rowtide_loads ORDER BY 1")).all() == [("p-1", 2), ("p-2", 1)]


def test_a_table_that_lacks_a_column_is_refused_by_name(tmp_path: Path) -> None:
    with create_engine(f"sqlite:///{tmp_path / 'out.db'}").begin() as tx:
        tx.execute(text("CREATE TABLE companies (row_key TEXT PRIMARY KEY, words TEXT, number INT, tags TEXT)"))
    with pytest.raises(UserMistake, match="no column 'word'.*did you mean 'words'"):
        sql_sink(tmp_path)
