"""What a run came to, read with nobody's code but the standard library's and Parquet's; and how two of them differ."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow.parquet as pq

from chaos.lives import RUN, Home

SECOND, DATABASE, TABLE = "second", "sink.db", "answers"  # sinks beside the job's: a folder, a table of a database

Kind = Literal["row lost", "batch paid twice", "row loaded twice", "money differs", "did not end", "report differs"]
KINDS: tuple[Kind, ...] = Kind.__args__

ROWS = "SELECT r.row_key, r.state, r.reason, a.content FROM row r LEFT JOIN answer a USING (row_no) ORDER BY r.row_key"
STANDING = (
    "SELECT r.row_key, 'version ' || r.version_no || coalesce(' in ' || (SELECT group_concat(l.sink, ' and ') FROM "
    "(SELECT sink FROM loaded WHERE row_key = r.row_key ORDER BY sink) l), '') FROM row r"
)
TOKENS = (
    "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), "
    "coalesce(sum(cache_write_tokens), 0), coalesce(sum(cache_read_tokens), 0) FROM turn"
)
BILLED = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
TOLD = ("rows", "loaded", "quarantined", "unchanged", "turns", "batches", "tool_calls", "cost_usd", "reasons")


@dataclass(frozen=True)
class Ending:
    """A run's rows, its results, its money on both sides."""

    rows: dict[str, tuple[str, str | None, bytes | None]]  # key → state, reason, answer
    standing: dict[str, str]  # key → the version it is on, and the sinks it stands in, as the ledger says
    results: dict[str, str]  # key → the whole result; of other sinks than the job's: sink, key
    twice: list[str]  # keys that stand in a sink more than once
    manifest_is_true: bool
    batches: int  # at the API
    tokens: tuple[int, ...]
    cost_micro: int
    billed_tokens: tuple[int, ...]
    billed_micro: int
    billed_requests: int
    repeated: int = 0  # live calls that were on the wire when a process died
    reserved_micro: int = 0  # what those may have cost
    report: dict[str, Any] = field(default_factory=dict)
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    detail: str


def ending_of(home: Home) -> Ending:
    """Read what a run came to: its ledger, its sink, its report, and the API's own accounts."""
    with closing(sqlite3.connect(home.folder / "ledger.db")) as ledger:
        rows = {key: (state, reason, answer) for key, state, reason, answer in ledger.execute(ROWS)}
        standing = {key: said.replace(str(home.folder), "") for key, said in ledger.execute(STANDING)}
        tokens = ledger.execute(TOKENS).fetchone()
        (cost,) = ledger.execute("SELECT coalesce(sum(cost_micro), 0) FROM turn").fetchone()
        (repeated,) = ledger.execute("SELECT count(*) FROM note WHERE reason = 'on_the_wire'").fetchone()
        (reserved,) = ledger.execute("SELECT coalesce(sum(reserved_micro), 0) FROM batch").fetchone()
    results, twice, manifest_is_true = _sinks(home.folder)
    batches = _batches(home)
    bill = bill_of(home)
    spool = home.folder / "spool"
    return Ending(
        rows=rows,
        standing=standing,
        results=results,
        twice=twice,
        manifest_is_true=manifest_is_true,
        batches=len(batches),
        tokens=tokens,
        cost_micro=cost,
        billed_tokens=tuple(bill[name] for name in BILLED),
        billed_micro=bill["cost_micro"],
        billed_requests=bill["requests"],
        repeated=repeated,
        reserved_micro=reserved,
        report=_report(home.folder / "reports" / f"{RUN}.json"),
        left_behind=tuple(sorted(file.name for file in spool.rglob("*") if file.is_file())),
    )


def differences(calm: Ending, other: Ending) -> list[Difference]:
    """How a disturbed run's end differs from an undisturbed one's."""
    return [Difference(kind, detail) for kind, detail in _differences(calm, other)]


def live_differences(calm: Ending, other: Ending) -> list[Difference]:
    """The same for live calls: those on the wire when a process died may have been paid for, and are made again."""
    found = [Difference(kind, detail) for kind, detail in _lost_or_twice(calm, other)]
    more = other.billed_requests - other.report["turns"]
    if not 0 <= more <= other.repeated:
        words = f"{more} more calls were billed than replies filed; {other.repeated} were noted as on the wire"
        found.append(Difference("batch paid twice", words))
    if not other.cost_micro <= other.billed_micro <= other.cost_micro + other.reserved_micro:
        words = f"{other.billed_micro} micro-dollars were billed; the ledger says {other.cost_micro}"
        found.append(Difference("money differs", f"{words} and up to {other.reserved_micro} more"))
    return found


