"""Where rows start by the rules of `start`: what a condition may say, and that it always says the same."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from conftest import NOW, ask_ledger, make_job, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.show import history_lines
from rowtide.errors import UserMistake
from rowtide.intake.admission import Admission
from rowtide.job.job_spec import StartSpec
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.ledger.read.row_history import row_history
from rowtide.routing.start_rules import FUNCTIONS, compile_rules, open_rule_matcher
from rowtide.stages.extract.begin_run import RunOptions, begin_new_run
from rowtide.stages.preflight import plan_run
from tasks.route import route

COLUMNS = ["message", "price", "order"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text("start:\n  - when: one\n  - tier: sonnet\n    when: two\n")
    return tmp_path


def matches(folder: Path, rows: list[dict[str, Any]], *conditions: str) -> list[int | None]:
    with open_rule_matcher(
        compile_rules([StartSpec(when=each) for each in conditions], COLUMNS, folder), folder
    ) as asker:
        return asker.first_matches(rows)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("1=1); DROP TABLE page; SELECT (1", "not a condition"),
        ("1=1) --", "not a condition"),
        ("1=1) /*", "not a condition"),
        ("1=1) FROM read_text('/etc/passwd') WHERE (1=1", "nothing beside it"),
        ("1=1) UNION SELECT (1=1", "nothing beside it"),
        ("1=1), (2=2", "nothing beside it"),
        ("message IN (SELECT 'x')", "another query"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", "another query"),
        ("read_text('/etc/passwd') = 'x'", "'read_text' is not a function"),
        ("getenv('HOME') = 'x'", "'getenv' is not a function"),
        ("current_setting('threads') = '1'", "'current_setting' is not a function"),
        ("getvariable('x') = '1'", "'getvariable' is not a function"),
        ("random() > 0.5", "'random' is not a function"),
        ("now() > '2026-01-01'", "'now' is not a function"),
        ("current_date > '2026-01-01'", "'current_date' is not a column"),
        ("price::TIMESTAMPTZ > '2026-01-01'", "not a type"),  # it would depend on where the machine stands
        ("system.main.lower(message) = 'x'", "'lower' is not a function"),
        ("sum(length(message)) > 3", "'sum' is not a function"),
        ("row_number() OVER () > 3", "other rows"),
        ("COLUMNS(*) = 'x'", "all columns at once"),
        ("repeat(message, 1000000000) = 'x'", "'repeat' is not a function"),
        ("PRAGMA version", "not a condition"),
        ("ATTACH 'x'", "not a type"),
        ("COPY page TO 'x'", "not a condition"),
        ("INSTALL httpfs", "not a condition"),
        ("$1 = 'x'", "parameter"),
        ("(" * 998 + "1=1" + ")" * 998, "not a condition"),
        ("message = '" + "x" * 5000 + "'", "at most 2,000"),
        ("message = 'a\x00'", "control characters"),
        ("", "empty"),
        ("length(message)", "is bigint, not true or false"),
        ("message", "is varchar, not true or false"),
        ("price > 9", "every column is text: TRY_CAST"),
        ("pirce = '9'", "'pirce' is not a column of the source; columns: message, price, order; did you mean 'price'?"),
        ("Price = '9'", "did you mean 'price'?"),
        ("page.price = '9'", "not a column"),
        ("lowr(message) = 'x'", "did you mean 'lower'?"),
    ],
)
def test_a_condition_is_one_expression_over_the_row_and_nothing_else(folder: Path, condition: str, said: str) -> None:
    with pytest.raises(UserMistake) as refused:
        compile_rules([StartSpec(when="true"), StartSpec(when=condition)], COLUMNS, folder)
    assert said in str(refused.value)
    assert refused.value.key == "start.1.when"
    assert str(refused.value).startswith(f"{folder / 'job.yaml'}:4: ")


def test_what_conditions_may_call_depends_on_its_arguments_alone() -> None:
    """By DuckDB's own word: none is volatile, none differs between queries. A macro is put together from others."""
    with duckdb.connect() as connection:
        query = "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()"
        found = connection.execute(query).fetchall()
    kinds = {(kind, stability) for name, kind, stability in found if name in FUNCTIONS}
    assert kinds == {("scalar", "CONSISTENT"), ("macro", None)}
    assert {name for name, kind, _ in found if kind == "macro" and name in FUNCTIONS} == {"if", "nullif", "split_part"}


