"""Golden rows are read strictly, compared as their fields are meant, split for good, and found where they leaked."""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from rowtide.errors import UserMistake
from rowtide.evals.comparers import (
    Comparer,
    JobComparer,
    comparers_of,
    default_comparer,
    job_comparers,
    values_agree,
)
from rowtide.evals.golden_rows import (
    GoldenRow,
    check_golden_keys,
    check_golden_rows,
    count_golden_rows,
    golden_part_of,
    read_golden_rows,
    rows_of_no_source,
)
from rowtide.evals.leakage import find_leaks
from rowtide.evals.scores import pair_scores, score_row
from rowtide.job.answer_fields import answer_fields
from rowtide.job.evals_spec import Date, EnumOrder, Exact, Folded, Number, SetF1
from rowtide.job.job_code import JobCodeFailure

ROOT = Path(__file__).parent.parent
COMPANIES = ROOT / "jobs" / "companies"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PLAIN: list[Comparer] = [
    Exact(),
    Folded(),
    Number(),
    Number(absolute=0.5, relative=0.1),
    Date(),
    Date(days=2),
    SetF1(),
    SetF1(at_least=0.5, folded=True),
    EnumOrder(order=["low", "medium", "high"], steps=1),
]


class Person(BaseModel):
    name: str


class Answer(BaseModel):
    """One field of each kind."""

    country: str = Field(pattern="^[A-Z]{2}$")
    size: Literal["small", "large"]
    revenue: float | None
    price: Decimal
    founded: date
    seen: datetime
    tags: list[str]
    is_listed: bool
    people: list[Person]


DEFAULTS = comparers_of(answer_fields(Answer), {}, {})


# --- comparers


@given(st.sampled_from(PLAIN), JSON, JSON)
def test_no_value_makes_a_comparer_raise_and_order_does_not_matter(comparer: Comparer, one: Any, other: Any) -> None:
    assert isinstance(values_agree(comparer, one, other), bool)
    if not isinstance(comparer, Number | Date):  # what is known says how far off, and whether a day is enough
        assert values_agree(comparer, one, other) == values_agree(comparer, other, one)


@given(JSON)
def test_exactly_the_same_is_the_same(value: Any) -> None:
    assert values_agree(Exact(), value, value) is True
    assert values_agree(Folded(), value, orjson.loads(orjson.dumps(value)) if _is_plain(value) else value) is True


def _is_plain(value: Any) -> bool:
    try:
        return orjson.loads(orjson.dumps(value)) == value
    except orjson.JSONEncodeError:
        return False


@given(st.text())
def test_case_and_spaces_do_not_count_where_a_text_is_folded(text: str) -> None:
    assert values_agree(Folded(), text, f"  {text.casefold()}\n") is True
    assert values_agree(Folded(), text, " ".join(text.split())) is True


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 10), st.floats(0, 10))
def test_a_wider_tolerance_agrees_with_more(known: float, answered: float, narrow: float, more: float) -> None:
    if values_agree(Number(absolute=narrow), known, answered):
        assert values_agree(Number(absolute=narrow + more), known, answered)
    assert values_agree(Number(relative=narrow), known, known) is True


@given(st.dates(), st.integers(0, 400), st.integers(0, 400))
def test_days_that_are_near_enough_agree(day: date, off: int, allowed: int) -> None:
    if day.toordinal() + off <= date.max.toordinal():
        other = date.fromordinal(day.toordinal() + off).isoformat()
        assert values_agree(Date(days=allowed), day.isoformat(), other) == (off <= allowed)


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)), st.floats(0.01, 1))
def test_f1_of_lists_is_that_of_their_sets(known: list[int], answered: list[int], least: float) -> None:
    first, second = set(known), set(answered)
    f1 = 2 * len(first & second) / (len(first) + len(second)) if first | second else 1.0
    assert values_agree(SetF1(at_least=least), known, answered) == (f1 >= least)
    assert values_agree(SetF1(at_least=least), known[::-1] + known, answered) == (f1 >= least)


