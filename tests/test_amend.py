"""A job is mended in the middle of a run: what was paid for is kept, and only what must be asked again is."""

import os
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import pytest
import yaml
from conftest import ANSWER, PROMPT, answers_of, ask_ledger, make_job, run
from sqlalchemy import create_engine, text

from cli.main import app
from rowtide.errors import RunStopped, StoppedByJob, UserMistake
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.report.summary_text import summary_as_text

CHECKED = (
    ANSWER
    + """

def check_message(answer, row):
    if row["id"] in ("m1", "m4", "m7"):
        return float("")
    return None
"""
)
RUN = "r1"


@pytest.fixture
def home(emulator_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROWTIDE_HOME of this test's own, and an account at the emulator; no Prefect server."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"key-{tmp_path.name}")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator_server.url)
    for name, value in {"CONFIRM_WITHIN_SECONDS": "1", "PAGE": "0", "LEDGER_FROM_ENVIRONMENT": "1"}.items():
        monkeypatch.setenv(f"ROWTIDE_{name}", value)
    return tmp_path / "home"


class Halted(Exception):
    """This process worked until here."""


def go(job: Path, *, until: tuple[str, int] | None = None, budget: float | None = None) -> dict[str, Any]:
    """Take the run to its end, or until a stage is to begin for the n-th time: `Halted`."""
    begun: Counter[str] = Counter()

    def on_stage(name: str) -> None:
        begun[name] += 1
        if until == (name, begun[name]):
            raise Halted(name)

    return run(job, on_stage=on_stage, run_id=RUN, budget=budget, lane="batch")


def go_until(job: Path, stage: str, times: int = 1, *, budget: float | None = None) -> None:
    with pytest.raises(Halted):
        go(job, until=(stage, times), budget=budget)


def rowtide(*words: str) -> int:
    return app(words, exit_on_error=False, result_action="return_value") or 0


def billed_micro() -> int:
    """What the emulator billed this test's account."""
    account = {"api_key": os.environ["ANTHROPIC_API_KEY"]}
    found = httpx2.get(f"{os.environ['ANTHROPIC_BASE_URL']}/_emulator/ledger", params=account)
    return int(found.json()["account"]["cost_micro"])


def spent_micro(home: Path) -> int:
    return ask_ledger(home, "SELECT coalesce(sum(cost_micro), 0) FROM turn")[0][0]


EDITED = {"answer.py": ANSWER, "prompt.md": PROMPT}
ONE_BATCH = 0.0245  # US dollars: what 20 rows can cost at worst, and not one more


def a_job_with_mistakes(folder: Path, rows: int = 60) -> Path:
    """Its check is wrong of three rows, and its prompt has a slip that the emulator does not mind."""
    return make_job(
        folder,
        rows=rows,
        answer=CHECKED,
        prompt=PROMPT.replace("Sort the message.", "Sort the massage."),
        tiers=["haiku"],
        checks={"corrections": 0},
        limits={"batch_rows": 20, "enough_rows": 20},
    )


def edit(job: Path, *files: str) -> None:
    for name in files or EDITED:
        (job / name).write_text(EDITED[name])


@pytest.mark.parametrize(
    ("stage", "times"),
    [("wait", 1), ("follow_up", 1), ("validate", 1), ("submit", 2), ("follow_up", 2), ("load", 1), ("report", 1)],
)
def test_wherever_a_run_is_amended_it_ends_whole_and_nothing_is_paid_for_twice(
    home: Path, stage: str, times: int
) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, stage, times, budget=ONE_BATCH)
    under_0 = {key for (key,) in ask_ledger(home, "SELECT row_key FROM row WHERE state IN ('accepted', 'loaded')")}
    edit(job)
    with pytest.raises(UserMistake, match=r"prompt.md, answer.py changed .* `rowtide amend r1` goes on"):
        go(job)
    asked = ask_ledger(home, "SELECT count(*) FROM turn")[0][0]
    assert rowtide("amend", RUN, "--why", "a slip, and a check that was wrong") == 0
    assert ask_ledger(home, "SELECT count(*) FROM turn")[0][0] == asked, "amend asks nothing"
    found = go(job)
    assert (found["loaded"], found["quarantined"]) == (60, 0)
    assert found["turns"] == 60, "the three rows whose check was wrong keep the answer that was paid for"
    assert spent_micro(home) == billed_micro()
    assert len(answers_of(home)) == 60
    versions = dict(ask_ledger(home, "SELECT row_key, version_no FROM row"))
    assert all(versions[key] == 0 for key in under_0), "what was accepted keeps its version"
    of_turns = ask_ledger(home, "SELECT DISTINCT r.version_no = t.version_no FROM row r JOIN turn t USING (row_no)")
    assert of_turns == [(True,)]
    fingerprints = "SELECT DISTINCT v.version_no, l.asking = v.asking FROM loaded l JOIN row r USING (row_no) "
    fingerprints += "JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no"
    assert {bool(same) for _, same in ask_ledger(home, fingerprints)} == {True}
    (said,) = ask_ledger(home, "SELECT why, who IS NOT NULL FROM version WHERE version_no = 1")
    assert said == ("a slip, and a check that was wrong", 1)


