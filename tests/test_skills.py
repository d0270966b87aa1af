"""A skill reaches the groups its description speaks of, in a prefix that is cached; a mistake in one is named."""

import asyncio
import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_job
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from cli.show import history_lines
from flows.pump import pump
from rowtide.agent.requests import cache_warnings, shared_request_part, with_skills
from rowtide.errors import UserMistake
from rowtide.job.skills import Skill, read_skills, skills_for_group
from rowtide.ledger.ledger import Ledger, find_run, ledger_url
from rowtide.ledger.prefixes import prefix_contents, skills_by_prefix
from rowtide.ledger.read.row_history import row_history
from rowtide.report.summary_text import summary_as_text
from rowtide.stages.preflight import plan_run
from rowtide.stages.run_context import open_run
from tasks.extract import extract

LONG = "Look twice before you answer. " * 100
TEACHES = {
    "money": "What to do with invoices, and with a bank's letters.",
    "parcels": "How parcels travel.",
    "tone": "How to write to people.",
}
ROWS = "id,kind,message\n" + "".join(
    f"m{n},{('Invoice', 'parcel', 'praise', '')[n % 4]},the invoice is wrong ({n})\n" for n in range(24)
)


def make_skill(folder: Path, name: str, description: str, body: str = "Take care.", **more: str) -> Path:
    front = {"name": name, "description": description, **more}
    file = folder / name / "SKILL.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["---", *(f"{key}: {value}" for key, value in front.items()), "---", "", body]))
    return file


def skilled_job(folder: Path, *, rows: str = ROWS, **spec: Any) -> Path:
    """Rows of four kinds, one of them nameless; three skills of the job's own, two of which speak of a kind."""
    for name, description in TEACHES.items():
        make_skill(folder / "skills", name, description, f"This is {name}. {LONG}")
    skills = {"group_by": "kind", "always": ["tone"]}
    return make_job(folder, rows=rows, **{"tiers": ["opus"], "skills": skills, **spec})


def skill(name: str, description: str) -> Skill:
    return Skill(name, description, "Take care.", Path(name) / "SKILL.md")


def names(skills: list[Skill]) -> list[str]:
    return [each.name for each in skills]


def prefixes_of(home: Path, run_id: str) -> tuple[dict[int, tuple[str, ...]], dict[str, int], dict[int, bytes]]:
    """The skills of each prefix, the prefix of each row, the content of each prefix."""
    ledger = Ledger(ledger_url(None, home))
    with ledger.view() as tx:
        run = find_run(tx, run_id)
        rows = tx.execute(text("SELECT row_key, prefix_no FROM row WHERE run_no = :run"), {"run": run.run_no})
        found = skills_by_prefix(tx, run), dict(rows.tuples().all()), prefix_contents(tx, run)
    ledger.close()
    return found


