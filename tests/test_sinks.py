"""Writing a part again changes nothing, a key stands in a sink once, and every value is what the model said."""

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import duckdb
import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pydantic import AwareDatetime, BaseModel, Field, HttpUrl, NaiveDatetime, computed_field
from sqlalchemy import create_engine, text

from rowtide.errors import UserMistake
from rowtide.job.answer_fields import field_kind
from rowtide.job.job_spec import SinkSpec
from rowtide.sinks.columns import page_of_answers, sink_columns, unloadable_rows
from rowtide.sinks.sinks import open_sink

FOLDERS = ["parquet", "csv", "jsonl"]
KINDS = [*FOLDERS, "sqlite", "postgresql", "duckdb"]


class Answer(BaseModel):
    word: str
    number: int | None
    tags: list[str]


class Place:
    """A sink of one kind, with any answer model; and what stands in it, as its readers see it."""

    def __init__(self, kind: str, folder: Path, url: str = "") -> None:
        self.kind, self.folder, self.url = kind, folder, url

    def open(self, answer: type[BaseModel] = Answer, **spec: Any) -> Any:
        named = (
            {"kind": "sql", "url": "${OUT}", "table": "companies"} if self.url else {"kind": self.kind, "path": "out"}
        )
        return open_sink(SinkSpec.model_validate({**named, **spec}), self.folder, answer, {"OUT": self.url})

    def load(
        self,
        part: str,
        *answers: BaseModel,
        keys: str = "abcdefgh",
        replaced: dict[str, set[str]] | None = None,
        **spec: Any,
    ) -> dict[int, str]:
        sink, columns = self.open(type(answers[0]), **spec)
        with sink.writing(part) as out:
            contents = [each.model_dump_json().encode() for each in answers]
            refused = out.write(page_of_answers(columns, list(keys[: len(answers)]), contents))
            out.finish(replaced or {})
        return refused

    def rows(self) -> list[dict[str, Any]]:
        """What stands there, by key; a key that stands twice is there twice."""
        return sorted(READ[self.kind](self), key=lambda row: row["row_key"])


def _query(place: Place) -> Iterator[dict[str, Any]]:
    engine = create_engine(place.url)
    with engine.connect() as tx:
        yield from (dict(row) for row in tx.execute(text("SELECT * FROM companies")).mappings().all())
    engine.dispose()


def _duck(place: Place) -> list[dict[str, Any]]:
    with duckdb.connect(place.url.removeprefix("duckdb:///")) as connection:
        return connection.sql("FROM companies").to_arrow_table().to_pylist()


def _csv(place: Place) -> Iterator[dict[str, Any]]:
    for file in (place.folder / "out").glob("*.csv"):
        with file.open(newline="") as lines:
            yield from csv.DictReader(lines)


READ: dict[str, Callable[[Place], Any]] = {
    "parquet": lambda place: (
        ds.dataset(place.folder / "out", partitioning="hive", format="parquet").to_table().to_pylist()
    ),
    "csv": _csv,
    "jsonl": lambda place: [
        json.loads(line) for file in (place.folder / "out").glob("*.jsonl") for line in file.read_bytes().splitlines()
    ],
    "sqlite": _query,
    "postgresql": _query,
    "duckdb": _duck,
}


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    urls = {"sqlite": f"sqlite:///{tmp_path / 'out.db'}", "duckdb": f"duckdb:///{tmp_path / 'out.duckdb'}"}
    if request.param == "postgresql":
        urls["postgresql"] = request.getfixturevalue("postgres_url")
    return Place(request.param, tmp_path, urls.get(request.param, ""))


def one(word: str = "w", number: int | None = 1) -> Answer:
    return Answer(word=word, number=number, tags=["a", "b"])


def words(place: Place) -> dict[str, str]:
    rows = place.rows()
    assert len({row["row_key"] for row in rows}) == len(rows), "a key stands twice"
    return {row["row_key"]: row["word"] for row in rows}


def test_a_part_written_twice_stands_once(place: Place) -> None:
    for _ in range(2):
        place.load("p-1", one(), one("x"))
    assert words(place) == {"a": "w", "b": "x"}


