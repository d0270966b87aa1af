"""What a person does to a run that has begun (amend, recheck, reload), killed at every one of its effects.

The same command, given again, then ends it as if nothing had happened; so does the run, where it goes on afterwards.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import yaml

from chaos.effects import KILLED, Death, When
from chaos.endings import DATABASE, SECOND, TABLE, Ending, ending_of
from chaos.kill import EVERY_SIDE, Failure, Ground, Result, Trial, finish, how, worth_dying_at
from chaos.lives import HALTED, RUN, SMALL, Command, Home, Stage, live
from cli.amend import amend_
from cli.recheck import recheck_
from cli.reload import reload_

RAISES = """

def check_row(answer, row):
    return 1 / 0 if row["message_id"] in ("m3", "m4") else None
"""
FAILS = """

def check_row(answer, row):
    return "no north desk" if answer.desk == "north desk" else None
"""
SLIP = ("say which desk", "say witch desk")

Change = Callable[[Path], object]  # of a job's files


@dataclass(frozen=True, slots=True)
class Given:
    """A command, what the run has come to when it is given, and whether the run goes on afterwards."""

    name: str
    command: Callable[[Home], Command]
    at_first: Change
    until: Stage | None
    """Where the run was stopped; None: it has come to its end."""
    then: Change
    """What the person did to the job before."""
    goes_on: bool = False
    loses_sink: bool = False


def kill_commands(here: Ground, *, sides: Sequence[When] = EVERY_SIDE, repeats: bool = True) -> Result:
    """Die before, and after, each effect of each command; give it again; compare. `repeats`: as for a run."""
    trials = []
    for given in GIVEN:
        labels, calm = here.pool.submit(_undisturbed, _home(here, f"{given.name}, calm"), given).result()
        for number, label in worth_dying_at(labels, repeats=repeats):
            for side in sides:
                home = _home(here, f"{given.name}, {number:03d}-{side}")
                after = f"{given.name} died {side} effect {number}, {label}"
                trials.append(partial(_die_and_give_again, home, given, Death(number, side), after, calm))
    return here.try_all("amend, recheck, reload", trials)


def _home(here: Ground, name: str) -> Home:
    home = here.home(name.replace(" ", "-"), here.prompt_url)
    return replace(home, job=home.folder / "job")


def _undisturbed(home: Home, given: Given) -> tuple[list[str], Ending]:
    _prepare(home, given)
    assert live(home, command=given.command(home)) == 0, f"{given.name}: {home.last_words()}; see {home.log}"
    labels = home.labels()
    assert not given.goes_on or live(home) == 0, f"after {given.name}: {home.last_words()}; see {home.log}"
    return labels, ending_of(home)


def _die_and_give_again(home: Home, given: Given, death: Death, after: str, calm: Ending) -> Trial:
    _prepare(home, given)
    command = given.command(home)
    expected = [(live(home, death, command=command), KILLED)]
    if given.goes_on:
        expected.append((live(home, command=command), 0))
    for status, planned in expected:
        if status != planned:
            words = f"it should have ended with {planned}; it {how(status)}: {home.last_words()}; see {home.log}"
            return Trial(after, 2, [Failure("did not end", after, words)])
    return finish(home, after, calm, lives=2 + len(expected), command=None if given.goes_on else command)


def _prepare(home: Home, given: Given) -> None:
    """Take the run to where the command finds it."""
    shutil.copytree(SMALL, home.job)
    given.at_first(home.job)
    status, planned = live(home, until=given.until), HALTED if given.until else 0
    assert status == planned, f"before {given.name}: {how(status)}: {home.last_words()}; see {home.log}"
    given.then(home.job)
    if given.loses_sink:
        shutil.rmtree(home.folder / "results")


def _nothing(_: Path) -> None:
    pass


def _checks(words: str, job: Path) -> None:
    (job / "answer.py").write_text((SMALL / "answer.py").read_text() + words)


def _slips(job: Path) -> None:
    """The job as a stranger wrote it: a slip in its prompt, and a check that raises on two rows."""
    _checks(RAISES, job)
    prompt = job / "prompt.md"
    prompt.write_text(prompt.read_text().replace(*SLIP))


def _mends(job: Path) -> None:
    for name in ("answer.py", "prompt.md"):
        shutil.copy(SMALL / name, job / name)


def _loads_into_table(job: Path) -> None:
    spec = yaml.safe_load((job / "job.yaml").read_text())
    spec["sink"] = {"kind": "sql", "url": f"sqlite:///{job.parent / DATABASE}", "table": TABLE}
    (job / "job.yaml").write_text(yaml.safe_dump(spec))


def _amend(_: Home) -> Command:
    return partial(amend_, RUN)


def _recheck(_: Home, *, takes_out: bool = False) -> Command:
    return partial(recheck_, RUN, take_out=takes_out)


def _reload(_: Home) -> Command:
    return partial(reload_, RUN)


def _reload_into_folder(home: Home) -> Command:
    return partial(reload_, RUN, sink=str(home.folder / SECOND))


def _reload_into_table(home: Home) -> Command:
    return partial(reload_, RUN, sink=f"sqlite:///{home.folder / DATABASE}", table=TABLE)


CHECKS_RAISE, CHECKS_FAIL = partial(_checks, RAISES), partial(_checks, FAILS)
TAKE_OUT = partial(_recheck, takes_out=True)
GIVEN = [
    Given("amend in mid-conversation", _amend, _slips, ("submit", 2), _mends, goes_on=True),
    Given("amend before the load", _amend, _slips, ("load", 1), _mends, goes_on=True),
    Given("recheck", _recheck, CHECKS_RAISE, None, _mends, goes_on=True),
    Given("recheck --take-out", TAKE_OUT, _nothing, None, CHECKS_FAIL),
    Given("recheck --take-out of a table", TAKE_OUT, _loads_into_table, None, CHECKS_FAIL),
    Given("recheck --take-out before the load", TAKE_OUT, _nothing, ("load", 1), CHECKS_FAIL),
    Given("reload into a lost sink", _reload, _nothing, None, _nothing, loses_sink=True),
    Given("reload into a second folder", _reload_into_folder, _nothing, None, _nothing),
    Given("reload into a table", _reload_into_table, _nothing, None, _nothing),
]
