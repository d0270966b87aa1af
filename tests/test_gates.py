"""A gate says which rows failed and why, in Great Expectations' own words."""

from pathlib import Path
from typing import Any

import pytest

from rowtide.errors import UserMistake
from rowtide.gates.distribution_counts import Distribution
from rowtide.gates.expectation_counts import failing_rows_of_page
from rowtide.gates.gate_files import Suite, load_suite
from rowtide.gates.page_judging import PageJudge

COLUMNS = ["code", "share", "tags"]
IN_SET = "- type: expect_column_values_to_be_in_set\n  kwargs: {column: code, value_set: [a, b]}\n"


def suite_of(tmp_path: Path, text: str, gate: Any = "answers") -> Suite:
    (tmp_path / "gate.yaml").write_text(text)
    return load_suite(tmp_path / "gate.yaml", gate, COLUMNS)


def failures(tmp_path: Path, text: str, **columns: list[object]) -> dict[int, list[str]]:
    suite = suite_of(tmp_path, text)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return failing_rows_of_page(PageJudge(suite, suite.of("rows")).judge(list(enumerate(rows, 10**10))))


def test_a_row_that_fails_is_named_by_number_with_its_value(tmp_path: Path) -> None:
    found = failures(tmp_path, IN_SET, code=["a", "zz", "b"])
    assert list(found) == [10**10 + 1]
    assert "got 'zz'" in found[10**10 + 1][0]


def test_all_failing_rows_are_named_however_many(tmp_path: Path) -> None:
    assert len(failures(tmp_path, IN_SET, code=["zz"] * 500)) == 500


def test_a_warning_fails_no_row(tmp_path: Path) -> None:
    assert failures(tmp_path, IN_SET + "  severity: warning\n", code=["zz"]) == {}


CANNOT_BE_ASKED: list[tuple[str, object, object]] = [
    ("expect_column_values_to_be_between\n  kwargs: {column: code, min_value: 0, max_value: 50}", 5, "many"),
    ("expect_column_values_to_match_json_schema\n  kwargs: {column: code, json_schema: {type: object}}", "{}", "{"),
    ("expect_column_values_to_be_dateutil_parseable\n  kwargs: {column: code}", "2020-01-01", 10**30),
    ("expect_column_values_to_match_strftime_format\n  kwargs: {column: code, strftime_format: '%Y'}", "2020", 2020),
    ("expect_column_pair_values_a_to_be_greater_than_b\n  kwargs: {column_A: code, column_B: share}", 2, "two"),
]


@pytest.mark.parametrize(("rule", "good", "bad"), CANNOT_BE_ASKED)
def test_a_row_that_an_expectation_raises_on_fails_alone_and_most_rows_stop_the_run(
    tmp_path: Path, rule: str, good: object, bad: object
) -> None:
    column = [bad if n in (3, 77, 119) else good for n in range(120)]
    found = failures(tmp_path, f"- type: {rule}", code=column, share=[1] * 120)
    assert list(found) == [10**10 + n for n in (3, 77, 119)]
    assert all(" cannot be judged: " in each for (each,) in found.values())
    with pytest.raises(UserMistake, match="cannot be judged: .*; 20 of the first 20 rows are like that"):
        failures(tmp_path, f"- type: {rule}", code=[bad] * 120, share=[1] * 120)


def test_lists_in_an_answer_do_not_trouble_a_gate(tmp_path: Path) -> None:
    about_tags = "- type: expect_column_value_lengths_to_be_between\n  kwargs: {column: tags, min_value: 3}\n"
    assert failures(tmp_path, IN_SET + about_tags, code=["a"], tags=[["x", "y"]]) == {}


@pytest.mark.parametrize(
    ("gate", "words", "way"),
    [
        ("answers", IN_SET, "rows"),
        ("answers", IN_SET.replace("value_set:", "mostly: 1.0, value_set:"), "rows"),
        ("answers", IN_SET.replace("value_set:", "mostly: 0.5, value_set:"), "shares"),
        ("load", IN_SET, "shares"),
        ("rows", "- type: expect_column_values_to_be_unique\n  kwargs: {column: code}\n", "whole"),
        ("answers", "- type: expect_table_row_count_to_be_between\n  kwargs: {min_value: 5}\n", "whole"),
        (
            "load",
            "- type: expect_column_values_to_be_between\n  kwargs: {column: coverage, min_value: 0.9}\n",
            "metrics",
        ),
    ],
)
def test_what_an_expectation_says_is_of_single_rows_or_of_the_run(
    tmp_path: Path, gate: str, words: str, way: str
) -> None:
    assert [each.way for each in suite_of(tmp_path, words, gate).expectations] == [way]


KL = "- type: expect_column_kl_divergence_to_be_less_than\n  kwargs: {column: code, threshold: 0.1, partition_object: "
COVERAGE = "- type: expect_column_values_to_be_between\n  kwargs: {column: coverage, min_value: 0.9}\n"


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        (
            IN_SET.replace("in_set", "in_sett"),
            "gate.yaml:1: no expectation.*did you mean 'expect_column_values_to_be_in_set'",
        ),
        (IN_SET.replace("code", "coda"), "no column 'coda'; did you mean 'code'"),
        (IN_SET + "  severety: info\n", "unknown key; did you mean 'severity'"),
        (IN_SET + "  severity: criticle\n", "not a severity; did you mean 'critical'"),
        (IN_SET.replace("value_set", "values"), "Great Expectations refuses it"),
        ("just words", "list of expectations"),
        (COVERAGE.replace("coverage", "coverige"), "no column 'coverige'; did you mean 'coverage'"),
        (KL + "{$PARAMETER: last.cod}}\n", "nothing is called 'last.cod'.*did you mean 'last.code'"),
        (COVERAGE.replace("0.9", "{$PARAMETER: last.coverag * 0.9}"), "did you mean 'last.coverage'"),
        (IN_SET.replace("in_set", "increasing"), "cannot be a gate's: a run's rows have no order"),
    ],
)
def test_a_mistake_in_a_gate_is_named_before_anything_is_sent(tmp_path: Path, suite: str, words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        suite_of(tmp_path, suite, "load")


def test_a_fact_and_a_column_of_one_name_are_told_apart_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(COVERAGE)
    with pytest.raises(UserMistake, match="a fact of the run and a column of the answer"):
        load_suite(tmp_path / "gate.yaml", "load", ["coverage"])


def test_a_parameter_of_the_last_run_is_taken_as_written(tmp_path: Path) -> None:
    suite = KL + "{$PARAMETER: last.code}}\n" + COVERAGE.replace("0.9", "{$PARAMETER: last.coverage * 0.9}")
    assert [each.way for each in suite_of(tmp_path, suite, "load").expectations] == ["whole", "metrics"]


def test_categories_are_kept_as_shares_and_numbers_in_bins_of_equal_weight() -> None:
    texts, numbers, words = Distribution(), Distribution(), Distribution()
    for page in range(4):
        texts.add(["a", "a", "b", None])
        numbers.add([(page * 10_000 + n) / 40_000 for n in range(10_000)])
        words.add([f"{page} {n}" for n in range(100)])
    assert texts.partition() == {"values": ["a", "b"], "weights": [2 / 3, 1 / 3]}
    found = numbers.partition()
    assert found is not None
    assert (found["bins"][0], found["bins"][-1]) == (0, 39_999 / 40_000)
    assert all(0.05 < weight < 0.15 for weight in found["weights"])
    assert sum(found["weights"]) == pytest.approx(1)
    assert words.partition() is None