def test_rows_a_part_replaces_stand_once_as_they_are_now(place: Place) -> None:
    place.load("p-1", one(), one())
    place.load("p-2", one(), keys="c")
    place.load("p-3", one("new"), one("new"), keys="bc", replaced={"p-1": {"b"}, "p-2": {"c"}})
    assert words(place) == {"a": "w", "b": "new", "c": "new"}


def test_a_part_that_is_not_finished_leaves_no_trace(place: Place) -> None:
    place.load("p-1", one())
    sink, columns = place.open()
    with pytest.raises(ZeroDivisionError), sink.writing("p-2") as out:
        out.write(page_of_answers(columns, ["a", "b"], [one("no").model_dump_json().encode()] * 2))
        raise ZeroDivisionError
    assert words(place) == {"a": "w"}


def test_a_part_knows_what_stands_of_another(place: Place) -> None:
    place.load("p-1", one(), one())
    with place.open()[0].writing("p-2") as out:
        assert (out.keys_held("p-1", {"a"}), out.keys_held("p-9", {"a"})) == ({"a"}, set())


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Person(BaseModel):
    name: str


class Everything(BaseModel):
    """What answers are made of, under names that a careless hand would not quote."""

    select: str
    Group: int
    share: float
    is_it: bool
    since: dt.date
    seen_at: dt.datetime
    price: Decimal = Field(max_digits=10, decimal_places=2)
    exact: Decimal
    size: Size
    colour: Literal["red", "green"] | None
    level: Literal[1, 2]
    either: int | float
    tags: list[str]
    scores: list[Annotated[float, Field(ge=0)]]
    days: list[dt.date]
    boss: Person | None
    people: list[Person]
    known_as: UUID

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.Group


SAID = Everything.model_validate(
    {
        "select": 'a "b", \\ c\nd\ttab; é 漢 🙂 % :x \\N',
        "Group": 2**53 + 1,
        "share": 0.1,
        "is_it": True,
        "since": "2024-02-29",
        "seen_at": "2024-03-01T01:30:00+02:00",
        "price": "1.10",
        "exact": "0.1000000000000000000000000000000000000000000001",
        "size": "large",
        "colour": None,
        "level": 2,
        "either": 3,
        "tags": ["x, y", ""],
        "scores": [1.5, 2.0],
        "days": ["2024-02-29"],
        "boss": {"name": "A"},
        "people": [{"name": "B"}],
        "known_as": "12345678-1234-5678-1234-567812345678",
    }
)
MOMENT = dt.datetime(2024, 2, 29, 23, 30, tzinfo=dt.UTC)


def test_every_value_is_what_the_model_said(place: Place) -> None:
    place.load("p-1", SAID, SAID.model_copy(update={"select": ""}))
    place.load("p-2", SAID, keys="c", replaced={})
    first, empty, third = place.rows()
    assert {**first, "row_key": "c"} == third
    assert (first["select"], empty["select"]) == (SAID.select, "")
    assert {name: value for name, value in SAYS[place.kind].items() if first[name] != value} == {}
    assert (first["Group"], first["twice"]) == (
        (2**53 + 1, 2**54 + 2) if place.kind != "csv" else (str(2**53 + 1), str(2**54 + 2))
    )


AS_TEXT = {
    "exact": str(SAID.exact),
    "size": "large",
    "known_as": str(SAID.known_as),
}
LISTS = {"tags": ["x, y", ""], "scores": [1.5, 2.0]}
JSON = {"boss": '{"name":"A"}', "people": '[{"name":"B"}]'}
FLAT = {"tags": '["x, y",""]', "scores": "[1.5,2.0]", "days": '["2024-02-29"]', **JSON}
REAL = {
    "since": dt.date(2024, 2, 29),
    "seen_at": MOMENT,
    "price": Decimal("1.10"),
    "either": 3.0,
    "level": 2,
    "is_it": True,
}
SAYS: dict[str, dict[str, Any]] = {
    "parquet": {**AS_TEXT, **LISTS, **JSON, **REAL, "days": [dt.date(2024, 2, 29)], "colour": None},
    "duckdb": {**AS_TEXT, **LISTS, **JSON, **REAL, "days": [dt.date(2024, 2, 29)], "colour": None},
    "postgresql": {
        **AS_TEXT,
        **LISTS,
        **REAL,
        "exact": SAID.exact,
        "days": ["2024-02-29"],
        "boss": {"name": "A"},
        "people": [{"name": "B"}],
        "colour": None,
    },
    "sqlite": {
        **AS_TEXT,
        **FLAT,
        "price": "1.10",
        "since": "2024-02-29",
        "seen_at": "2024-02-29T23:30:00.000000Z",
        "is_it": 1,
    },
    "csv": {**AS_TEXT, **FLAT, "price": "1.10", "since": "2024-02-29", "is_it": "true", "colour": "", "share": "0.1"},
    "jsonl": {**AS_TEXT, **LISTS, "price": "1.10", "boss": {"name": "A"}, "colour": None, "is_it": True},
}