def test_a_dry_run_says_each_number_and_does_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    edit(job)
    before = ask_ledger(home, "SELECT row_no, state, reason, version_no FROM row ORDER BY 1")
    assert rowtide("amend", RUN, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "run r1 would go on under version 1: prompt.md, answer.py",
        "this changes how rows are asked",
        "         17 accepted, loaded or unchanged: stay as they are",
        "         40 not asked yet: asked under version 1",
        "          3 quarantined, with a reply: judged again under version 1",
        "amend it with: rowtide amend r1",
    ]
    assert ask_ledger(home, "SELECT row_no, state, reason, version_no FROM row ORDER BY 1") == before
    assert rowtide("amend", RUN, "--dry-run", "--leave-quarantined") == 0
    assert "          3 quarantined as check_failed: stay in quarantine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("key", "message", "job.yaml: key"),
        ("source", {"path": "other.csv"}, "the source"),
        ("tiers", ["haiku", "sonnet"], "job.yaml: tiers"),
        ("checks", {"self_check": {"tier": "haiku"}}, "job.yaml: checks.self_check.tier"),
    ],
)
def test_what_a_run_stands_on_is_refused_by_name(home: Path, key: str, value: object, named: str) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    (job / "rubric.md").write_text("Is it right?")
    (job / "other.csv").write_bytes((job / "rows.csv").read_bytes())
    go_until(job, "submit", 2, budget=ONE_BATCH)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    (job / "job.yaml").write_text(yaml.safe_dump(spec | {key: value}))
    edit(job)
    with pytest.raises(UserMistake, match=rf"{named}.* changed since run r1 began"):
        rowtide("amend", RUN)
    assert ask_ledger(home, "SELECT count(*) FROM version") == [(1,)]


def test_a_run_that_a_process_works_on_is_refused_in_words(home: Path) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    edit(job)
    ledger = Ledger(ledger_url(None, home))
    with ledger.page() as tx:
        assert ledger_leases.take_lease(tx, RUN, ledger_leases.new_lease_holder("it"), now=datetime.now(UTC)) is None
    with pytest.raises(UserMistake, match="a process works on run r1 at this moment: stop it first"):
        rowtide("amend", RUN)
    ledger.close()


