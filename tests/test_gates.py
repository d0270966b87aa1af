"""A gate says which rows failed and why, in Great Expectations' own words."""

from pathlib import Path

import pandas as pd
import pytest

from rowtide.errors import UserMistake
from rowtide.gates.gates import Verdict, judge, load_suite

COLUMNS = ["code", "share", "tags"]
IN_SET = "- type: expect_column_values_to_be_in_set\n  kwargs: {column: code, value_set: [a, b]}\n"


def verdict(tmp_path: Path, suite: str, **columns: list[object]) -> Verdict:
    (tmp_path / "gate.yaml").write_text(suite)
    frame = pd.DataFrame({"row_no": range(10**10, 10**10 + len(next(iter(columns.values())))), **columns})
    return judge(load_suite(tmp_path / "gate.yaml", COLUMNS), frame)


def test_a_row_that_fails_is_named_by_number_with_its_value(tmp_path: Path) -> None:
    found = verdict(tmp_path, IN_SET, code=["a", "zz", "b"])
    assert list(found.failures) == [10**10 + 1]
    assert "got 'zz'" in found.failures[10**10 + 1][0]


def test_all_failing_rows_are_named_however_many(tmp_path: Path) -> None:
    assert len(verdict(tmp_path, IN_SET, code=["zz"] * 500).failures) == 500


def test_a_mostly_that_is_met_fails_no_row(tmp_path: Path) -> None:
    suite = IN_SET.replace("value_set:", "mostly: 0.5, value_set:")
    assert verdict(tmp_path, suite, code=["a", "zz", "b"]).failures == {}


def test_a_warning_fails_no_row(tmp_path: Path) -> None:
    assert verdict(tmp_path, IN_SET + "  severity: warning\n", code=["zz"]).failures == {}


def test_what_fails_over_the_whole_page_names_no_row(tmp_path: Path) -> None:
    suite = "- type: expect_table_row_count_to_be_between\n  kwargs: {min_value: 5}\n"
    found = verdict(tmp_path, suite, code=["a"])
    assert found.failures == {}
    assert "observed 1" in found.page_failures[0]


def test_lists_in_an_answer_do_not_trouble_a_gate(tmp_path: Path) -> None:
    assert verdict(tmp_path, IN_SET, code=["a"], tags=[["x", "y"]]).failures == {}


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        (
            IN_SET.replace("in_set", "in_sett"),
            "gate.yaml:1: no expectation.*did you mean 'expect_column_values_to_be_in_set'",
        ),
        (IN_SET.replace("code", "coda"), "no column 'coda'; did you mean 'code'"),
        (IN_SET + "  severety: info\n", "unknown key; did you mean 'severity'"),
        (IN_SET.replace("value_set", "values"), "Great Expectations refuses it"),
        ("just words", "list of expectations"),
    ],
)
def test_a_mistake_in_a_gate_is_named_before_anything_is_sent(tmp_path: Path, suite: str, words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        verdict(tmp_path, suite, code=["a"])