def test_a_null_and_an_empty_text_differ_in_csv_after_a_rewrite_too(tmp_path: Path) -> None:
    class Two(BaseModel):
        word: str | None
        number: int | None

    place = Place("csv", tmp_path)
    place.load("p-1", Two(word="", number=None), Two(word=None, number=1), Two(word="x", number=2))
    place.load("p-2", Two(word="y", number=2), keys="c", replaced={"p-1": {"c"}})
    assert (tmp_path / "out" / "p-1.csv").read_text() == '"row_key","word","number"\n"a","",\n"b",,1\n'


class Wider(Answer):
    note: str | None


class Required(Answer):
    note: str


class Retyped(BaseModel):
    word: str
    number: str | None
    tags: list[str]


class Narrower(BaseModel):
    word: str
    tags: list[str]


def test_a_new_field_that_may_be_none_is_a_new_column(place: Place) -> None:
    place.load("p-1", one(), one())
    place.open(Wider)[0].check()
    for _ in range(2):
        place.load("p-2", Wider(word="w", number=1, tags=[], note="new"), keys="b", replaced={"p-1": {"b"}})
    assert words(place) == {"a": "w", "b": "w"}
    if place.url:
        assert [row["note"] for row in place.rows()] == [None, "new"]
    if place.kind == "parquet":
        unified = pa.unify_schemas([pq.read_schema(file) for file in sorted((place.folder / "out").glob("*.parquet"))])
        found = ds.dataset(place.folder / "out", schema=unified, format="parquet").to_table().sort_by("row_key")
        assert found["note"].to_pylist() == [None, "new"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Required, "note: is new .text., and rows that are loaded already have no value for it"),
        (Retyped, "number: is integer there and text now"),
        (Narrower, "number: stands there as integer, and is no longer loaded"),
    ],
)
def test_a_breaking_change_of_the_answer_is_refused_before_anything_is_written(
    place: Place, answer: type[BaseModel], words: str
) -> None:
    place.open(answer)[0].check()  # nothing stands there yet
    place.load("p-1", one())
    before = place.rows()
    with pytest.raises(UserMistake, match=words):
        place.open(answer)[0].check()
    with pytest.raises(UserMistake, match=words):
        place.load("p-2", answer.model_construct(word="w", number="1", tags=[], note="n"))
    assert place.rows() == before


def test_a_column_that_is_called_as_the_sinks_own_is_refused() -> None:
    class Clash(BaseModel):
        row_key: str

    with pytest.raises(UserMistake, match="row_key: this column is the sink's own"):
        sink_columns(Clash, lineage=False)


def test_what_no_sink_can_be_trusted_with_is_named() -> None:
    said = [one(), one("a\0b"), one(number=2**63), one(number=-(2**63)), one("12345678901234567890"), one("\\u0000")]
    contents = [each.model_dump_json().encode() for each in said]
    assert unloadable_rows(contents) == {
        1: "word: holds a NUL character",
        2: "number: does not fit a 64-bit integer",
    }


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Annotated[int, Field(ge=0)] | None, "integer"),
        (tuple[int, ...], "list of integer"),
        (set[Size], "list of text"),
        (dict[str, int], "json"),
        (list[list[int]], "json"),
        (int | str, "json"),
        (Literal["a", 1, None], "json"),
        (Literal["a", None], "text"),
        (NaiveDatetime, "datetime without zone"),
        (list[AwareDatetime | None], "list of datetime"),
        (dt.date | str, "text"),
        (HttpUrl, "text"),
        (Annotated[Decimal, Field(max_digits=6, decimal_places=1)] | None, "decimal(6,1)"),
        (dt.timedelta, "text"),
        (Any, "json"),
    ],
)
def test_a_type_is_the_column_an_engineer_expects(annotation: Any, kind: str) -> None:
    assert field_kind(annotation) == kind


