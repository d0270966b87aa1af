"""Loading: killed anywhere and begun again, it ends as if nothing had happened; and the later run has the last word."""

import asyncio
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest
from conftest import NOW, ask_ledger, make_job, make_run
from sqlalchemy import create_engine, text

from chaos.effects import KILLED, Death, Effects
from rowtide.errors import UserMistake
from rowtide.intake.admission import Admission
from rowtide.job.job_folder import load_job
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, ledger_url
from tasks.load import load

ANSWER = """
from pydantic import BaseModel


class Answer(BaseModel):
    word: str
    number: int
    tags: list[str] = []
"""
Answers = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Home:
    """A ROWTIDE_HOME with a job, and the sink that its job names."""

    folder: Path
    sink: Mapping[str, Any]

    def accept(self, run_id: str, answers: Answers) -> None:
        """Begin a run whose rows have all been accepted, with these answers."""
        job = make_job(self.folder / "job", rows=1, answer=ANSWER, sink=dict(self.sink))
        ledger = Ledger(ledger_url(None, self.folder))
        found = load_job(job).version
        version = {"asking": found.asking, "judging": found.judging, "parts": found.record()}
        run = make_run(ledger, run_id, job_folder=str(job), **version)
        rows = [Admission(run.first_row_no + n, key, f"{run_id} {key}", b"{}") for n, key in enumerate(answers, 1)]
        said = [{"no": row.row_no, "said": json.dumps({"tags": [], **answers[row.row_key]}).encode()} for row in rows]
        with ledger.page() as tx:
            assert ledger_rows.admit_rows(tx, run, rows, read_before=0, read_after=len(rows), now=NOW)
            accepted = "UPDATE row SET state = 'accepted', tier = 1, turn = 3, cost_micro = 1250 WHERE run_no = :run"
            tx.execute(text(accepted), {"run": run.run_no})
            tx.execute(text("INSERT INTO answer (row_no, content) VALUES (:no, :said)"), said)
        ledger.close()

    def load(self, run_id: str) -> int:
        os.environ["ROWTIDE_HOME"] = str(self.folder)
        return asyncio.run(load(run_id))

    def states(self, run_id: str) -> dict[str, int]:
        query = f"SELECT state, count(*) FROM row JOIN run USING (run_no) WHERE run_id = '{run_id}' GROUP BY state"
        return dict(tuple(each) for each in ask_ledger(self.folder, query))

    def rows(self) -> dict[str, dict[str, Any]]:
        """What stands in the sink: key → row. Fails when a key stands there twice, or the manifest says otherwise."""
        assert not self.sink.get("path") or self.listed() == {str(f.relative_to(self.out)) for f in self.files()}
        return self.standing()

    def standing(self) -> dict[str, dict[str, Any]]:
        """What stands in the sink, perhaps in the midst of a load."""
        rows = [dict(row) for row in READ[self.sink["kind"]](self)]
        found = {row.pop("row_key"): row for row in rows}
        assert len(found) == len(rows), "a key stands twice"
        return {key: found[key] for key in sorted(found)}

    @property
    def out(self) -> Path:
        return self.folder / self.sink["path"]

    def files(self) -> list[Path]:
        return sorted(self.out.rglob(f"*.{self.sink['kind']}"))

    def listed(self) -> set[str]:
        manifest = self.out / "_manifest.json"
        return set(json.loads(manifest.read_bytes())["files"]) if manifest.is_file() else set()

    def words(self) -> dict[str, str]:
        return {key: row["word"] for key, row in self.rows().items()}


def _of_folder(home: Home) -> list[dict[str, Any]]:
    files, format = [str(file) for file in home.files()], home.sink["kind"].replace("jsonl", "json")
    if not files:
        return []
    return (
        ds.dataset(files, format=format, partitioning="hive", partition_base_dir=str(home.out)).to_table().to_pylist()
    )


def _of_table(home: Home) -> list[dict[str, Any]]:
    if home.sink["url"].startswith("duckdb"):
        with duckdb.connect(home.sink["url"].removeprefix("duckdb:///")) as connection:
            return connection.sql("FROM words").to_arrow_table().to_pylist()
    engine = create_engine(home.sink["url"])
    with engine.connect() as tx:
        rows = [dict(row) for row in tx.execute(text("SELECT * FROM words")).mappings()]
    engine.dispose()
    return rows