def test_the_first_condition_that_holds_decides_and_one_that_fails_does_not(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"message": "late", "price": 12.5, "order": {"n": 3}},
        {"message": "late", "price": "twelve", "order": None},
        {"message": None, "price": True},
        {"message": "x", "price": None, "order": [1, 2]},
    ]
    found = matches(
        folder,
        rows,
        "message = 'late' AND price::DOUBLE > 10 -- fails for 'twelve'",
        "price = 'true' OR json_extract_string(\"order\", '$[1]') = '2'",
        "message IS NOT NULL",
    )
    assert found == [1, 3, 2, 2]


def test_what_a_condition_means_does_not_depend_on_the_page(folder: Path) -> None:
    conditions = ["TRY_CAST(price AS DOUBLE) > 9", "price IS NULL", "length(price) > 3"]
    rows: list[dict[str, Any]] = [{"price": value} for value in (None, None, 10, 9.5, "10", "n/a", 2**60, False)]
    alone = [matches(folder, [row], *conditions)[0] for row in rows]
    assert alone == [2, 2, 1, 1, 1, None, 1, 3]
    assert matches(folder, rows * 1000, *conditions) == alone * 1000


CELL = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just("12")
)
ROW = st.dictionaries(st.sampled_from(COLUMNS), CELL | st.lists(CELL, max_size=2))
LEAF = st.sampled_from(
    [
        "message = '12'", "price::INT > 5", "TRY_CAST(price AS DOUBLE) / 0 > 1", "message LIKE '%1%'",
        "length(message) > 3", "\"order\" IS NULL", "price IN ('12', '')", "message::BOOLEAN",
        "sqrt(price::DOUBLE) > 2", "json_valid(\"order\")", "coalesce(message, price) > 'a'",
        "substr(message, 2, 1) = price",
        "regexp_matches(message, '^[a-z]+$')", "price::BIGINT * 4611686018427387904 > 0", "price BETWEEN '1' AND '9'",
    ]
)  # fmt: skip
CONDITION = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR", "IS DISTINCT FROM"]), inner).map(
            lambda each: f"(({each[0]}) {each[1]} ({each[2]}))"
        ),
        inner.map(lambda each: f"NOT ({each})"),
        st.tuples(inner, inner, inner).map(lambda each: "CASE WHEN {} THEN {} ELSE {} END".format(*each)),
    ),
    max_leaves=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(ROW, min_size=1, max_size=30), conditions=st.lists(CONDITION, min_size=1, max_size=3))
def test_a_page_at_once_meets_what_each_row_meets_alone(
    folder: Path, rows: list[dict[str, Any]], conditions: list[str]
) -> None:
    kept = [orjson.loads(orjson.dumps(row)) for row in rows]
    start = [StartSpec(when=each) for each in conditions]
    with open_rule_matcher(compile_rules(start, COLUMNS, folder), folder) as asker:
        assert asker.first_matches(kept) == [asker.first_matches([row])[0] for row in kept]


RULES = [
    {"when": "TRY_CAST(size AS INT) % 7 = 0", "tier": "sonnet", "effort": "high", "turns": 3},
    {"when": "size LIKE '%3'", "effort": "low"},
]


def admitted(folder: Path, home: Path, rows: int, **spec: Any) -> str:
    """A run whose rows are in, and are nowhere on the ladder yet."""
    lines = "".join(f"r{n},{n}\n" for n in range(1, rows + 1))
    job = make_job(folder, rows="id,size\n" + lines, prompt="{{ size }}\n", **spec)
    ledger = Ledger(ledger_url(None, home))
    found = asyncio.run(plan_run(job, None, {}))
    begun = begin_new_run(ledger, found, RunOptions("run-1", lane="batch"), now=NOW)
    admissions = [
        Admission(begun.first_row_no + n, f"r{n}", f"{n:032}", orjson.dumps({"id": f"r{n}", "size": f"{n}"}))
        for n in range(1, rows + 1)
    ]
    with ledger.page() as tx:
        ledger_rows.admit_rows(tx, begun, admissions, read_before=0, read_after=rows, now=NOW)
    ledger.close()
    return begun.run_id