# Folders


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_manifest_lists_what_stands(tmp_path: Path, kind: str) -> None:
    place = Place(kind, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".p-9.{kind}.part").write_bytes(b"half")  # what a kill left
    place.load("p-1", one(), one())
    place.load("p-2", one())
    place.load("p-2", one(), keys="b", replaced={"p-1": {"b"}})
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_bytes())
    assert {name: each["rows"] for name, each in manifest["files"].items()} == {f"p-1.{kind}": 1, f"p-2.{kind}": 1}
    assert manifest["columns"] == {"row_key": "text", "word": "text", "number": "integer", "tags": "list of text"}
    here = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert here == [".lock", "_manifest.json", f"p-1.{kind}", f"p-2.{kind}"]
    assert all((tmp_path / "out" / name).stat().st_size == each["bytes"] for name, each in manifest["files"].items())


def test_a_column_of_nulls_keeps_its_type(tmp_path: Path) -> None:
    place = Place("parquet", tmp_path)
    place.load("p-1", one(number=None))
    place.load("p-2", one(), keys="b")
    assert len({str(pq.read_schema(file)) for file in (tmp_path / "out").glob("*.parquet")}) == 1


def partitions(tmp_path: Path) -> list[str]:
    return sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.parquet"))


def test_a_partitioned_row_that_moves_leaves_its_old_folder(tmp_path: Path) -> None:
    place = Place("parquet", tmp_path)
    place.load("p-1", one("x"), one("x"), one("../y z=%"), partition_by="word")
    assert partitions(tmp_path) == ["word=..%2Fy%20z%3D%25/p-1.parquet", "word=x/p-1.parquet"]
    place.load("p-2", one("new"), one("x", number=7), keys="ca", replaced={"p-1": {"a", "c"}}, partition_by="word")
    assert partitions(tmp_path) == ["word=new/p-2.parquet", "word=x/p-1.parquet", "word=x/p-2.parquet"]
    assert not (tmp_path / "out" / "word=..%2Fy%20z%3D%25").exists()
    assert words(place) == {"a": "x", "b": "x", "c": "new"}
    place.load("p-2", one("x", number=7), keys="a", partition_by="word")  # again, and a later run has got hold of c
    assert partitions(tmp_path) == ["word=x/p-1.parquet", "word=x/p-2.parquet"]


def test_partitions_are_of_a_plain_field_and_stay_what_they_are(tmp_path: Path) -> None:
    place = Place("parquet", tmp_path)
    with pytest.raises(UserMistake, match="no field 'words'; did you mean 'word'"):
        place.open(partition_by="words")
    with pytest.raises(UserMistake, match="'tags' is list of text; folders are made of"):
        place.open(partition_by="tags")
    place.load("p-1", one(number=None), one(number=3), partition_by="number")
    assert partitions(tmp_path) == ["number=3/p-1.parquet", "number=__HIVE_DEFAULT_PARTITION__/p-1.parquet"]
    assert [row["number"] for row in place.rows()] == [None, 3]
    with pytest.raises(UserMistake, match="partition_by: is 'number' there and None now"):
        place.open()[0].check()


# Tables


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path / 'o.db'}"
    return Place(request.param, tmp_path, url)


def execute(place: Place, *statements: str) -> list[Any]:
    engine = create_engine(place.url)
    with engine.begin() as tx:
        *_, last = (tx.execute(text(statement)) for statement in statements)
        found = [tuple(row) for row in last.all()] if last.returns_rows else []
    engine.dispose()
    return found