@pytest.mark.parametrize(
    ("comparer", "known", "answered", "same"),
    [
        (Exact(), 1, True, False),
        (Exact(), 1, 1.0, True),
        (Exact(), "1", 1, False),
        (Exact(), {"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]}, True),
        (Exact(), None, "", False),
        (Folded(), "Straße  Nord", "STRASSE NORD", True),
        (Folded(), "ﬁn", "FIN", True),
        (Number(), "1.50", 1.5, True),
        (Number(), True, 1, False),
        (Number(), 0.1 + 0.2, 0.3, False),
        (Number(relative=1e-9), 0.3, 0.1 + 0.2, True),
        (Number(), "12345678901234567890123", "12345678901234567890124", False),
        (Number(absolute=1e9), "NaN", "NaN", False),
        (Number(absolute=1), "n/a", 1, False),
        (Number(relative=0.1), -100, -109, True),
        (Number(relative=0.1), -100, -111, False),
        (Date(), "2024-02-29", "2024-02-29T23:00:00Z", True),
        (Date(), "2024-02-29T23:00:00Z", "2024-03-01T00:00:00+01:00", True),
        (Date(), "2024-02-29T23:00:00", "2024-02-29T23:00:00Z", False),
        (Date(), "2024-02-30", "2024-02-30", False),
        (Date(), 5, 5, False),
        (SetF1(folded=True), ["A", "b "], ["B", "a", "a"], True),
        (SetF1(at_least=0.8), ["a", "b", "c"], ["a", "b"], True),
        (SetF1(at_least=0.81), ["a", "b", "c"], ["a", "b"], False),
        (SetF1(), "ab", "ab", False),
        (EnumOrder(order=["low", "medium", "high"], steps=1), "low", "medium", True),
        (EnumOrder(order=["low", "medium", "high"], steps=1), "low", "high", False),
        (EnumOrder(order=["low", "medium", "high"], steps=9), "low", "none", False),
        (Number(absolute=5), None, 0, False),
        (Number(absolute=5), None, None, True),
    ],
)
def test_what_each_comparer_calls_the_same(comparer: Comparer, known: Any, answered: Any, same: bool) -> None:
    assert values_agree(comparer, known, answered) is same


def test_a_word_of_an_order_has_one_place() -> None:
    with pytest.raises(ValidationError, match="a word stands twice"):
        EnumOrder(order=["low", "high", "low"])


def test_a_field_is_compared_by_its_kind() -> None:
    assert {name: type(each) for name, each in DEFAULTS.items()} == {
        "country": Exact,
        "size": Exact,
        "revenue": Number,
        "price": Number,
        "founded": Date,
        "seen": Date,
        "tags": SetF1,
        "is_listed": Exact,
    }
    assert default_comparer("json") is None


def test_a_comparer_of_the_jobs_wins_and_a_name_that_is_no_field_is_refused() -> None:
    fields, own = answer_fields(Answer), job_comparers({"compare_people": lambda known, said: True}, Path("answer.py"))
    found = comparers_of(fields, {"country": Folded()}, own)
    assert isinstance(found["people"], JobComparer)
    assert isinstance(found["country"], Folded)
    with pytest.raises(UserMistake, match="did you mean 'country'"):
        comparers_of(fields, {"contry": Folded()}, {})
    with pytest.raises(UserMistake, match="compare_peple: the answer has no field 'peple'; did you mean 'people'"):
        comparers_of(fields, {}, job_comparers({"compare_peple": max}, Path("answer.py")))
    with pytest.raises(UserMistake, match="keep one of the two"):
        comparers_of(fields, {"people": Exact()}, own)


def _raises(known: Any, answered: Any) -> bool:
    raise ZeroDivisionError("of the job's")


async def _is_async(known: Any, answered: Any) -> bool:
    return True


@pytest.mark.parametrize("code", [_raises, lambda known, said: None, lambda known, said: 1, lambda known, said: exit()])
def test_a_comparer_of_the_jobs_that_fails_is_a_value(code: Callable[[Any, Any], object]) -> None:
    failure = values_agree(JobComparer("compare_x", Path("answer.py"), code), 1, 2)
    assert isinstance(failure, JobCodeFailure)
    assert failure.reason == "comparer_failed"


@pytest.mark.parametrize(
    ("value", "words"), [(3, "no function"), (lambda known: True, "too many"), (_is_async, "async")]
)
def test_what_cannot_compare_is_refused(value: object, words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        job_comparers({"compare_x": value, "check_y": 1}, Path("answer.py"))


# --- scores


def golden(answer: Mapping[str, Any], **more: Any) -> GoldenRow:
    return GoldenRow(more.pop("key", "k"), answer, 1, **more)


def test_a_row_is_right_harm_or_none() -> None:
    row = golden({"country": "GB", "revenue": 5})
    answer = {"country": "GB", "revenue": 5.0, "size": "small"}
    assert score_row(row, answer, DEFAULTS, is_loaded=True).score == "right"
    assert score_row(row, answer, DEFAULTS, is_loaded=False).score == "none"
    wrong = score_row(row, {**answer, "revenue": 6}, DEFAULTS, is_loaded=True)
    assert (wrong.score, wrong.fields) == ("harm", {"country": True, "revenue": False})
    assert score_row(row, {"country": "GB"}, DEFAULTS, is_loaded=True).score == "harm"
    assert score_row(row, None, DEFAULTS, is_loaded=True).score == "harm"
    own = {**DEFAULTS, "country": JobComparer("compare_country", Path("answer.py"), _raises)}
    failed = score_row(row, answer, own, is_loaded=True)
    assert (failed.score, len(failed.failures)) == ("unscored", 1)


def test_what_is_not_known_counts_against_the_candidate() -> None:
    keys = ["a", "b", "c", "d", "e"]
    found = pair_scores(
        keys,
        {"a": "right", "b": "unscored", "d": "none", "e": "right"},
        {"a": "harm", "b": "right", "c": "none", "d": "harm", "e": "unscored"},
    )
    assert (found.fixed, found.broken) == (("a",), ("b",))
    assert (found.right.rows, found.right.fixed, found.right.broken) == (5, 1, 1)
    assert (found.harm.fixed, found.harm.broken) == (2, 2)  # a and d are spared; b and c are harmed
    assert found.problems == ()


def test_rows_that_the_incumbent_lacks_make_it_invalid() -> None:
    assert "no outcome of 1 rows, such as 'b'" in pair_scores(["a", "b"], {"b": "right"}, {"a": "right"}).problems[0]
    assert pair_scores(["a", "a"], {}, {"a": "right"}).problems == ("a key was given twice",)


# --- golden rows


def written(folder: Path, *lines: object) -> Path:
    file = folder / "golden.jsonl"
    file.write_bytes(b"\n".join(each if isinstance(each, bytes) else orjson.dumps(each) for each in lines))
    return file


def test_a_golden_file_of_today_is_read_as_before() -> None:
    file = COMPANIES / "golden.jsonl"
    rows = read_golden_rows(file)
    counts = count_golden_rows(rows)
    assert (counts.rows, counts.by_stratum, counts.by_labeller, counts.pinned) == (
        568,
        {"random": 568},
        {"rule": 568},
        0,
    )
    assert sum(counts.by_part.values()) == 568
    assert read_golden_rows(COMPANIES / "no.jsonl") == []


def test_what_a_row_says_of_itself_is_kept(tmp_path: Path) -> None:
    line = {"key": 7, "answer": {"country": "GB"}, "how": "asked", "by": "Ann", "pinned": True, "stratum": "failed"}
    file = written(
        tmp_path, b"\xef\xbb\xbf" + orjson.dumps(line), b"", {"key": " b ", "answer": {"x": 1}, "by": "rule"}
    )
    first, second = read_golden_rows(file)
    assert (first.key, first.how, first.by, first.pinned, first.stratum) == ("7", "asked", "Ann", True, "failed")
    assert (second.key, second.line, second.labeller, second.stratum) == ("b", 3, "rule", "random")
    assert [golden({"x": 1}, by=by).labeller for by in ("Ann", "model: opus", "Rule", "", " ")] == [
        "person",
        "model",
        "rule",
        "unknown",
        "unknown",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a golden row is"),
        (b'"x"', "a golden row is"),
        (b"\xff\xfe", "not JSON"),
        (b'{"key": "a", "key": "b", "answer": {"x": 1}}', "stands twice"),
        ({"answer": {"x": 1}}, "`key` must be"),
        ({"key": "  ", "answer": {"x": 1}}, "`key` must be"),
        ({"key": True, "answer": {"x": 1}}, "`key` must be"),
        ({"key": {"a": 1}, "answer": {"x": 1}}, "`key` must be"),
        ({"key": "a\0", "answer": {"x": 1}}, "holds a NUL"),
        ({"key": "a"}, "`answer` must"),
        ({"key": "a", "answer": {}}, "`answer` must"),
        ({"key": "a", "answer": [1]}, "`answer` must"),
        ({"key": "a", "answer": {"x": 1}, "pined": True}, "did you mean 'pinned'"),
        ({"key": "a", "answer": {"x": 1}, "pinned": "yes"}, "`pinned` must be"),
        ({"key": "a", "answer": {"x": 1}, "how": 5}, "`how` must be"),
        ({"key": "a", "answer": {"x": 1}, "stratum": " "}, "`stratum` must not"),
        ({"key": "first", "answer": {"x": 1}}, "stands on line 1 too"),
        (b'{"key": "' + b"a" * 1_000_001 + b'", "answer": {"x": 1}}', "more than 1,000,000 bytes"),
    ],
)
def test_a_line_that_is_no_golden_row_is_named(tmp_path: Path, line: object, words: str) -> None:
    file = written(tmp_path, {"key": "first", "answer": {"x": 1}}, line)
    with pytest.raises(UserMistake, match="golden.jsonl:2: ") as raised:
        read_golden_rows(file)
    assert words in str(raised.value)


@given(st.lists(st.binary(max_size=40) | JSON.filter(lambda value: _is_plain(value)).map(orjson.dumps), max_size=4))
def test_whatever_stands_in_a_golden_file_is_read_or_refused(tmp_path_factory: Any, lines: list[bytes]) -> None:
    file = written(tmp_path_factory.mktemp("golden"), *lines)
    try:
        rows = read_golden_rows(file)
    except UserMistake as mistake:
        assert mistake.file == file
        assert mistake.line
    else:
        assert len({row.key for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"contry": "GB"}, "the answer has no field 'contry'"),
        ({"country": "Britain"}, "country: String should match pattern"),
        ({"size": "huge"}, "size: Input should be 'small' or 'large'"),
        ({"founded": "yesterday"}, "founded: "),
        ({"tags": [1]}, "tags.0: "),
        ({"people": [{"name": "Ann"}]}, "compare_people(known, answered)"),
    ],
)
def test_an_answer_that_does_not_fit_the_model_is_named(answer: dict[str, Any], words: str) -> None:
    rows = [golden({"country": "GB", "revenue": None, "founded": "2024-01-01"}), GoldenRow("k2", answer, 7)]
    with pytest.raises(UserMistake, match="golden.jsonl:7: k2: ") as raised:
        check_golden_rows(rows, Answer, DEFAULTS, Path("golden.jsonl"))
    assert words in str(raised.value)
    check_golden_rows(rows[:1], Answer, DEFAULTS, Path("golden.jsonl"))


