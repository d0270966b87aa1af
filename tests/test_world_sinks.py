"""Answers as the world gives them: what is read back from a sink is what was answered, or the model is refused before
anything is sent, or the one row is quarantined and the others are loaded.

`make properties` tries thousands of models; here are some.
"""

import csv
import datetime as dt
import io
import json
import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from conftest import ask_ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasPath,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    NaiveDatetime,
    RootModel,
    SecretStr,
    StringConstraints,
    computed_field,
    create_model,
    field_serializer,
)
from pydantic_core import to_jsonable_python
from sqlalchemy import create_engine
from sqlalchemy import text as sql_text
from test_load import Home, die_five_times, effects_of, sink_of

from chaos.effects import KILLED, Death
from rowtide.agent.answer_checks import judge_answer
from rowtide.api.api_schema import api_schema
from rowtide.errors import UserMistake
from rowtide.gates.gate_files import load_suite
from rowtide.gates.page_judging import PageJudge
from rowtide.job.answer_fields import check_answer_model, fields_to_fill_in, gate_column_names
from rowtide.job.job_spec import SinkSpec
from rowtide.job.storable_answers import answer_from_json, answer_to_json, describe_alterations
from rowtide.quarantine.quarantine_sheet import SheetEntry, SheetShape, read_sheet, sheet_record, write_csv_sheet
from rowtide.quarantine.sheet_edits import EditRules, edits_of_sheet
from rowtide.sinks.columns import Column, page_of_answers, unloadable_rows
from rowtide.sinks.sinks import open_sink

EXAMPLES = 300 if os.environ.get("ROWTIDE_PROPERTIES") == "night" else 4  # models of six fields, with four answers
SINKS = ["parquet", "csv", "jsonl", "sqlite", "duckdb", "postgresql"]


# Generated models: (type, values that JSON can tell a model)


class Size(Enum):
    SMALL = "small"
    EMPTY = ""
    NUMBERED = 1


class Level(IntEnum):
    LOW = -1
    HIGH = 2


class Person(BaseModel):
    name: str = Field(alias="Full Name")
    age: int | None = None
    tags: list[str | None] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str | None