def _differences(calm: Ending, other: Ending) -> Iterator[tuple[Kind, str]]:
    yield from _lost_or_twice(calm, other)
    if other.batches != calm.batches:
        yield "batch paid twice", f"{other.batches} batches at the API instead of {calm.batches}"
    if other.cost_micro != calm.cost_micro:
        yield "money differs", f"the ledger says {other.cost_micro} micro-dollars instead of {calm.cost_micro}"
    if other.tokens != other.billed_tokens:
        yield "money differs", f"the ledger counts {other.tokens} tokens, the API billed {other.billed_tokens}"
    if other.billed_micro != other.cost_micro:
        yield "money differs", f"the ledger says {other.cost_micro} micro-dollars, the API billed {other.billed_micro}"
    if not other.manifest_is_true:
        yield "report differs", "the sink's manifest does not list what stands there"
    for name in TOLD:
        if other.report.get(name) != calm.report.get(name):
            yield "report differs", f"{name}: {other.report.get(name)} instead of {calm.report.get(name)}"


def _lost_or_twice(calm: Ending, other: Ending) -> Iterator[tuple[Kind, str]]:
    for key in sorted(calm.rows.keys() | other.rows.keys()):
        if calm.rows.get(key) != other.rows.get(key):
            yield "row lost", f"{key}: {_brief(other.rows.get(key))} instead of {_brief(calm.rows.get(key))}"
    for key in sorted(calm.results.keys() | other.results.keys()):
        if calm.results.get(key) != other.results.get(key):
            yield "row lost", f"{key} in the sink: {other.results.get(key)} instead of {calm.results.get(key)}"
    for key in sorted(calm.standing.keys() & other.standing.keys()):
        if calm.standing[key] != other.standing[key]:
            yield "report differs", f"the ledger has {key} on {other.standing[key]} instead of {calm.standing[key]}"
    if other.twice:
        yield "row loaded twice", ", ".join(other.twice)


def _brief(row: object) -> str:
    return "nothing" if row is None else str(row)[:160]


def _sinks(home: Path) -> tuple[dict[str, str], list[str], bool]:
    """The job's own sink, and others that something was loaded into."""
    results, twice, is_true = sink_of(home / "results")
    theirs, theirs_twice, their_is_true = sink_of(home / SECOND)
    if (database := home / DATABASE).is_file():
        with closing(sqlite3.connect(database)) as sink:
            told = sink.execute(f"SELECT * FROM {TABLE} ORDER BY row_key").fetchall()
        theirs |= {f"{TABLE}, {row[0]}": json.dumps(row) for row in told}
    return (
        results | {f"{SECOND}, {key}": row for key, row in theirs.items()},
        twice + theirs_twice,
        is_true and their_is_true,
    )


def sink_of(folder: Path) -> tuple[dict[str, str], list[str], bool]:
    parts = {
        part.name: pq.ParquetFile(part).read(use_threads=False).to_pylist() for part in sorted(folder.glob("*.parquet"))
    }
    rows = [row for part in parts.values() for row in part]
    times = Counter(row["row_key"] for row in rows)
    manifest = folder / "_manifest.json"
    listed = json.loads(manifest.read_bytes())["files"] if manifest.is_file() else {}
    is_true = {name: len(part) for name, part in parts.items()} == {name: each["rows"] for name, each in listed.items()}
    results = {row["row_key"]: json.dumps(row, sort_keys=True) for row in rows}
    return results, [key for key, count in times.items() if count > 1], is_true


def _batches(home: Home) -> list[str]:
    found = _get(home, "/v1/messages/batches?limit=1000")
    assert not found["has_more"]
    return [batch["id"] for batch in found["data"]]


def bill_of(home: Home) -> dict[str, Any]:
    """What the API billed this account."""
    return _get(home, f"/_emulator/ledger?api_key={quote(home.account)}")["account"]


def _report(file: Path) -> dict[str, Any]:
    return json.loads(file.read_bytes()) if file.is_file() else {}


def _get(home: Home, path: str) -> dict[str, Any]:
    headers = {"x-api-key": home.account, "anthropic-version": "2023-06-01"}
    with urlopen(Request(home.api_url + path, headers=headers), timeout=60) as answer:
        return json.load(answer)