class Strict(BaseModel):
    low: int
    high: int

    @field_validator("low")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("low is even")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "Strict":
        if self.low > self.high:
            raise ValueError("low is not above high")
        return self


def test_validators_of_the_model_judge_what_is_there() -> None:
    comparers = comparers_of(answer_fields(Strict), {}, {})

    def check(answer: dict[str, Any]) -> None:
        check_golden_rows([golden(answer)], Strict, comparers, Path("golden.jsonl"))

    check({"low": 2})
    check({"high": 1})
    check({"low": 2, "high": 4})
    with pytest.raises(UserMistake, match="low is even"):
        check({"low": 1})
    with pytest.raises(UserMistake, match="low is not above high"):
        check({"low": 4, "high": 2})


def test_a_key_that_is_in_no_source_is_named() -> None:
    rows = [GoldenRow(key, {"x": 1}, line) for line, key in enumerate("abcd", 1)]
    assert [row.key for row in rows_of_no_source(rows, iter("dxbx"))] == ["a", "c"]
    check_golden_keys(rows, "abcd", Path("golden.jsonl"))
    with pytest.raises(
        UserMistake, match=r"golden.jsonl:2: no row of the source has the key 'b' \(nor those of 2 more"
    ):
        check_golden_keys(rows, "a", Path("golden.jsonl"))


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_row_stays_in_its_part(key: str, share: float, other: float) -> None:
    assert golden_part_of(key, share) == golden_part_of(key, share)
    assert golden_part_of(key, 0) == "confirm"
    if golden_part_of(key, min(share, other)) == "dev":
        assert golden_part_of(key, max(share, other)) == "dev"


