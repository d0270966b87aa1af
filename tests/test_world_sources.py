"""What the world sends in as a source: read as written, or that row quarantined, or the file refused with its place."""

from pathlib import Path

import pytest
from conftest import make_job

from rowtide.errors import UserMistake
from rowtide.job.job_folder import load_job
from rowtide.job.prompt import check_placeholders

HEAD = "source: {path: rows.csv}\nkey: id\ntiers: [haiku]\nsink: {path: results}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "limits: {budget_usd: 5}\nlimits: {turns: 3}\n", ["job.yaml:6: limits", "lines 5 and 6"]),
        (
            HEAD + "limits:\n  budget_usd: 5\n  turns: 3\n  budget_usd: 500\n",
            ["job.yaml:8: budget_usd", "lines 6 and 8"],
        ),
        (HEAD + "tools:\n  a: {stub: a.yaml}\n  a: {stub: b.yaml}\n", ["job.yaml:7: a", "lines 6 and 7"]),
        (HEAD + "start:\n  - {when: x, tier: haiku, tier: opus}\n", ["job.yaml:6: tier", "lines 6 and 6"]),
        (HEAD.replace("key: id", "key: no"), ["job.yaml:2: key", "YAML reads no as False: put quotes around it"]),
        (HEAD.replace("key: id", "key: 2024-01-01"), ["job.yaml:2", "YAML reads 2024-01-01 as"]),
        (HEAD.replace("key: id", "key: 007"), ["job.yaml:2", "YAML reads 007 as 7"]),
        (HEAD + "limits:\n\tturns: 3\n", ["job.yaml:6", "YAML indents with spaces"]),
        (HEAD + "limits: *other\n", ["job.yaml:5", "undefined alias"]),
        (HEAD + "1: x\n", ["job.yaml", "1"]),
        (HEAD + "? [a, b]\n: x\n", ["job.yaml:5", "not YAML"]),
        (HEAD + "description: caf\udce9\n", ["job.yaml:5", "column 17 holds the byte 0xe9", "UTF-8"]),
        ("", ["job.yaml", "a mapping"]),
        ("- a\n", ["job.yaml", "a mapping"]),
    ],
)
def test_a_job_file_says_what_its_author_meant_or_is_refused_by_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    job = make_job(tmp_path / "job", rows=1)
    (job / "job.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserMistake) as caught:
        load_job(job)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_anchors_and_merges_stay_what_they_are_in_yaml(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=1)
    tools = "tools:\n  a: &one {stub: a.yaml, concurrency: 2}\n  b: {<<: *one, concurrency: 3}\n"
    (job / "job.yaml").write_text(HEAD + tools)
    read = load_job(job).spec.tools
    assert [read["a"].concurrency, read["b"].concurrency, read["b"].stub] == [2, 3, Path("a.yaml")]


COLUMNS = ["id", "Company Name", "unit-price", "items", "row", "1st"]


@pytest.mark.parametrize(
    "hole",
    [
        'row["Company Name"]', "row['unit-price']", 'row["1st"]', 'row["row"]', 'row["items"]', "row.id", "id",
        "row.get('id')", "items", "range(3) | list",
    ],
)  # fmt: skip
def test_every_column_can_be_said_in_a_prompt(tmp_path: Path, hole: str) -> None:
    job = make_job(tmp_path / "job", rows=1, prompt=f"Sort.\n---\n{{{{ {hole} }}}}\n")
    check_placeholders(job / "prompt.md", COLUMNS)
    said = load_job(job).message_for({name: f"<{name}>" for name in COLUMNS})
    assert said.startswith(("<", "[0"))


@pytest.mark.parametrize(
    ("hole", "words"),
    [
        ("Company Name", ["prompt.md:3", 'written {{ row["Company Name"] }}']),
        ("1st", ["prompt.md:3", 'written {{ row["1st"] }}']),
        ("Company Name | upper", ["prompt.md:3", 'row["Company Name"]']),
        ('row["Company Nam"]', ["prompt.md:3", """did you mean 'row["Company Name"]'"""]),
        ("unitprice", ["prompt.md:3", """did you mean 'row["unit-price"]'"""]),
        ("row.idd", ["prompt.md:3", "did you mean 'id'"]),
        ("row.items", ["prompt.md:3", 'row["items"]']),
        ("row", ["prompt.md", 'row["row"]']),
    ],
)
def test_a_hole_that_is_no_column_shows_how_the_column_is_written(tmp_path: Path, hole: str, words: list[str]) -> None:
    job = make_job(tmp_path / "job", rows=1, prompt=f"Sort.\n---\n{{{{ {hole} }}}}\n")
    with pytest.raises(UserMistake) as caught:
        load_job(job)
        check_placeholders(job / "prompt.md", COLUMNS)
    assert all(word in str(caught.value) for word in words), str(caught.value)