READ: dict[str, Callable[[Home], list[dict[str, Any]]]] = {
    "parquet": _of_folder,
    "csv": _of_folder,
    "jsonl": _of_folder,
    "sql": _of_table,
}


def sink_of(kind: str, folder: Path, postgres_url: Callable[[], str]) -> dict[str, Any]:
    urls = {"sqlite": f"sqlite:///{folder}/out.db", "duckdb": f"duckdb:///{folder}/out.duckdb"}
    if kind in urls or kind == "postgresql":
        return {"kind": "sql", "url": urls.get(kind) or postgres_url(), "table": "words", "part_rows": 3}
    plain = {"kind": kind.partition(" ")[0], "path": "out", "part_rows": 3}
    return plain | ({"partition_by": "word"} if "partitions" in kind else {})


KINDS = ["parquet", "parquet in partitions", "csv", "jsonl", "sqlite", "postgresql", "duckdb"]


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("ROWTIDE_LEDGER", raising=False)
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    return Home(tmp_path, sink_of(request.param, tmp_path, lambda: request.getfixturevalue("postgres_url")))


def said(word: str, keys: str) -> dict[str, dict[str, Any]]:
    return {key: {"word": word, "number": n, "tags": ["a"] * (n % 3)} for n, key in enumerate(keys)}


def test_accepted_rows_are_loaded_once_in_parts(home: Home) -> None:
    home.accept("one", said("w", "abcdefgh"))
    assert (home.load("one"), home.load("one")) == (8, 0)
    assert home.words() == dict.fromkeys("abcdefgh", "w")
    assert home.states("one") == {"loaded": 8}
    assert len(ask_ledger(home.folder, "SELECT part FROM load")) == 3


@pytest.mark.parametrize("order", ["in order", "the earlier one last", "the earlier one in between"])
def test_of_two_runs_that_overlap_the_later_one_has_the_last_word(home: Home, order: str) -> None:
    home.accept("one", said("early", "abcdef"))
    home.accept("two", said("late", "defghi"))
    match order:
        case "in order":
            loaded = home.load("one"), home.load("two")
        case "the earlier one last":
            loaded = tuple(reversed((home.load("two"), home.load("one"))))
        case _:
            home.accept("three", said("latest", "af"))
            loaded = home.load("two"), home.load("one")
            assert home.load("three") == 2
    assert loaded == (6, 6)
    latest = dict.fromkeys("af", "latest") if "between" in order else {}
    assert home.words() == {**dict.fromkeys("abc", "early"), **dict.fromkeys("defghi", "late"), **latest}
    assert (home.states("one"), home.states("two")) == ({"loaded": 6}, {"loaded": 6})
    superseded = ask_ledger(home.folder, "SELECT row_key FROM row WHERE reason = 'superseded' ORDER BY 1")
    assert [key for (key,) in superseded] == ([] if order == "in order" else list("def"))


def test_a_row_that_no_sink_can_hold_is_quarantined_and_the_others_are_loaded(home: Home) -> None:
    answers = said("w", "abcd")
    answers["b"]["word"] = "a\0b"
    home.accept("one", answers)
    assert home.load("one") == 3
    assert list(home.words()) == ["a", "c", "d"]
    assert ask_ledger(home.folder, "SELECT row_key, reason, load_no FROM row WHERE state = 'quarantined'") == [
        ("b", "unloadable", None)
    ]


def test_a_row_says_where_it_comes_from_if_that_is_wanted(home: Home) -> None:
    home = Home(home.folder, {**home.sink, "lineage": True})
    home.accept("one", said("w", "ab"))
    home.load("one")
    for row in home.rows().values():
        assert (row["_run"], row["_tier"], row["_turns"], row["_cost_usd"]) == ("one", "sonnet", 3, 0.00125)
        assert str(row["_loaded_at"])[:2] == "20"
    with pytest.raises(UserMistake, match="_run: stands there as text, and is no longer loaded: say `sink.lineage: tr"):
        other = Home(home.folder, {name: value for name, value in home.sink.items() if name != "lineage"})
        other.accept("two", said("w", "c"))
        other.load("two")