def test_the_parts_have_their_shares() -> None:
    keys = [f"row {n}" for n in range(5_000)]
    dev = sum(golden_part_of(key) == "dev" for key in keys) / len(keys)
    assert math.isclose(dev, 0.3, abs_tol=0.03)
    assert "".join(key for key in "abcdefghijklmnop" if golden_part_of(key) == "dev") == "aep"  # for good


# --- leakage

STORY = "The firm was founded in Leeds in 1901 and sells tin baths to hotels of the north."


def test_golden_rows_that_are_quoted_are_found_with_file_and_line() -> None:
    rows = [golden({"country": "GB"}, key="III.L"), golden({"country": "US"}, key="1234567")]
    prompt = "Say the country.\n\nExample: III.L is in GB.\nFounded in Leeds, in 1901, and sells\nTIN baths to hotels!"
    sent = {Path("prompt.md"): prompt, Path("skills/a/SKILL.md"): "Row 1234567 is hard."}
    leaks = find_leaks(rows, sent, [("1234567", STORY), ("nobody's", STORY)])
    assert [(str(leak.file), leak.line, leak.key, leak.kind) for leak in leaks] == [
        ("prompt.md", 3, "III.L", "key"),
        ("prompt.md", 4, "1234567", "text"),
        ("skills/a/SKILL.md", 1, "1234567", "key"),
    ]
    assert leaks[1].quoted == "founded in leeds in 1901 and sells tin"
    assert "take it out" in leaks[0].words


