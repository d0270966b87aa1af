"""A version that must have passed an eval: refused, put before a person by a form, let run or stopped."""

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ThisProcess, ask_ledger, make_job
from outside import rowtide
from test_eval_command import WIDE, eval_job, make_golden
from test_retry import suspend_and_answer
from test_serve import letter

from flows.pump import pump
from flows.when_permitted import when_permitted
from rowtide.errors import NoPassingVerdict, RunStopped, VersionStopped
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.stages.orchestrator import orchestrated_by
from rowtide.stages.required_eval import ASK_AGAIN, ask_about_version
from tasks.claim_inbox import claim_inbox

WORSE = "Sort the message.\n---\nmessage: {{ message }}\n"
REQUIRED = {"evals": {**WIDE["evals"], "required": True}}
NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Person(ThisProcess):
    """Calls stages in this process, for a deployment's flow run whose forms are answered at once."""

    can_suspend = True

    def __init__(self, flow_run_id: str, decision: str) -> None:
        super().__init__(None)
        self._id, self._decision = flow_run_id, decision
        self.forms: list[str] = []
        self.events: list[tuple[str, Any]] = []

    @property
    def flow_run_id(self) -> str:
        return self._id

    async def ask(self, form: type[Any], words: Any, *, key: str) -> Any:
        self.forms.append(words)
        return form(decision=self._decision, why="as I please", who="Ada")

    def emit(self, event: str, kind: str, subject: str, payload: Any, *, job: str, event_id: Any) -> None:
        self.events.append((event, payload))


class Gone(Exception):
    pass


class Leaves(Person):
    """Whoever is asked does not answer: the process ends, as at a suspension."""

    def __init__(self, flow_run_id: str) -> None:
        super().__init__(flow_run_id, "")

    async def ask(self, form: type[Any], words: Any, *, key: str) -> Any:
        raise Gone


def run_by(person: Person, job: Path) -> dict[str, Any]:
    with orchestrated_by(person):
        return asyncio.run(pump(str(job)))


def test_a_person_stops_a_version_once_and_nobody_is_asked_about_it_again(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", **REQUIRED)
    make_golden(job, 6)
    person = Person("flow-1", "stop")
    with pytest.raises(RunStopped, match="Ada stopped this version: as I please"):
        run_by(person, job)
    assert "this version has none: nothing was begun" in person.forms[0]
    ((event, payload),) = person.events
    assert (event, payload["command"]) == ("version.held", "rowtide eval job --override --why TEXT")
    assert ask_ledger(home, "SELECT decision, who, why, flow_run_id FROM eval_override") == [
        ("stop", "Ada", "as I please", "flow-1")
    ]
    later = Person("flow-2", "run")
    with pytest.raises(VersionStopped, match="and Ada stopped it: as I please"):
        run_by(later, job)
    assert (later.forms, ask_ledger(home, "SELECT count(*) FROM run")) == ([], [(0,)])
    environment = {"ROWTIDE_HOME": str(home)}
    assert rowtide("eval", job, "--override", "--why", "it is a test", environment=environment).status == 0
    told = run_by(later, job)
    assert (told["loaded"], [each["why"] for each in told["overrides"]]) == (6, ["it is a test"])


def test_one_form_is_shown_for_a_version_however_many_flow_runs_it_holds(ledger: Ledger) -> None:
    refused = NoPassingVerdict("no", job="j", version="v", folder=Path("j"))
    first = ask_about_version(ledger, refused, "flow-1", now=NOW)
    with pytest.raises(VersionStopped, match="by a form on the page of flow run flow-1"):
        ask_about_version(ledger, refused, "flow-2", now=NOW + timedelta(minutes=1))
    other = NoPassingVerdict("no", job="j", version="w", folder=Path("j"))
    assert ask_about_version(ledger, other, "flow-2", now=NOW).override_no != first.override_no
    again = ask_about_version(ledger, refused, "flow-3", now=NOW + ASK_AGAIN + timedelta(minutes=1))
    assert again.override_no != first.override_no, "whoever was asked may have deleted the flow run"


def test_rows_that_came_by_webhook_wait_while_a_person_is_asked_about_their_version(api: Any, tmp_path: Path) -> None:
    evals = {"evals": {"required": True}}
    job = make_job(tmp_path / "job", source={"inbox": ["id", "message"]}, tiers=["opus"], **evals)
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    ledger_inbox.receive_messages(ledger, [letter(1, "a", "b", job="job")], "token", now=datetime.now(UTC))

    def flush_by(person: Person) -> Any:
        with orchestrated_by(person):
            return asyncio.run(when_permitted(partial(claim_inbox, str(job), 1, None)))

    def waiting() -> int:
        with ledger.view() as tx:
            return sum(each.rows for each in ledger_inbox.waiting_rows(tx))

    with pytest.raises(Gone):
        flush_by(Leaves("00000000-0000-0000-0000-000000000001"))
    with pytest.raises(VersionStopped, match="A person is being asked"):
        flush_by(Person("00000000-0000-0000-0000-000000000002", "run"))
    assert waiting() == 2
    assert flush_by(Person("00000000-0000-0000-0000-000000000001", "run"))[0] == str(job)
    assert waiting() == 0
    ledger.close()


@pytest.mark.slow
def test_a_worse_prompt_is_committed_the_deployment_refuses_and_a_person_lets_it_run_with_a_reason(
    api: Any, prefect_server: str, tmp_path: Path
) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "repository" / "jobs" / "sorting", rows=120, **REQUIRED)
    make_golden(job, 120)
    commit(tmp_path / "repository", "first")
    assert eval_job(job, home).verdict == "not_worse"
    (job / "prompt.md").write_text(WORSE)
    commit(tmp_path / "repository", "shorter is better")
    found = eval_job(job, home)
    assert found.verdict == "worse"
    answer = {"decision": "run", "why": "the press waits", "who": "Ada"}
    states, form = asyncio.run(suspend_and_answer(job, answer))
    assert states == ["Suspended", "Completed"]
    assert f"this version was found worse by {found.eval_id}: nothing was begun" in form
    assert ask_ledger(home, "SELECT decision, who, why FROM eval_override") == [("run", "Ada", "the press waits")]
    (run_id,) = ask_ledger(home, "SELECT run_id FROM run WHERE eval_id IS NULL")[0]
    environment = {"ROWTIDE_HOME": str(home), "ROWTIDE_PAGE": "1"}
    assert rowtide("report", run_id, environment=environment).status == 0
    assert rowtide("resume", found.eval_id, environment=environment).status == 6
    told = {run_id: "let version 0 of the job run without a passing eval", found.eval_id: "let it run all the same"}
    for page, words in told.items():
        html = (home / "reports" / f"{page}.html").read_text()
        assert "Ada" in html and words in html and "the press waits" in html


def commit(repository: Path, message: str) -> None:
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", message]):
        subprocess.run([*git, *words], check=True)