ODD_TEXTS = [
    "", " ", "null", "None", "NaN", "true", "007", "1e5", "-", "=1+1", "+1", "@x", "-2", "'", '"', '""', ",", ";", "\t",
    "\n", "\r\n", "\r", "a\nb", '"a","b"', "\\N", "\\.", "\\", "{}", "[]", "é", "e\u0301", "漢", "🙂", "\u2028", "\x1a",
    "\x7f", "\ufeff", "%s", "${X}", "'; DROP TABLE answers; --", "x" * 70_000,
]  # fmt: skip
text = st.one_of(
    st.sampled_from(ODD_TEXTS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
integer = st.one_of(
    st.sampled_from([0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1), st.integers(-9, 9)
)
number = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 1e308, 5e-324, 1.7976931348623157e308, 1e22, 123456789.123456789]),
    st.floats(allow_nan=False, allow_infinity=False),
)
decimal = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12)
zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=45)), dt.timezone(-dt.timedelta(hours=9))])
moments = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001 # the bounds are without a zone
aware = st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, zones)
person = st.fixed_dictionaries({"Full Name": text, "age": st.none() | integer, "tags": st.lists(st.none() | text)})
pet = st.fixed_dictionaries({"kind": st.just("cat"), "lives": integer}) | st.fixed_dictionaries(
    {"kind": st.just("dog"), "name": st.none() | text}
)
KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, text),
    (Annotated[str, StringConstraints(strip_whitespace=True)], text),
    (int, integer),
    (Annotated[int, Field(ge=-5)], st.integers(-5, 2**62)),
    (float, number),
    (bool, st.booleans()),
    (dt.date, st.dates()),
    (AwareDatetime, aware),
    (dt.datetime, aware),
    (NaiveDatetime, moments),
    (dt.time, st.times() | st.builds(dt.time.replace, st.times(), tzinfo=zones)),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-99999), dt.timedelta(days=99999))),
    (UUID, st.uuids()),
    (bytes, text),
    (Decimal, decimal | st.sampled_from([Decimal("1e-200"), Decimal("1E+300"), Decimal("-0.00")])),
    (Annotated[Decimal, Field(max_digits=20, decimal_places=4)], decimal),
    (Annotated[Decimal, Field(max_digits=60, decimal_places=4)], decimal),
    (HttpUrl, st.sampled_from(["https://example.com/a?b=c#d", "http://bücher.example/ü"])),
    (Size, st.sampled_from([each.value for each in Size])),
    (Level, st.sampled_from([each.value for each in Level])),
    (Literal["a", "", "null"], st.sampled_from(["a", "", "null"])),
    (Literal["a", 1, True, None], st.sampled_from(["a", 1, None])),
    (int | str, integer | text),
    (bool | int | str, st.booleans() | integer | text),
    (int | float, integer.filter(lambda n: abs(n) < 2**53) | number),
    (dt.date | str, st.dates() | text),
    (str | list[str], text | st.lists(text)),
    (tuple[int, str], st.tuples(integer, text)),
    (tuple[float, float], st.tuples(number, number)),
    (Person, person),
    (Annotated[Cat | Dog, Field(discriminator="kind")], pet),
    (Cat | Person, person),
    (list[list[int | None]], st.lists(st.lists(st.none() | integer))),
    (list[Person | None], st.lists(st.none() | person, max_size=3)),
]
NAMES = [
    "select", "order", "Group", "user", "value", "größe", "名前", "a b", 'say "x"', "a%b", "a:b", "a.b", "a,b", "a;b",
    "$x", "1st", "row_no", "_key", "rowid", "line", "x" * 60, "it's", "a(b)", "=cmd", "\\", "{x}", "?", "%(x)s",
]  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> tuple[type[BaseModel], list[BaseModel]]:
    """An answer model of some fields, and answers of it, made as replies are: from JSON."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=6, max_size=6, unique=True))
    fields: dict[str, Any] = {}
    values: dict[str, st.SearchStrategy[Any]] = {}
    for number, name in enumerate(names):
        annotation, strategy = draw(st.sampled_from(KINDS))
        shape = draw(st.sampled_from(["plain", "optional", "list", "list of optionals", "optional list"]))
        if shape in ("list", "optional list"):
            annotation, strategy = list[annotation], st.lists(strategy, max_size=4)
        if shape == "list of optionals":
            annotation, strategy = list[annotation | None], st.lists(st.none() | strategy, max_size=4)
        if shape.startswith("optional"):
            annotation, strategy = annotation | None, st.none() | strategy
        fields[f"field_{number}"] = (annotation, Field(alias=name))
        values[name] = strategy
    by_alias = draw(st.booleans())
    model = create_model("Answer", __config__=ConfigDict(serialize_by_alias=by_alias), **fields)
    said = draw(st.lists(st.fixed_dictionaries(values), min_size=4, max_size=4))
    return model, [model.model_validate_json(json.dumps(each, default=to_jsonable_python)) for each in said]


# Reading back, with the readers that everybody has


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "out").rglob(f"*.{kind}"))


def _parquet(folder: Path, _: str) -> Iterator[dict[str, Any]]:
    for file in _files(folder, "parquet"):
        yield from pq.ParquetFile(file).read().to_pylist()


def _csv(folder: Path, _: str) -> Iterator[dict[str, Any]]:
    for file in _files(folder, "csv"):  # Python's csv tells no null from an empty text before 3.12
        with file.open(newline="", encoding="utf-8") as lines:
            names = dict.fromkeys(next(csv.reader(lines)), pa.string())
        convert = pa_csv.ConvertOptions(
            column_types=names, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        parse, whole = pa_csv.ParseOptions(newlines_in_values=True), pa_csv.ReadOptions(block_size=2**26)
        yield from pa_csv.read_csv(file, whole, parse, convert).to_pylist()


def _lines(folder: Path, _: str) -> Iterator[dict[str, Any]]:
    for file in _files(folder, "jsonl"):
        yield from map(json.loads, file.read_bytes().split(b"\n")[:-1])


def _sqlite(folder: Path, _: str) -> Iterator[dict[str, Any]]:
    connection = sqlite3.connect(folder / "out.db")
    connection.row_factory = sqlite3.Row
    yield from map(dict, connection.execute("SELECT * FROM answers"))
    connection.close()


def _duckdb(folder: Path, _: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(folder / "out.duckdb")) as connection:
        return connection.sql("FROM answers").to_arrow_table().to_pylist()


def _postgresql(_: Path, url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute("SELECT * FROM answers").fetchall()


READ: dict[str, Callable[[Path, str], Any]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _lines,
    "sqlite": _sqlite,
    "duckdb": _duckdb,
    "postgresql": _postgresql,
}


def as_json(sink: str, kind: str, value: Any) -> Any:
    """A value of a sink as the JSON that was answered, as docs/loads.md says how each kind is written."""
    if value is None or sink == "jsonl":
        return value
    if kind.startswith("list of "):
        element = kind.removeprefix("list of ")
        value = json.loads(value) if isinstance(value, str) else value
        return [as_json(sink, element, each) for each in value]
    match kind:
        case "json":
            return value if sink == "postgresql" else json.loads(value)
        case "integer":
            return int(value)
        case "number":
            return float(value)
        case "boolean":
            return value in (True, 1, "true")
        case "datetime" if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC).isoformat()
        case "text":
            assert isinstance(value, str)
            return value
        case _:
            return value.isoformat() if isinstance(value, dt.date) else str(value)


class Places:
    """A sink of each kind, empty for each use."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def spec(self, sink: str, place: Path, **more: Any) -> SinkSpec:
        urls = {
            "sqlite": f"sqlite:///{place}/out.db",
            "duckdb": f"duckdb:///{place}/out.duckdb",
            "postgresql": self.url,
        }
        named = (
            {"kind": "sql", "url": urls[sink], "table": "answers"} if sink in urls else {"kind": sink, "path": "out"}
        )
        return SinkSpec.model_validate({**named, **more})

    def load(
        self, sink: str, model: type[BaseModel], answers: list[BaseModel], *, place: Path | None = None, **more: Any
    ) -> tuple[list[Column], Path, dict[int, str]]:
        if place is None:
            place = self.folder / uuid4().hex
            place.mkdir()
        opened, columns = open_sink(self.spec(sink, place, **more), place, model, {})
        contents = [answer_to_json(each) for each in answers]
        assert not unloadable_rows(contents)
        with opened.writing("p-1") as out:
            refused = out.write(page_of_answers(columns, [f"key {n}" for n in range(len(answers))], contents))
            out.finish({})
        return columns, place, dict(refused)

    def read(self, sink: str, model: type[BaseModel], columns: list[Column], place: Path) -> dict[str, BaseModel]:
        kinds = {column.name: column.kind for column in columns}
        found: dict[str, BaseModel] = {}
        for row in READ[sink](place, self.url):
            values = {name: as_json(sink, kinds[name], value) for name, value in row.items() if name in kinds}
            found[values.pop("row_key")] = answer_from_json(model, json.dumps(values))
        return found

    def drop(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("DROP TABLE IF EXISTS answers, rowtide_loads")


@pytest.fixture
def places(tmp_path: Path, postgres_url: str) -> Places:
    return Places(tmp_path, postgres_url.replace("+psycopg", ""))


@pytest.mark.properties
@pytest.mark.parametrize("sink", SINKS)
def test_every_answer_of_a_model_that_plan_accepts_is_read_back_equal(sink: str, places: Places) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 100,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(models())
    def check(made: tuple[type[BaseModel], list[BaseModel]]) -> None:
        model, answers = made
        check_answer_model(model)
        assert [describe_alterations(each, answer_to_json(each)) for each in answers] == [[]] * len(answers)
        columns, place, refused = places.load(sink, model, answers)
        stand = places.read(sink, model, columns, place)
        if sink == "postgresql":
            places.drop()
        assert refused == {}
        assert [stand[f"key {n}"] for n in range(len(answers))] == answers

    check()


# Tables of somebody's own

TYPES_OF_THEIRS = [
    "TEXT", "VARCHAR(5)", "CHAR(9)", "SMALLINT", "INTEGER", "BIGINT", "REAL", "FLOAT", "DOUBLE PRECISION", "NUMERIC",
    "DECIMAL(6,2)", "NUMERIC(30,10)", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP(3)",
    "JSON", "JSONB", "STRING", "HUGEINT", "TIMESTAMP_S", "TIMESTAMP_NS", "UUID", "TIME", "BLOB", "INTEGER[]",
    "VARCHAR[]",
]  # fmt: skip
VALUES: list[tuple[Any, list[Any]]] = [
    (str, ["", "007", "1e5", "a ", "longer than five", "true", "2020-01-01", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    (int, [0, 3, 70_000, 2**53 + 1, 2**63 - 1]),
    (float, [0.1, 1.5, 1e300, 123456.789, 3.0, 16777217.0]),
    (bool, [True, False]),
    (dt.date, ["2020-01-01", "0001-01-01"]),
    (AwareDatetime, ["2020-01-01T12:00:00.123456+05:45", "1970-01-01T00:00:00Z"]),
    (NaiveDatetime, ["2020-01-01T12:00:00.123456", "1970-01-01T00:00:00"]),
    (Decimal, ["1.239", "3", "12345678901234567890.5", "1e-30"]),
    (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], ["1234.56", "0.01"]),
    (Annotated[Decimal, Field(max_digits=20, decimal_places=4)], ["1234567890123456.7891", "0.0001"]),
    (list[int], [[1, 2**53 + 1], []]),
]


@pytest.mark.parametrize("sink", ["sqlite", "duckdb", "postgresql"])
def test_a_table_of_somebodys_own_holds_a_value_as_it_is_or_is_refused(sink: str, places: Places) -> None:
    """Each kind of answer into each type of column: refused beforehand, or read back equal, or left out."""
    loaded = 0
    for theirs in TYPES_OF_THEIRS:
        for annotation, said in VALUES:
            model = create_model("Answer", value=(annotation, ...))
            answers = [model.model_validate_json(json.dumps({"value": each})) for each in said]
            place = places.folder / uuid4().hex
            place.mkdir()
            if not _made(sink, places, place, f"CREATE TABLE answers (row_key TEXT PRIMARY KEY, value {theirs})"):
                continue
            try:
                columns, place, refused = places.load(sink, model, answers, place=place)
            except UserMistake:
                places.drop()
                continue
            stand = places.read(sink, model, columns, place)
            places.drop()
            expected = {f"key {n}": answer for n, answer in enumerate(answers) if n not in refused}
            assert stand == expected, (theirs, annotation)
            loaded += len(stand)
    assert loaded > 40


def _made(sink: str, places: Places, place: Path, create: str) -> bool:
    """Whether this database knows the type."""
    try:
        if sink == "duckdb":
            with duckdb.connect(str(place / "out.duckdb")) as connection:
                connection.execute(create)
        elif sink == "sqlite":
            connection = sqlite3.connect(place / "out.db")
            connection.execute(create)
            connection.close()
        else:
            with psycopg.connect(places.url) as connection:
                connection.execute(create)
    except (duckdb.Error, sqlite3.Error, psycopg.Error):
        return False
    return True


@pytest.mark.parametrize("sink", SINKS)
def test_columns_whose_names_differ_in_one_odd_character_are_told_apart(sink: str, places: Places) -> None:
    """`make properties` found this: a library made one name of `a b`, `a.b` and `a:b`."""
    names = ["a b", "a.b", "a:b", "a_b", "a%b", "a(b)", "a[b]", "a-b"]
    fields: dict[str, Any] = {f"field_{n}": (str, Field(alias=name)) for n, name in enumerate(names)}
    model = create_model("Answer", __config__=ConfigDict(serialize_by_alias=True), **fields)
    answers = [model.model_validate({name: f"{name} of {row}" for name in names}) for row in "xy"]
    columns, place, refused = places.load(sink, model, answers)
    assert refused == {}
    assert places.read(sink, model, columns, place) == {"key 0": answers[0], "key 1": answers[1]}
    places.drop()


# What plan refuses


class Own(BaseModel):
    total: int

    @field_serializer("total")
    def in_words(self, total: int) -> str:
        return f"{total} EUR"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Tags(RootModel[list[str]]):
    pass


class Where(BaseModel):
    town: str = Field(validation_alias=AliasPath("address", "town"))


class Twice(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    total: int = Field(validation_alias="sum", serialization_alias="amount")


class Cases(BaseModel):
    name: str
    Name: str


class Bare(BaseModel):
    people: list[list]  # as people write it


class Deep(BaseModel):
    people: list[Open] | None


class Guess(BaseModel):
    total: int

    @computed_field
    @property
    def twice(self) -> Any:
        return 2 * self.total


REFUSED: list[tuple[type[BaseModel], str]] = [
    (create_model("Answer", note=(Any, ...)), "Answer.note: says nothing of what may stand there; give it a type"),
    (create_model("Answer", note=(object, None)), "Answer.note: says nothing"),
    (create_model("Answer", tags=(list, ...)), "Answer.tags: says nothing"),
    (create_model("Answer", tags=(tuple, ...)), "Answer.tags: says nothing"),
    (Bare, "Bare.people: says nothing"),
    (create_model("Answer", tags=(set[str], ...)), "Answer.tags: is a set, which has no order.* use a list"),
    (create_model("Answer", tags=(frozenset[int] | None, None)), "Answer.tags: is a set"),
    (create_model("Answer", note=(dict, ...)), "Answer.note: a dict with keys of its own is not expressible"),
    (create_model("Answer", by_year=(list[dict[str, int]], ...)), "Answer.by_year: a dict with keys of its own"),
    (create_model("Answer", note=(Json[list[int]], ...)), "Answer.note: is JSON within text"),
    (create_model("Answer", note=(SecretStr, ...)), "Answer.note: is written by a function of its own"),
    (create_model("Answer", note=(Base64Bytes, ...)), "Answer.note: is written by a function of its own"),
    (create_model("Answer", note=(complex, ...)), "Answer.note: is complex"),
    (create_model("Answer", note=(Callable, ...)), "Answer.note: is no data"),
    (create_model("Answer", at=(dt.timedelta, ...), __config__=ConfigDict(ser_json_timedelta="float")), "lose digits"),
    (Own, "Own.total: is written by a function of its own.*computed_field"),
    (create_model("Answer", own=(Own | None, None)), "Answer.own.total: is written by a function"),
    (Open, "Open: allows fields that it does not name"),
    (Deep, "Deep.people: allows fields that it does not name"),
    (Tags, "Tags: is a RootModel; an answer is an object: put the value into a field"),
    (Where, r"Where.town: is read from within another value \(AliasPath\)"),
    (Twice, "Twice.total: is written as 'amount' and read as 'sum'"),
    (Cases, "Name: differs from 'name' in case only"),
    (Guess, "Guess.twice: is computed, and does not say what it returns"),
]


@pytest.mark.parametrize(("model", "words"), REFUSED)
def test_a_model_that_cannot_be_carried_is_refused_with_the_field_and_a_way_out(
    model: type[BaseModel], words: str
) -> None:
    with pytest.raises(UserMistake, match=words) as caught:
        api_schema(model)
    assert str(caught.value).startswith("answer.py: ")


@pytest.mark.parametrize("name", ["ctid", "xmin", "x" * 64])
def test_a_name_that_no_table_can_have_is_refused_before_anything_is_sent(name: str, tmp_path: Path) -> None:
    model = create_model("Answer", __config__=ConfigDict(serialize_by_alias=True), it=(int, Field(alias=name)))
    with pytest.raises(UserMistake, match=f"answer.py: {name}: "):
        open_sink(SinkSpec(kind="sql", url="postgresql://u@h/d", table="t"), tmp_path, model, {})


# What a model says that would be altered on the way is told to it


class Loose(BaseModel):
    score: float | None = None
    count: int = 0
    seen_at: dt.datetime | None = None
    words: list[str] = []
    parts: list[tuple[float, int]] = []


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('{"score": 1e999}', "score: inf is not finite; give a finite number"),
        ('{"score": "-Infinity"}', "score: -inf is not finite"),
        ('{"score": "NaN"}', "score: nan is not finite"),
        ('{"parts": [[1e400, 1]]}', "parts: inf is not finite"),
        ('{"count": 9223372036854775808}', "count: does not fit a 64-bit integer"),
        ('{"parts": [[1, -99999999999999999999]]}', "parts: does not fit a 64-bit integer"),
        ('{"words": ["a\\u0000b"]}', "words: holds a NUL character"),
        ('{"seen_at": "2024-03-01T10:00:00"}', "seen_at: '2024-03-01T10:00:00' has no zone; add one, such as"),
        ('{"score": null, "seen_at": "2024-03-01T10:00:00-05:00", "words": ["\\\\u0000", "99999999999999999999"]}', ""),
    ],
)
def test_a_value_that_would_be_altered_on_the_way_is_told_to_the_model(said: str, problem: str) -> None:
    verdict = judge_answer(said, answer=Loose, checks=(), built_in={}, row=dict, outputs=list)
    assert [each[: len(problem)] for each in verdict.problems] == ([problem] if problem else [])


# One answer that a sink does not take

OWN_TABLES = {
    "sqlite": "word TEXT CHECK (length(word) < 20), number INTEGER UNIQUE, tags TEXT",
    "postgresql": "word VARCHAR(19), number INT UNIQUE DEFERRABLE INITIALLY DEFERRED, tags JSONB",
    "duckdb": "word VARCHAR CHECK (length(word) < 20), number BIGINT UNIQUE, tags VARCHAR[]",
}
LONG = "漢" * 300


def _make_table(sink: str, home: Home, columns: str) -> None:
    url = str(home.sink["url"])
    create = f"CREATE TABLE words (row_key VARCHAR PRIMARY KEY, {columns})"
    if sink == "duckdb":
        with duckdb.connect(url.removeprefix("duckdb:///")) as connection:
            connection.execute(create)
        return
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(sql_text(create))
    engine.dispose()


def _why(home: Home) -> dict[str, str]:
    query = (
        "SELECT r.row_key, n.detail FROM row r JOIN note n ON n.row_no = r.row_no "
        "WHERE r.state = 'quarantined' AND r.reason = 'unloadable'"
    )
    return dict(tuple(each) for each in ask_ledger(home.folder, query))


@pytest.mark.parametrize("sink", ["parquet", "parquet in partitions", "csv", "jsonl", "sqlite", "postgresql", "duckdb"])
def test_one_answer_that_a_sink_does_not_take_is_set_aside_in_its_words_and_the_others_are_loaded(
    sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("ROWTIDE_LEDGER", raising=False)
    home = Home(tmp_path, {**sink_of(sink, tmp_path, lambda: request.getfixturevalue("postgres_url")), "part_rows": 6})
    answers: dict[str, dict[str, Any]] = {key: {"word": f"w {key}", "number": n} for n, key in enumerate("abcdefghij")}
    answers["b"]["word"], answers["d"]["number"] = "a\0b", 2**70
    expected = {"b": "word: holds a NUL", "d": "number: does not fit"}
    if sink in OWN_TABLES:
        _make_table(sink, home, OWN_TABLES[sink])
        answers["f"]["word"], answers["h"]["number"], answers["j"]["number"] = LONG, 2, 9
        expected |= {"f": "", "h": ""}
        answers["i"]["number"] = 77
    if "partitions" in sink:
        answers["f"]["word"], answers["h"]["word"] = LONG, "__HIVE_DEFAULT_PARTITION__"
        expected |= {"f": "word: '漢漢", "h": "word: '__HIVE_DEFAULT"}
    home.accept("one", answers)
    assert home.load("one") == len(answers) - len(expected)
    why = _why(home)
    assert {key: why[key][: len(words)] for key, words in expected.items()} == expected
    assert why.keys() == expected.keys()
    assert set(home.rows()) == answers.keys() - expected.keys()
    assert home.load("one") == 0


@pytest.mark.parametrize("sink", ["sqlite", "postgresql", "duckdb"])
def test_a_sink_that_refuses_every_row_alike_stops_the_run_and_no_row_is_set_aside(
    sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("ROWTIDE_LEDGER", raising=False)
    home = Home(tmp_path, sink_of(sink, tmp_path, lambda: request.getfixturevalue("postgres_url")))
    _make_table(sink, home, f"{OWN_TABLES[sink]}, owner VARCHAR NOT NULL")  # which no answer has
    home.accept("one", {key: {"word": key, "number": n} for n, key in enumerate("abcde")})
    with pytest.raises(UserMistake, match=r"it refuses every row, so nothing is loaded.*owner"):
        home.load("one")
    assert home.states("one") == {"accepted": 5}


# One name for each field


class Named(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    total: int = Field(alias="Total, EUR")
    person: Person

    @computed_field(alias="Twice")
    @property
    def twice(self) -> int:
        return 2 * self.total


class Plain(Named):
    model_config = ConfigDict(serialize_by_alias=False)


@pytest.mark.parametrize("by_alias", [True, False])
def test_a_field_with_an_alias_is_judged_shown_and_given_back_under_one_name(by_alias: bool, tmp_path: Path) -> None:
    model = (
        Named if by_alias else create_model("Plain", __base__=Named, __config__=ConfigDict(serialize_by_alias=False))
    )
    total, twice = ("Total, EUR", "Twice") if by_alias else ("total", "twice")
    said = '{"Total, EUR": 7, "person": {"Full Name": "A", "age": null, "tags": [null]}}'
    answer = json.loads(judge_answer(said, answer=model, checks=(), built_in={}, row=dict, outputs=list).content)
    assert gate_column_names(model) == [total, "person", twice] == list(answer)

    gate = tmp_path / "gate.yaml"
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": twice, "max_value": 10}}
    gate.write_text(json.dumps([rule]))
    suite = load_suite(gate, "answers", gate_column_names(model))
    assert [list(each.failed) for each in PageJudge(suite, suite.of("rows")).judge([(1, answer)])] == [[1]]
    with pytest.raises(UserMistake, match="the answer has no column 'Totl'; did you mean"):
        gate.write_text(json.dumps([{**rule, "kwargs": {"column": "Totl", "max_value": 10}}]))
        load_suite(gate, "answers", gate_column_names(model))

    shape = SheetShape({"id": frozenset({"text"})}, tuple(fields_to_fill_in(model)))
    entry = SheetEntry(1, 2, "k", "quarantined", "why", "so", 3, False, {"id": "k"}, answer)
    out = io.StringIO(newline="")
    write_csv_sheet(out, shape.columns, [sheet_record(entry, "r1", shape)])
    assert f'answer.{total}"' in out.getvalue() or f"answer.{total}," in out.getvalue()
    lines = read_sheet(out.getvalue().encode(), "s.csv", run_id="r1", shape=shape)
    lines[0].cells[f"answer.{total}"] = "8"
    (edited,) = edits_of_sheet(lines, {"k": entry}, EditRules("s.csv", shape, ["id"], 10**6, model, []), [])
    assert edited.answer is not None
    assert json.loads(edited.answer) == {**answer, total: 8, twice: 16}
    lines[0].cells[f"answer.{total}"] = "eight"
    with pytest.raises(UserMistake, match=f"s.csv:2: answer.{total}: "):
        edits_of_sheet(lines, {"k": entry}, EditRules("s.csv", shape, ["id"], 10**6, model, []), [])


# Killed at every effect of a load that leaves rows out


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["parquet in partitions", "sqlite"])
def test_a_load_that_leaves_a_row_out_can_be_killed_at_every_effect(
    sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROWTIDE_LEDGER", raising=False)

    def made(name: str) -> Home:
        folder = tmp_path / name
        folder.mkdir()
        home = Home(folder, sink_of(sink, folder, lambda: ""))
        if sink in OWN_TABLES:
            _make_table(sink, home, OWN_TABLES[sink])
        answers = {key: {"word": f"w {key}", "number": n} for n, key in enumerate("abcd")}
        home.accept("one", answers)
        home.load("one")
        home.accept("two", {**answers, "b": {"word": LONG, "number": 1}, "e": {"word": "new", "number": 9}})
        return home

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as hand:
        calm = made("calm")
        effects, expected = effects_of(hand, calm, "two"), calm.rows()
        assert expected["b"]["word"] == "w b", "what an earlier run loaded of the row that is left out stands"
        for number, effect in enumerate(effects, 1):
            trial = made(f"died-{number}")
            ends = hand.submit(die_five_times, trial, "two", Death(number, "after")).result()
            assert (ends[0], ends[-1]) == (KILLED, 0), f"{effect}: {ends}"
            assert trial.rows() == expected, f"died after {effect}"
            assert trial.states("two") == {"loaded": 4, "quarantined": 1}, f"died after {effect}"