def test_the_load_is_recorded_with_the_rows(database: Place) -> None:
    for _ in range(2):
        database.load("p-1", one(), one())
    database.load("p-2", one("new"), keys="b")
    found = execute(database, "SELECT sink_table, part, rows FROM rowtide_loads ORDER BY part")
    assert found == [("companies", "p-1", 2), ("companies", "p-2", 1)]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("row_key TEXT PRIMARY KEY, words TEXT, number BIGINT, tags TEXT", "no column 'word'.*did you mean 'words'"),
        ("row_key TEXT PRIMARY KEY, word INTEGER, number BIGINT, tags TEXT", "word: is INTEGER there and text in the"),
        ("row_key TEXT, word TEXT, number BIGINT, tags TEXT", "cannot be upserted by row_key, its primary key: "),
    ],
)
def test_a_table_of_somebodys_own_that_cannot_take_the_rows_is_refused(
    database: Place, columns: str, complaint: str
) -> None:
    execute(database, f"CREATE TABLE companies ({columns})")
    with pytest.raises(UserMistake, match=complaint):
        database.open()[0].check()


def test_a_table_of_somebodys_own_is_upserted_into_and_keeps_its_other_columns(database: Place) -> None:
    execute(
        database,
        "CREATE TABLE companies (id INTEGER DEFAULT 7, tags TEXT, number SMALLINT, word VARCHAR(20), "
        "row_key VARCHAR(99) UNIQUE NOT NULL)",
    )
    database.load("p-1", one(), one())
    execute(database, "UPDATE companies SET id = 8 WHERE row_key = 'a'")
    database.load("p-2", one("new"))
    found = execute(database, "SELECT row_key, id, word, tags FROM companies ORDER BY 1")
    assert found == [("a", 8, "new", '["a","b"]'), ("b", 7, "w", '["a","b"]')]


def test_a_value_that_a_table_refuses_is_left_out_in_its_words(postgres_url: str, tmp_path: Path) -> None:
    place = Place("postgresql", tmp_path, postgres_url)
    execute(place, "CREATE TABLE companies (row_key TEXT PRIMARY KEY, word VARCHAR(3), number INT, tags JSONB)")
    assert place.load("p-1", one("one"), one("a long word")) == {1: "value too long for type character varying(3)"}
    assert words(place) == {"a": "one"}


def test_a_table_may_be_in_a_schema_and_need_quotes(postgres_url: str, tmp_path: Path) -> None:
    place = Place("postgresql", tmp_path, postgres_url)
    execute(place, 'CREATE SCHEMA "Sales 1"')
    place.load("p-1", one(), table='Sales 1.the "order"')
    assert execute(place, 'SELECT row_key FROM "Sales 1"."the ""order"""') == [("a",)]
    assert execute(place, 'SELECT sink_table FROM "Sales 1".rowtide_loads') == [('Sales 1.the "order"',)]
    with pytest.raises(UserMistake, match="no schema 'Sales 2'; did you mean 'Sales 1'"):
        place.open(table="Sales 2.order")[0].check()


def test_a_database_out_of_reach_is_named_without_its_password(tmp_path: Path) -> None:
    place = Place("postgresql", tmp_path, f"postgresql://me:secret@/nowhere?host={tmp_path}&sslpassword=secret")
    with pytest.raises(UserMistake) as caught:
        place.open()[0].check()
    assert "secret" not in str(caught.value)
    assert "me:***@" in str(caught.value)
    with pytest.raises(UserMistake, match="'mysql' is no sink; a sql sink is sqlite, postgresql or duckdb"):
        Place("sql", tmp_path, "mysql://host/db").open()


def test_one_database_takes_the_parts_of_two_tables_under_one_name(database: Place) -> None:
    database.load("p-1", one())
    database.load("p-1", one("other"), table="others")
    assert execute(database, "SELECT word FROM others") == [("other",)]


def test_a_duckdb_file_that_another_has_open_is_named(tmp_path: Path) -> None:
    place = Place("duckdb", tmp_path, f"duckdb:///{tmp_path / 'out.duckdb'}")
    place.load("p-1", one())
    assert orjson.loads(_record(place)) == {
        "row_key": "text",
        "word": "text",
        "number": "integer",
        "tags": "list of text",
    }
    with pytest.raises(UserMistake, match="no schema 'sales'"):
        place.open(table="sales.x")[0].check()


def _record(place: Place) -> str:
    with closing(duckdb.connect(place.url.removeprefix("duckdb:///"))) as connection:
        ((columns,),) = connection.execute("SELECT columns FROM rowtide_loads").fetchall()
    return columns