def test_what_stands_everywhere_by_chance_is_no_leak() -> None:
    rows = [golden({"x": 1}, key=key) for key in ("a", "12", "1000", "MMM")]
    assert find_leaks(rows, {Path("prompt.md"): "a text of 12 or 1000 words, MMMA, mmm"}) == []
    form = [(row.key, STORY) for row in rows]
    assert find_leaks(rows, {Path("prompt.md"): STORY}, form) == []  # the words of a form, which all of them have
    assert {leak.key for leak in find_leaks(rows, {Path("prompt.md"): STORY}, form[:2])} == {"a", "12"}
    assert find_leaks(rows, {Path("prompt.md"): "The firm was founded in Leeds"}, form[:1]) == []


def test_a_golden_answer_that_is_quoted_is_found() -> None:
    rows = [golden({"summary": STORY}, key="k")]
    assert [leak.kind for leak in find_leaks(rows, {Path("prompt.md"): f"For example:\n{STORY}"})] == ["text"]


def test_the_companies_job_quotes_none_of_its_golden_rows() -> None:
    sent = {Path(name): (COMPANIES / name).read_text(encoding="utf-8") for name in ("prompt.md", "rubric.md")}
    assert find_leaks(read_golden_rows(COMPANIES / "golden.jsonl"), sent) == []