STARTS = "SELECT row_no, tier, effort, turn_limit, rule FROM row ORDER BY row_no"


def test_rules_say_tier_effort_and_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    run_id = admitted(tmp_path / "job", tmp_path / "home", 14, start=RULES)
    assert asyncio.run(route(run_id)) == 14
    found = [tuple(each[1:]) for each in ask_ledger(tmp_path / "home", STARTS)]
    assert found[6] == found[13] == (1, "high", 3, 1)
    assert found[2] == found[12] == (0, "low", None, 2)
    assert found[0] == (0, None, None, None)


def test_a_job_without_rules_starts_all_rows_on_the_lowest_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    run_id = admitted(tmp_path / "job", tmp_path / "home", 3)
    assert asyncio.run(route(run_id)) == 3
    assert {tuple(each[1:]) for each in ask_ledger(tmp_path / "home", STARTS)} == {(0, None, None, None)}


DIES = """
import asyncio, os, signal, sys
from sqlalchemy import Engine, event
from tasks.route import route

seen = 0

def look(connection, cursor, statement, *_):
    global seen
    seen += statement.startswith("UPDATE row SET tier")
    if seen == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(Engine, "after_cursor_execute", look)
asyncio.run(route(sys.argv[1]))
"""


def route_in_a_child(home: Path, run_id: str, *, die_at: int) -> int:
    child = subprocess.run(
        [sys.executable, "-c", DIES, run_id, str(die_at)],
        env={**os.environ, "ROWTIDE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode in (0, -signal.SIGKILL), child.stderr
    return child.returncode


@pytest.mark.slow
def test_killed_between_two_pages_it_goes_on_and_every_row_starts_where_it_would_have(tmp_path: Path) -> None:
    """The kill comes when the second page is written and not yet committed."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for home in (undisturbed, killed):
        run_id = admitted(tmp_path / "job", home, 12_000, start=RULES)
    assert route_in_a_child(undisturbed, run_id, die_at=99) == 0
    assert route_in_a_child(killed, run_id, die_at=2) == -signal.SIGKILL
    assert ask_ledger(killed, "SELECT count(*) FROM row WHERE tier IS NOT NULL") == [(5000,)]
    assert route_in_a_child(killed, run_id, die_at=99) == 0
    assert ask_ledger(killed, STARTS) == ask_ledger(undisturbed, STARTS)
    assert ask_ledger(killed, "SELECT count(*) FROM row WHERE tier IS NULL") == [(0,)]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"start": [{"when": "true", "tier": "sonet"}]}, "start.0.tier: 'sonet' is not on this job's ladder: haiku"),
        ({"start": [{"when": "mesage = ''"}]}, "start.0.when: 'mesage' is not a column of the source"),
        ({"difficulty": {"columns": ["mesage"]}}, "difficulty.columns: 'mesage' is not a column of the source"),
        ({"difficulty": {"lookup": "mesage"}}, "difficulty.lookup: 'mesage' is not a column of the source"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_rules_is_found_before_a_row_is_read(tmp_path: Path, spec: Any, said: str) -> None:
    with pytest.raises(UserMistake) as refused:
        asyncio.run(plan_run(make_job(tmp_path / "job", **spec), None, {}))
    assert said in str(refused.value)
    assert "did you mean '" in str(refused.value)


def test_a_row_that_a_rule_started_higher_is_asked_there_and_show_says_so(api: Any, tmp_path: Path) -> None:
    rules = [{"when": "message LIKE '%parcel%'", "tier": "sonnet", "effort": "high"}]
    summary = run(make_job(tmp_path / "job", rows=6, start=rules))
    assert summary["loaded"] == 6
    asked = ask_ledger(tmp_path / "home", "SELECT row_key, t.tier FROM turn t JOIN row r ON r.row_no = t.row_no")
    assert {(key, tier) for key, tier in asked if key in ("m1", "m4")} == {("m1", 1), ("m4", 1)}
    assert {tier for key, tier in asked if key in ("m0", "m3")} == {0}
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.view() as tx:
        told = history_lines(row_history(tx, "m1"), width=None)
    ledger.close()
    assert "start    on sonnet, by rule 1 of `start`, effort high" in told