def test_nothing_changed_is_nothing_to_amend(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    (job / "job.yaml").write_text("# a comment\n" + (job / "job.yaml").read_text())
    assert rowtide("amend", RUN) == 0
    assert "nothing to amend" in capsys.readouterr().out
    assert ask_ledger(home, "SELECT count(*) FROM version") == [(1,)]


STRICT = (
    ANSWER
    + """

def check_message(answer, row):
    return "no broken ones" if answer.topic == "product" else None
"""
)


def test_a_recheck_accepts_what_passes_tells_what_fails_and_asks_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = a_job_with_mistakes(home.parent / "job", 30)
    assert go(job)["quarantined"] == 3
    billed, turns = billed_micro(), ask_ledger(home, "SELECT count(*) FROM turn")
    edit(job, "answer.py")
    assert rowtide("recheck", RUN) == 0
    assert "          3 quarantined that pass, and are accepted" in capsys.readouterr().out
    assert go(job)["loaded"] == 30, "what was accepted is loaded when the run goes on: it has the version that judged"
    (job / "answer.py").write_text(STRICT)
    assert rowtide("recheck", RUN, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "         20 accepted or loaded that pass\n         10 accepted or loaded that fail\n" in said
    assert "no broken ones (for example m2, m5, m8)" in said
    assert len(answers_of(home)) == 30, "told, and not taken out"
    assert rowtide("recheck", RUN, "--take-out") == 0
    assert {answer["topic"] for answer in answers_of(home).values()} == {"billing", "delivery"}
    states = ask_ledger(home, "SELECT state, reason, count(*) FROM row GROUP BY 1, 2 ORDER BY 1")
    assert states == [("loaded", None, 20), ("quarantined", "recheck_failed", 10)]
    assert ask_ledger(home, "SELECT count(*) FROM loaded") == [(20,)]
    assert (billed_micro(), ask_ledger(home, "SELECT count(*) FROM turn")) == (billed, turns)
    edit(job, "answer.py")
    assert rowtide("recheck", RUN) == 0, "and back again, when the check was wrong after all"
    assert go(job)["loaded"] == 30
    assert len(answers_of(home)) == 30


def test_a_gate_that_was_tightened_says_what_of_a_jobs_sink_would_fail(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(home.parent / "job", rows=9, gates={"answers": "answers.yaml"}, tiers=["haiku"])
    gate = "expectations:\n- type: expect_column_values_to_be_in_set\n  kwargs: {{column: topic, value_set: {}}}\n"
    (job / "answers.yaml").write_text(gate.format(["billing", "delivery", "product"]))
    assert go(job)["loaded"] == 9
    billed = billed_micro()
    (job / "answers.yaml").write_text(gate.format(["billing", "delivery"]))
    assert rowtide("recheck", str(job)) == 0
    said = capsys.readouterr().out
    assert "6 accepted or loaded that pass\n          3 accepted or loaded that fail" in said
    assert "nothing was asked, $0.00" in said
    assert rowtide("recheck", str(job), "--take-out") == 0
    assert rowtide("recheck", str(job), "--take-out") == 0
    assert len(answers_of(home)) == 6
    assert billed_micro() == billed


def test_a_new_run_judges_again_and_does_not_ask_what_was_asked_just_so(home: Path) -> None:
    job = a_job_with_mistakes(home.parent / "job", 30)
    assert go(job)["quarantined"] == 3
    fails = {key for key, answer in answers_of(home).items() if answer["topic"] == "delivery"} | {"m1", "m4", "m7"}
    (job / "answer.py").write_text(STRICT.replace('== "product"', '== "delivery"'))
    found = run(job, run_id="r2")
    asked = {key for (key,) in ask_ledger(home, "SELECT row_key FROM row WHERE run_no = 2 AND turn > 0")}
    assert asked == fails, "what fails today is asked again, and nothing else"
    assert (found["unchanged"], found["turns"]) == (30 - len(fails), len(fails))
    (job / "answer.py").write_text(ANSWER)
    found = run(job, run_id="r3")
    assert (found["unchanged"] + found["loaded"], found["turns"]) == (30, 0), "what was quarantined is accepted"
    assert found["loaded"] >= 3
    assert len(answers_of(home)) == 30
    assert run(job, run_id="r4")["unchanged"] == 30
    assert billed_micro() == spent_micro(home)


def test_both_versions_stand_in_the_summary_and_in_show(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    edit(job)
    assert rowtide("amend", RUN, "--why", "a slip") == 0
    found = go(job)
    first, second = found["versions"]
    assert (first["rows"], first["turns"], second["rows"], second["turns"]) == (20, 20, 40, 40)
    assert (second["changed"], second["why"]) == (["prompt.md", "answer.py"], "a slip")
    assert first["cost_usd"] + second["cost_usd"] == pytest.approx(found["cost_usd"])
    told = [
        line
        for line in summary_as_text(found, results="", report="", ledger="", is_verbose=True).splitlines()
        if line.startswith("version")
    ]
    assert [line.split(",")[0] for line in told] == ["version  0: 20 rows", "version  1: 40 rows"]
    capsys.readouterr()
    assert rowtide("show", "m59") == 0
    assert "version 1" in capsys.readouterr().out


def test_amend_and_recheck_are_the_same_on_postgresql(
    home: Path, postgres_ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_LEDGER", postgres_ledger)
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    edit(job)
    assert rowtide("amend", RUN) == 0
    found = go(job)
    assert (found["loaded"], found["turns"]) == (60, 60)
    assert [each["rows"] for each in found["versions"]] == [20, 40]
    (job / "answer.py").write_text(STRICT)
    assert rowtide("recheck", RUN, "--take-out") == 0
    assert {answer["topic"] for answer in answers_of(home).values()} == {"billing", "delivery"}
    edit(job, "answer.py")
    assert rowtide("recheck", RUN) == 0
    assert go(job)["loaded"] == 60
    (job / "answer.py").write_text(ANSWER + "\n# judged otherwise\n")
    found = run(job, run_id="r2")
    assert (found["unchanged"], found["turns"]) == (40, 20), "those that version 0 asked are asked what is asked today"


@pytest.mark.parametrize("files", [("prompt.md",), ("answer.py",)])
def test_a_conversation_begins_afresh_or_goes_on_and_is_never_a_mixture(home: Path, files: tuple[str, ...]) -> None:
    job = home.parent / "small"
    shutil.copytree("chaos/jobs/small", job)
    go_until(job, "submit", 2)
    talking = ask_ledger(home, "SELECT count(*) FROM row WHERE state = 'ready' AND turn > conversation_from")[0][0]
    assert talking > 0, "tools have run, and nobody has asked again"
    for name in files:
        words = "\n\nBe kind.\n" if name == "prompt.md" else "\n# judged otherwise\n"
        file = job / name
        text = file.read_text()
        file.write_text(text.replace("\n---\n", words + "---\n") if name == "prompt.md" else text + words)
    assert rowtide("amend", RUN) == 0
    found = go(job)
    assert found["waiting"] == found["held"] == 0
    assert spent_micro(home) == billed_micro()
    afresh = ask_ledger(home, "SELECT count(*) FROM note WHERE move = 'amend' AND reason = 'amended'")[0][0]
    assert afresh >= talking if files == ("prompt.md",) else afresh == 0
    mixed = "SELECT count(*) FROM row r JOIN turn t ON t.row_no = r.row_no AND t.turn > r.conversation_from "
    mixed += "JOIN version v ON v.run_no = r.run_no AND v.version_no = t.version_no "
    mixed += "JOIN version w ON w.run_no = r.run_no AND w.version_no = r.version_no WHERE v.asking <> w.asking"
    assert ask_ledger(home, mixed) == [(0,)]


BROKEN = {  # what of the job is wrong when it stops, and what is mended
    "a check, on all": ({"answer": CHECKED.replace('row["id"] in ("m1", "m4", "m7")', "True")}, ("answer.py",)),
    "a check, on most": (
        {"answer": CHECKED.replace('row["id"] in ("m1", "m4", "m7")', 'row["id"] != "m3"')},
        ("answer.py", "prompt.md"),
    ),
    "the prompt, on all": ({"prompt": PROMPT.replace("{{ message }}", "{{ message + 1 }}")}, ("prompt.md",)),
    "the prompt, on most": (
        {"prompt": PROMPT.replace("{{ message }}", "{{ message if id == 'm3' else message + 1 }}")},
        ("prompt.md",),
    ),
}


@pytest.mark.parametrize(("wrong", "edited"), BROKEN.values(), ids=BROKEN.keys())
def test_a_run_that_its_jobs_own_code_stopped_goes_on_when_that_is_mended(
    home: Path, wrong: dict[str, str], edited: tuple[str, ...]
) -> None:
    given: dict[str, Any] = {"tiers": ["haiku"], "limits": {"batch_rows": 20, "enough_rows": 20}}
    job = make_job(home.parent / "job", rows=40, **given, **wrong)
    with pytest.raises(RunStopped, match="the job's own code fails alike"):
        go(job)
    edit(job, *edited)
    assert rowtide("amend", RUN) == 0
    found = go(job)
    assert (found["stopped"], found["loaded"], found["quarantined"], found["turns"]) == (None, 40, 0, 40)
    assert spent_micro(home) == billed_micro()


def test_rows_whose_check_still_raises_on_the_old_answer_are_asked_under_the_new_version(home: Path) -> None:
    job = a_job_with_mistakes(home.parent / "job", 20)
    assert go(job)["reasons"] == {"check_failed": 3}
    edit(job)
    (job / "prompt.md").write_text(PROMPT.replace("{{ message }}", "{{ message }} [sic]"))
    check = "\n\ndef check_it(answer, row):\n    return answer.message.split('[sic]')[1] or None\n"
    (job / "answer.py").write_text(ANSWER + check)  # it raises on what the old prompt brought
    assert rowtide("amend", RUN) == 0
    found = go(job)
    assert (found["loaded"], found["quarantined"], found["turns"]) == (20, 0, 23)
    assert ask_ledger(home, "SELECT row_key FROM row WHERE version_no = 1") == [("m1",), ("m4",), ("m7",)]
    assert spent_micro(home) == billed_micro()


def test_a_check_that_raises_passes_nothing_and_one_that_raises_on_most_takes_nothing_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(home.parent / "job", rows=30, tiers=["haiku"])
    assert go(job)["loaded"] == 30
    (job / "answer.py").write_text(CHECKED)
    assert rowtide("recheck", RUN) == 0
    said = capsys.readouterr().out
    assert "27 accepted or loaded that pass\n          3 accepted or loaded that fail" in said
    assert "check_message (answer.py:13) raised ValueError: could not convert string to float: ''" in said
    (job / "answer.py").write_text(CHECKED.replace('row["id"] in ("m1", "m4", "m7")', "True"))
    with pytest.raises(StoppedByJob, match="fails alike on 30 of 30 stored answers: check_message"):
        rowtide("recheck", RUN, "--take-out")
    assert len(answers_of(home)) == 30
    (job / "answer.py").write_text(CHECKED)
    found = run(job, run_id="r2")
    assert (found["unchanged"], found["quarantined"], found["turns"]) == (27, 3, 3), "who fails is asked again"


@pytest.mark.parametrize("engine", ["sqlite", "duckdb", "postgres"])
def test_what_fails_is_taken_out_of_a_table_and_loaded_again_when_it_passes(
    home: Path, request: pytest.FixtureRequest, engine: str
) -> None:
    url = {"sqlite": f"sqlite:///{home.parent}/sink.db", "duckdb": f"duckdb:///{home.parent}/sink.duckdb"}.get(engine)
    url = url or request.getfixturevalue("postgres_url")
    job = make_job(home.parent / "job", rows=12, tiers=["haiku"], sink={"kind": "sql", "url": url, "table": "answers"})

    def standing() -> dict[str, str]:
        query = "SELECT row_key, topic FROM answers"
        if engine == "duckdb":
            with duckdb.connect(url.removeprefix("duckdb:///")) as sink:
                return dict(sink.execute(query).fetchall())
        database = create_engine(url)
        with database.connect() as sink:
            found = dict(sink.execute(text(query)).tuples().all())
        database.dispose()
        return found

    assert go(job)["loaded"] == 12
    before = standing()
    (job / "answer.py").write_text(STRICT)
    for _ in range(2):
        assert rowtide("recheck", RUN, "--take-out") == 0
        assert standing() == {key: topic for key, topic in before.items() if topic != "product"}
    assert ask_ledger(home, "SELECT count(*) FROM loaded") == [(8,)]
    edit(job, "answer.py")
    assert rowtide("recheck", RUN) == 0
    assert (go(job)["loaded"], standing()) == (12, before)
    assert spent_micro(home) == billed_micro()
