"""The closing lines of a run: in the order a person asks, and nothing more unless asked for."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import make_job, run
from hypothesis import given
from hypothesis import strategies as st

from rowtide.gates.answer_quality import DISTINCT_COUNTED, AnswerQuality
from rowtide.ledger.ledger import Ledger, find_run, ledger_url
from rowtide.ledger.read.pace_of_earlier_runs import read_pace
from rowtide.ledger.read.progress import read_progress
from rowtide.quarantine.cause_groups import Cause, cause_signature, group_causes
from rowtide.report.answers_text import answer_lines

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(["a", "b ", "", "x" * 200]),
    st.lists(st.integers(0, 2), max_size=2),
)


@given(st.lists(st.lists(values, max_size=8), max_size=5))
def test_a_fields_quality_is_what_counting_all_its_values_gives(pages: list[list[Any]]) -> None:
    quality = AnswerQuality(["field"])
    for page in pages:
        quality.add([{"field": value} for value in page])
    known = [orjson.dumps(value) for page in pages for value in page if value is not None]
    texts = [len(value.strip()) for page in pages for value in page if isinstance(value, str)]
    found = quality.fields()["field"]
    assert (found.rows, found.distinct) == (len(known), len(set(known)))
    assert found.top_rows == max(Counter(known).values(), default=0)
    assert found.shortest == min(texts, default=None)


def test_memory_does_not_grow_with_values_that_all_differ() -> None:
    quality = AnswerQuality(["id"])
    quality.add([{"id": n} for n in range(DISTINCT_COUNTED + 5_000)])
    quality.add([{"id": 7}])
    found = quality.fields()["id"]
    assert (found.rows, found.distinct, found.top, found.top_rows) == (
        DISTINCT_COUNTED + 5_001,
        DISTINCT_COUNTED,
        "7",
        2,
    )


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("country: 'XX' is no code", "country: 'unknown' is no code", True),
        ("12 of 40 tokens", "7 of 1,024.5 tokens", True),
        ('it says "Energy"', 'it says "Health Care"', True),
        ("country: 'XX' is no code", "sector: 'XX' is no code", False),
        ("call countries.* first", "call registers.* first", False),
    ],
)
def test_causes_that_differ_in_values_alone_are_one_group(one: str, other: str, is_same: bool) -> None:
    assert (cause_signature(one) == cause_signature(other)) is is_same


def test_causes_are_grouped_by_reason_largest_first_with_their_first_rows() -> None:
    causes = [Cause(f"k{n}", "not_verified", f"total: '{n}' is not the sum") for n in range(8)]
    found = group_causes([Cause("odd", "gate", "total: '9' is not the sum"), *causes])
    assert [(each.reason, each.rows, each.row_keys[0]) for each in found] == [
        ("not_verified", 8, "k0"),
        ("gate", 1, "odd"),
    ]
    assert len(found[0].row_keys) == 5


def test_what_came_out_says_what_is_right_and_warns_of_one_answer_for_everything() -> None:
    field = {"rows": 40, "distinct": 2, "top": '"unknown"', "top_rows": 39, "shortest": 7}
    found = {
        "made_up": 0,
        "api": "",
        "loaded": 40,
        "golden": {"rows": 10, "right": 8, "quarantined": 1},
        "answers": {"sector": field},
        "answers_read": 40,
    }
    assert answer_lines(found) == [
        "golden   8 of 10 known answers right (80%), 1 wrong, 1 quarantined",
        'fields   sector: 2 different, 98% "unknown"',
        'warning  98% of the 40 answers say sector: "unknown"',
    ]


@pytest.mark.usefixtures("api")
def test_while_a_run_goes_on_its_end_and_cost_are_foreseen_from_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    job = make_job(tmp_path / "job", rows=4)
    first = run(job, run_id="r-1")
    (job / "rows.csv").write_text("id,message\n" + "".join(f"n{n},the parcel is late ({n})\n" for n in range(8)))
    run(job, run_id="r-2")
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.view() as tx:
        earliest, newest = find_run(tx, "r-1"), find_run(tx, "r-2")
        assert read_pace(tx, earliest) is None, "nothing went before it"
        pace, seen = read_pace(tx, newest), read_progress(tx, newest)
    ledger.close()
    assert pace is not None
    assert pace.row_usd == pytest.approx(first["cost_usd"] / 4)
    assert pace.outlook(seen, seen.began_at).startswith(f"of about ${first['cost_usd'] * 2:.2f} · about ")
    late = seen.began_at + pace.duration + timedelta(seconds=1)
    assert "longer than earlier runs" in pace.outlook(seen, late)