def test_a_sink_given_up_for_a_while_still_holds_each_key_once(home: Home) -> None:
    """A key is remembered for each sink, not for the last one only."""
    elsewhere = Home(home.folder, {"kind": "jsonl", "path": "elsewhere"})
    for number, place in enumerate((home, elsewhere, home)):
        place.accept(f"run-{number}", said(f"w{number}", "abc"))
        assert place.load(f"run-{number}") == 3
    assert home.words() == dict.fromkeys("abc", "w2")


# Killed at every effect: as in `make chaos`, each life is forked from a process that has imported everything.


@pytest.fixture(scope="module")
def hand() -> Generator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def live(home: Home, run_id: str, death: Death | None) -> int:
    """One life that loads, in the hand's process. Returns its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        effects = Effects(home.folder, death)
        effects.install()
        home.load(run_id)
        (home.folder / "effects.json").write_text(json.dumps(effects.labels))
        status = 0
    except BaseException:  # noqa: BLE001 # the forked life must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def die_five_times(home: Home, run_id: str, first: Death) -> list[int]:
    """Load, dying at `first`; then four times more, each a little further on; then to the end."""
    deaths = [first, *(Death(first.number % 5 + 2 * n, first.when) for n in range(1, 5)), None]
    return [live(home, run_id, death) for death in deaths]


@pytest.fixture(params=["parquet", "parquet in partitions", "sqlite", "postgresql"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Home]:
    """Makes homes with two runs that overlap, all accepted."""

    def made(name: str) -> Home:
        folder = tmp_path / name
        home = Home(folder, sink_of(request.param, folder, lambda: request.getfixturevalue("postgres_url")))
        if request.param == "postgresql":
            empty(home.sink["url"])
        for run_id, answers in RUNS.items():
            home.accept(run_id, answers)
        return home

    return made


def effects_of(hand: ProcessPoolExecutor, home: Home, run_id: str) -> list[str]:
    assert hand.submit(live, home, run_id, None).result() == 0
    return json.loads((home.folder / "effects.json").read_text())


@pytest.mark.slow
def test_a_run_loaded_five_times_and_killed_each_time_equals_one_clean_load(
    hand: ProcessPoolExecutor, made: Callable[[str], Home]
) -> None:
    """It is the second of two that overlap, so it takes rows out of the first one's parts, too."""
    calm = made("calm")
    calm.load("one")
    effects, expected = effects_of(hand, calm, "two"), calm.rows()
    assert len(expected) == 9
    for number, effect in enumerate(effects, 1):
        trial = made(f"died-{number}")
        trial.load("one")
        ends = hand.submit(die_five_times, trial, "two", Death(number, "after")).result()
        assert (ends[0], ends[-1], set(ends) <= {0, KILLED}) == (KILLED, 0, True), f"{effect}: {ends}"
        assert trial.rows() == expected, f"died after {effect}"
        assert trial.states("two") == {"loaded": 6}


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "other"), [("one", "two"), ("two", "one")])
def test_a_run_killed_while_it_loads_and_another_that_loads_meanwhile_leave_each_key_once(
    hand: ProcessPoolExecutor, made: Callable[[str], Home], killed: str, other: str
) -> None:
    calm = made("calm")
    effects = effects_of(hand, calm, killed)
    calm.load(other)
    expected = calm.rows()
    assert {key: row["word"] for key, row in expected.items()} == dict(zip("abcdefghi", WORDS, strict=True))
    for number, effect in enumerate(effects, 1):
        trial = made(f"died-{number}")
        assert hand.submit(live, trial, killed, Death(number, "after")).result() == KILLED
        trial.load(other)
        assert set(trial.standing()) >= set(RUNS[other]), f"a key is missing while {killed}, died after {effect}, lies"
        trial.load(killed)
        assert trial.rows() == expected, f"{killed} died after {effect}"


RUNS = {"one": said("early", "abcdef"), "two": said("late", "efg") | said("w", "hib")}
WORDS = ["early", "w", "early", "early", "late", "late", "late", "w", "w"]


def empty(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text("DROP TABLE IF EXISTS words, rowtide_loads"))
    engine.dispose()