@pytest.fixture(scope="module", autouse=True)
def key() -> Generator[None]:
    """A run knows which API it is for, also where nothing is sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", "key")
        yield


def extracted(job: Path, run_id: str) -> None:
    asyncio.run(extract(str(job), run_id=run_id))


# Which skills a group has


@pytest.mark.parametrize(
    ("group", "description"),
    [
        ("bank", "Reading the accounts of banks."),
        ("BANKS", "For a bank."),
        ("real_estate", "Estates, real ones."),
        ("Health Care", "Companies in health-care"),
        ("food and drink", "Drinks, food."),
        ("Énergies", "energy"),
        ("branches", "A branch office."),
        ("taxes", "Any tax."),
        ("IT", "Companies in IT, software."),
        ("DE", "Rows from DE and AT"),
        ("The The", "the band"),
        ("gases", "Any gas, in any case."),
        ("case", "Hard cases"),
    ],
)
def test_a_skill_goes_to_the_groups_its_description_speaks_of(group: str, description: str) -> None:
    assert names(skills_for_group([skill("a", description)], group, [])) == ["a"]


@pytest.mark.parametrize(
    ("group", "description"),
    [
        ("interstate", "intrastate traffic"),
        ("real estate", "real ale"),
        ("IT", "Use it for anything."),
        ("IN", "What is in a name"),
        ("bank", "banking"),
        ("", "anything at all"),
        ("&", "this & that"),
    ],
)
def test_a_near_miss_is_a_miss(group: str, description: str) -> None:
    assert skills_for_group([skill("a", description)], group, []) == []


def test_without_groups_every_row_has_every_skill_and_some_are_for_all() -> None:
    both = [skill("b", "banks"), skill("a", "parcels")]
    assert names(skills_for_group(both, None, [])) == ["a", "b"]
    assert names(skills_for_group(both, "banks", ["a"])) == ["a", "b"]
    assert names(skills_for_group(both, "", ["a"])) == ["a"]


@given(st.text(), st.permutations(["banks", "parcels", "people"]))
def test_the_order_of_the_folders_changes_nothing(group: str, order: list[str]) -> None:
    skills = [skill(name, f"{name} and {name}") for name in order]
    assert skills_for_group(skills, group, ["people"]) == skills_for_group(
        sorted(skills, key=lambda each: each.name), group, ["people"]
    )


# What a row is sent


def test_rows_of_each_group_are_taught_theirs_from_the_cache(api: Any, tmp_path: Path) -> None:
    found = asyncio.run(pump(str(skilled_job(tmp_path / "job")), run_id="s1"))
    assert found["loaded"] == 24
    (batch,) = api.world.batches_of(os.environ["ANTHROPIC_API_KEY"])
    sent = api.world._shelf.rows(batch)  # what lies at the API is what was sent
    taught: dict[str, int] = {}
    for each in (sent[n]["params"] for n in range(batch.row_count)):
        instructions, skills = each["system"]
        assert "cache_control" not in instructions
        assert skills["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
        who = ",".join(
            name for name in TEACHES if f'<skill name="{name}">\n{TEACHES[name]}\n\nThis is' in skills["text"]
        )
        taught[who] = taught.get(who, 0) + 1
    assert taught == {"money,tone": 6, "parcels,tone": 6, "tone": 12}
    # Three prefixes: each is written once, and read by all the other rows.
    assert 0.5 < found["cache"]["hit_rate"] < 1
    assert 0 < found["cache"]["written_tokens"] * 4 < found["cache"]["read_tokens"]
    assert found["cache"]["warnings"] == []
    assert "of what was read came from the cache" in summary_as_text(
        found, results="", report="", ledger="", is_verbose=True
    )


def test_show_says_which_skills_a_row_had(api: Any, tmp_path: Path) -> None:
    asyncio.run(pump(str(skilled_job(tmp_path / "job")), run_id="s1"))
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.view() as tx:
        assert "skills   money, tone" in history_lines(row_history(tx, "m0"), width=None)
        assert "skills   tone" in history_lines(row_history(tx, "m2"), width=None)
    ledger.close()


def test_a_job_without_groups_has_one_prefix_with_every_skill(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    extracted(skilled_job(tmp_path / "job", skills={}), "r1")
    skills, rows, content = prefixes_of(tmp_path / "home", "r1")
    assert skills == {0: ("money", "parcels", "tone")}
    assert set(rows.values()) == {0}
    with Ledger(ledger_url(None, tmp_path / "home")).view() as tx:
        assert content == {0: find_run(tx, "r1").request}


def test_a_shared_folder_of_skills_is_named_from_the_jobs_own(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    make_skill(tmp_path / "skills", "dates", "How to write dates.")
    job = make_job(tmp_path / "jobs" / "job", skills={"folders": ["../../skills"]})
    extracted(job, "r1")
    assert prefixes_of(tmp_path / "home", "r1")[0] == {0: ("dates",)}
    assert "../../skills/dates/SKILL.md" in asyncio.run(plan_run(job, None, {})).job.version.asks


# Whoever admits the rows, and however often


def pages_job(folder: Path, *, is_broken: bool) -> Path:
    """Three pages of rows from a database, in which a query can be made to fail after the first page."""
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder / 'source.db'}"
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, kind TEXT, message TEXT)"))
        tx.execute(text("CREATE TABLE broken (at INTEGER)"))
        tx.execute(text("INSERT INTO broken VALUES (:at)"), {"at": 7000 if is_broken else 0})
        kinds = ["praise", "invoices", "parcels and invoices", "parcel"]
        items = [{"id": n, "kind": kinds[n // 3000], "message": "hello"} for n in range(1, 12_000)]
        tx.execute(text("INSERT INTO item VALUES (:id, :kind, :message)"), items)
    engine.dispose()
    fails = "abs(-9223372036854775807 - (id = (SELECT at FROM broken)))"  # there is no number so large
    query = f"SELECT id, kind, message, {fails} AS failing FROM item ORDER BY id"
    return skilled_job(folder, source={"url": url, "query": query})


def edit(job: Path) -> None:
    engine = create_engine(f"sqlite:///{job / 'source.db'}")
    with engine.begin() as tx:
        tx.execute(text("UPDATE broken SET at = 0"))
    engine.dispose()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The prefixes of a run whose rows were admitted in one go."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROWTIDE_HOME", str(folder / "home"))
        extracted(pages_job(folder / "job", is_broken=False), "calm")
    return prefixes_of(folder / "home", "calm")


def test_a_run_that_died_between_pages_ends_with_the_same_prefixes(
    tmp_path: Path, undisturbed: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    job = pages_job(tmp_path / "job", is_broken=True)
    with pytest.raises(UserMistake, match="the query failed"):
        extracted(job, "r1")
    assert list(prefixes_of(tmp_path / "home", "r1")[0]) == [0, 1]
    edit(job)
    extracted(job, "r1")
    assert prefixes_of(tmp_path / "home", "r1") == undisturbed
    skills, rows, _ = undisturbed
    assert skills == {0: ("tone",), 1: ("money", "tone"), 2: ("parcels", "tone")}
    assert [rows[key] for key in ("1", "3000", "6000", "9000")] == [0, 1, 0, 2]


def test_two_processes_that_admit_the_same_rows_agree(tmp_path: Path, undisturbed: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    job = pages_job(tmp_path / "job", is_broken=False)
    Ledger(ledger_url(None, tmp_path / "home")).close()
    both = [threading.Thread(target=extracted, args=(job, "two")) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert prefixes_of(tmp_path / "home", "two") == undisturbed


@pytest.mark.parametrize("change", ["edited", "removed", "added"])
def test_a_changed_skill_is_a_changed_job_and_the_file_is_named(tmp_path: Path, monkeypatch: Any, change: str) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    job = pages_job(tmp_path / "job", is_broken=True)
    with pytest.raises(UserMistake, match="the query failed"):
        extracted(job, "r1")
    edit(job)
    if change == "removed":
        (job / "skills/parcels/SKILL.md").unlink()
        (job / "skills/parcels").rmdir()
    else:
        make_skill(job / "skills", "parcels" if change == "edited" else "added", "How parcels travel now.")
    named = rf"skills/{'added' if change == 'added' else 'parcels'}/SKILL\.md changed since run r1 began"
    with pytest.raises(UserMistake, match=named):  # even while the rows are still coming in
        extracted(job, "r1")
    with pytest.raises(UserMistake, match=named):
        open_run(Ledger(ledger_url(None, tmp_path / "home")), tmp_path / "home", "r1", {})


def test_what_a_skill_refers_to_is_not_sent_and_changes_nothing(tmp_path: Path) -> None:
    job = skilled_job(tmp_path / "job")
    before = asyncio.run(plan_run(job, None, {})).job.version
    (job / "skills/tone/references").mkdir()
    (job / "skills/tone/references/more.md").write_text("more")
    assert asyncio.run(plan_run(job, None, {})).job.version == before


# What is said before the run


def test_a_prefix_under_the_cache_minimum_is_warned_of_before_and_after(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    (before,) = asyncio.run(plan_run(job, None, {})).warnings
    assert "fewer than can be cached by haiku (512), sonnet (512); it is paid for in full" in before
    found = asyncio.run(pump(str(job)))
    assert found["cache"] == {"hit_rate": 0, "read_tokens": 0, "written_tokens": 0, "warnings": [before]}
    assert (
        f"warning  {before}" in summary_as_text(found, results="", report="", ledger="", is_verbose=True).splitlines()
    )


def test_a_long_enough_prefix_is_not_warned_of(tmp_path: Path) -> None:
    assert asyncio.run(plan_run(skilled_job(tmp_path / "job"), None, {})).warnings == []


def test_the_warning_names_the_tier_that_cannot_cache() -> None:
    assert cache_warnings([600], {"haiku": 512, "opus": 1024})[0].endswith(
        "by opus (1,024); it is paid for in full with every turn"
    )
    assert "about 100 tokens in the shortest of 2 prefixes" in cache_warnings([600, 100, 300], {"haiku": 512})[0]
    assert cache_warnings([], {"haiku": 512}) == cache_warnings([512], {"haiku": 512}) == []


def test_a_folder_that_is_named_and_not_there_is_warned_of(tmp_path: Path) -> None:
    job = skilled_job(tmp_path / "job", skills={"folders": ["skills", "skils"]})
    (said,) = asyncio.run(plan_run(job, None, {})).warnings
    assert "skils does not exist" in said


def test_a_prefix_with_other_skills_keeps_tools_and_schema_and_has_one_mark() -> None:
    tool: dict[str, object] = {"name": "a__b", "input_schema": {}}
    bare = shared_request_part("", [tool], {"type": "object"})
    assert bare.count(b"cache_control") == 1
    taught = [skill("a", "b")]
    assert with_skills(bare, "be good", taught) == shared_request_part("be good", [tool], {"type": "object"}, taught)
    assert with_skills(with_skills(bare, "be good", taught), "", []) == bare


# Mistakes

GOOD = "---\nname: tone\ndescription: How to write.\n---\nBe kind.\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Be kind.\n", ["SKILL.md:1", "begins with a line ---"]),
        ("---\nname: tone\ndescription: x\nBe kind.\n", ["SKILL.md:4", "no second line ---"]),
        ("---\nname: tone\ndescription: x\n---\n\n", ["SKILL.md:4", "teaches nothing"]),
        (GOOD.replace("name: tone", "name: Tone"), ["SKILL.md:2", "name", "a-z, 0-9"]),
        (GOOD.replace("name: tone", "name: to--ne"), ["SKILL.md:2", "single hyphens"]),
        (GOOD.replace("name: tone", "name: tune"), ["SKILL.md:2", "name", "not its folder's name, 'tone'"]),
        (GOOD.replace("name: tone", f"name: {'a' * 65}"), ["SKILL.md:2", "name", "64"]),
        (GOOD.replace("name: tone\n", ""), ["SKILL.md:1", "name", "required"]),
        (GOOD.replace("How to write.", "x" * 1025), ["SKILL.md:3", "description", "1024"]),
        (GOOD.replace("How to write.", "' '"), ["SKILL.md:3", "description", "at least 1"]),
        (GOOD.replace("How to write.", "[a, b]"), ["SKILL.md:3", "description", "string"]),
        (GOOD.replace("How to write.", "How: to write."), ["SKILL.md:3", "not YAML", "quote"]),
        (GOOD.replace("description", "descripton"), ["SKILL.md:3", "unknown key", "did you mean 'description'"]),
        (GOOD.replace("---\nBe", "name: tone\n---\nBe"), ["SKILL.md:4", "name", "twice"]),
        (GOOD.replace("---\nBe", "metadata: {a: {b: c}}\n---\nBe"), ["SKILL.md:4", "metadata"]),
        (GOOD.replace("---\nBe", f"compatibility: {'x' * 501}\n---\nBe"), ["SKILL.md:4", "compatibility", "500"]),
        ("---\njust words\n---\nBe kind.\n", ["SKILL.md:2", "keys and values"]),
        (b"---\nname: \xff\n---\n", ["SKILL.md", "not UTF-8"]),
    ],
)
def test_a_mistake_in_a_skill_is_named(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    file = make_skill(tmp_path, "tone", "x")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = mistake([tmp_path])
    assert [word for word in words if word not in said] == [], said


def test_a_skill_with_every_legal_key_is_read(tmp_path: Path) -> None:
    more = {"license": "MIT", "compatibility": "any", "metadata": "{version: 1.0}", "allowed-tools": "Read Write"}
    make_skill(tmp_path, "tone", "How to write: kindly.".replace(":", " -"), "Be kind.\n---\nAlways.", **more)
    (found,) = read_skills([tmp_path], [], job_file=tmp_path / "job.yaml")
    assert found.body == "Be kind.\n---\nAlways."
    assert read_skills([tmp_path / "tone"], ["tone"], job_file=tmp_path / "job.yaml") == [found]


def test_mistakes_in_folders_are_named(tmp_path: Path) -> None:
    make_skill(tmp_path / "a", "tone", "x")
    make_skill(tmp_path / "b", "tone", "y")
    assert "another 'tone' in" in mistake([tmp_path / "a", tmp_path / "b"])
    assert "is a file" in mistake([tmp_path / "a" / "tone" / "SKILL.md"])
    said = mistake([tmp_path / "a"], ["tune"])
    assert "job.yaml: skills.always: no skill 'tune'" in said
    assert "did you mean 'tone'" in said
    (tmp_path / "c" / "loud").mkdir(parents=True)
    (tmp_path / "c" / "loud" / "skill.md").write_text(GOOD)
    assert "did you mean 'skill.md'" in mistake([tmp_path / "c"])
    assert read_skills([tmp_path / "none"], [], job_file=tmp_path / "job.yaml") == []


def test_a_group_that_is_no_column_is_named(tmp_path: Path) -> None:
    job = skilled_job(tmp_path / "job", skills={"group_by": "kinds"})
    with pytest.raises(UserMistake, match=r"skills\.group_by: 'kinds' is not a column.*did you mean 'kind'"):
        asyncio.run(plan_run(job, None, {}))


def mistake(folders: list[Path], always: list[str] | None = None) -> str:
    with pytest.raises(UserMistake) as caught:
        read_skills(folders, always or [], job_file=Path("job.yaml"))
    return str(caught.value)
