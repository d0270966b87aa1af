"""Four ways to kill a run: at every effect, at two of them, at any time again and again, and with two workers at once.

Each comes to the same end as an undisturbed run, or what differs is a failure. A test calls these as they are:

    with ground(tmp_path) as here:
        assert not kill_everywhere(here).failures
"""

import multiprocessing
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from chaos.effects import KILLED, Death, When
from chaos.endings import Difference, Ending, Kind, differences, ending_of, live_differences
from chaos.lives import LONGEST_LIFE_SECONDS, Command, Home, begin, emulator, end_of, ended, kill, live, warm_up

HANDS = 2
LINGER = "0..0.05"  # how long batches take where time is left to chance, in seconds
EVERY_SIDE: tuple[When, ...] = ("before", "after")
SOONEST_SECONDS = 0.02
RECOVERY = 12  # so many effects into a resumed life, what was left in doubt is settled

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, and what had been done to the run."""

    kind: Kind
    after: str
    detail: str


@dataclass(frozen=True)
class Trial:
    """One run, disturbed and let finish."""

    after: str
    lives: int
    failures: list[Failure]
    left_behind: tuple[str, ...] = ()


@dataclass
class Result:
    """All trials of one kind."""

    name: str
    trials: list[Trial] = field(default_factory=list)

    @property
    def lives(self) -> int:
        return sum(trial.lives for trial in self.trials)

    @property
    def failures(self) -> list[Failure]:
        return [failure for trial in self.trials for failure in trial.failures]

    def count(self, kind: Kind) -> int:
        """How many trials failed so."""
        return sum(any(failure.kind == kind for failure in trial.failures) for trial in self.trials)


@dataclass(frozen=True)
class Ground:
    """Where lives are lived: processes that have imported everything, two emulators, and how it ends undisturbed."""

    pool: ProcessPoolExecutor
    folder: Path
    prompt_url: str  # batches end at once, so that each run has the same effects
    slow_url: str
    labels: list[str]
    calm: Ending
    calm_seconds: float
    say: Say

    def home(self, name: str, url: str) -> Home:
        return Home(self.folder / name, url)

    def try_all(self, name: str, trials: Iterable[Callable[[], Trial]]) -> Result:
        """Make the trials, two at a time."""
        result = Result(name)
        waiting = [self.pool.submit(trial) for trial in trials]
        for number, each in enumerate(waiting, 1):
            result.trials.append(each.result())
            self.say(f"{name}: {number} of {len(waiting)}, {len(result.failures)} failures")
        return result


@contextmanager
def ground(folder: Path, *, say: Say = lambda _: None) -> Generator[Ground]:
    """Prepare: ten seconds, of which most is importing."""
    say("warming up")
    # Spawned, not forked: the caller may have threads, and a fork would take their locks along.
    context = multiprocessing.get_context("spawn")
    with (
        emulator(folder / "prompt", "0") as prompt_url,
        emulator(folder / "slow", LINGER) as slow_url,
        ProcessPoolExecutor(HANDS, mp_context=context, initializer=warm_up) as pool,
    ):
        pool.submit(_undisturbed, Home(folder / "first", prompt_url)).result()  # what the first life imports late
        labels, calm, seconds = pool.submit(_undisturbed, Home(folder / "calm", prompt_url)).result()
        yield Ground(pool, folder, prompt_url, slow_url, labels, calm, seconds, say)


def kill_everywhere(here: Ground, *, sides: Sequence[When] = EVERY_SIDE, repeats: bool = True) -> Result:
    """Die before, and after, each effect of an undisturbed run; resume; compare.

    `repeats`: as `worth_dying_at` says.
    """
    trials = [partial(_undisturbed_again, here.home("again", here.prompt_url), here.calm)]
    for number, label in worth_dying_at(here.labels, repeats=repeats):
        for side in sides:
            home = here.home(f"{number:03d}-{side}", here.prompt_url)
            after = f"died {side} effect {number}, {label}"
            trials.append(partial(_die_and_resume, home, Death(number, side), None, after, here.calm))
    return here.try_all("every effect", trials)


def worth_dying_at(labels: Sequence[str], *, repeats: bool) -> Iterator[tuple[int, str]]:
    """Each effect with its number. Without `repeats`: of effects that are called alike, only the first and the last."""
    for number, label in enumerate(labels, 1):
        if repeats or label not in labels[: number - 1] or label not in labels[number:]:
            yield number, label


def kill_twice(here: Ground, times: int, *, seed: int = 0) -> Result:
    """Die at some effect, die again while resuming, resume; compare. Recovery has effects of its own."""
    chance = random.Random(seed)
    trials = []
    for number in range(times):
        one, other = (chance.randint(1, most) for most in (len(here.labels), RECOVERY))
        home = here.home(f"twice-{seed}-{number}", here.prompt_url)
        after = f"died before effect {one}, {here.labels[one - 1]}; resumed, died before effect {other}"
        trials.append(partial(_die_and_resume, home, Death(one, "before"), Death(other, "before"), after, here.calm))
    return here.try_all("an effect, then another", trials)


def sigkill(here: Ground, times: int, *, kills: int = 6, seed: int = 0) -> Result:
    """Take `times` runs; SIGKILL each `kills` times at any moment, going on each time; let it finish; compare."""
    chance = random.Random(seed)
    trials = []
    for number in range(times):
        moments = [chance.uniform(SOONEST_SECONDS, here.calm_seconds) for _ in range(kills)]
        home = here.home(f"sigkill-{seed}-{number}", here.slow_url)
        trials.append(partial(_kill_and_resume, home, moments, here.calm))
    return here.try_all("SIGKILL at any time", trials)


def sigkill_live(here: Ground, times: int, *, kills: int = 4, seed: int = 0) -> Result:
    """The same with live calls: what was on the wire is made again, and noted."""
    chance = random.Random(seed)
    trials = []
    for number in range(times):
        moments = [chance.uniform(SOONEST_SECONDS, here.calm_seconds) for _ in range(kills)]
        home = replace(here.home(f"live-{seed}-{number}", here.slow_url), lane="live")
        trials.append(partial(_kill_and_resume, home, moments, here.calm))
    return here.try_all("SIGKILL with live calls", trials)


def two_workers(here: Ground, times: int, *, is_one_killed: bool, seed: int = 0) -> Result:
    """Let two processes work on one run at once; SIGKILL one of them, or none; compare."""
    chance = random.Random(seed)
    name = "two workers, one killed" if is_one_killed else "two workers"
    trials = []
    for number in range(times):
        moment = chance.uniform(SOONEST_SECONDS, here.calm_seconds) if is_one_killed else None
        home = here.home(f"two-{is_one_killed}-{seed}-{number}", here.slow_url)
        trials.append(partial(_share, home, moment, here.calm))
    return here.try_all(name, trials)


def to_stderr(said: str) -> None:
    sys.stderr.write(f"\r\033[K{said}" if sys.stderr.isatty() else f"{said}\n")
    sys.stderr.flush()


def _undisturbed(home: Home) -> tuple[list[str], Ending, float]:
    began = time.perf_counter()
    status = live(home)
    seconds = time.perf_counter() - began
    assert status == 0, f"an undisturbed run failed: {home.last_words()}; see {home.log}"
    return home.labels(), ending_of(home), seconds


def _undisturbed_again(home: Home, calm: Ending) -> Trial:
    """Two undisturbed runs end alike, or comparing says nothing."""
    return finish(home, "nothing was done to it", calm, lives=1)


def _die_and_resume(home: Home, death: Death, again: Death | None, after: str, calm: Ending) -> Trial:
    for each in (death, again) if again else (death,):
        status = live(home, each)
        # What is left for the second life may have fewer effects than it was to die at.
        if status != KILLED and not (status == 0 and each is again):
            words = f"it should have died; it {how(status)}: {home.last_words()}"
            return Trial(after, 1, [Failure("did not end", after, words)])
    return finish(home, after, calm, lives=3 if again else 2)


def _kill_and_resume(home: Home, moments: list[float], calm: Ending) -> Trial:
    lives = 0
    for moment in moments:
        lives += 1
        life = begin(home)
        time.sleep(moment)
        if ended(life) is not None:
            break
        kill(life)
    after = "SIGKILL after " + ", ".join(f"{moment:.3f}" for moment in moments[:lives]) + " s"
    return finish(home, after, calm, lives=lives + 1)


def _share(home: Home, moment: float | None, calm: Ending) -> Trial:
    one, other = begin(home), begin(home)
    after = "two at once"
    failures: list[Failure] = []
    if moment is not None:
        after += f", one killed after {moment:.3f} s"
        time.sleep(moment)
        if ended(one) is None:
            kill(one)
    elif status := end_of(one):
        failures.append(_stopped(home, after, status))
    if status := end_of(other):
        failures.append(_stopped(home, after, status))
    trial = finish(home, after, calm, lives=3)
    return Trial(after, trial.lives, failures + trial.failures, trial.left_behind)


def _stopped(home: Home, after: str, status: int) -> Failure:
    return Failure("did not end", after, f"a worker {how(status)}: {home.last_words()}; see {home.log}")


def finish(home: Home, after: str, calm: Ending, *, lives: int, command: Command | None = None) -> Trial:
    """Let the run (or a command about it) finish, and compare its end with the undisturbed one's."""
    if status := live(home, command=command):
        words = f"resumed, it {how(status)}: {home.last_words()}; see {home.log}"
        return Trial(after, lives, [Failure("did not end", after, words)])
    try:
        found = ending_of(home)
    except Exception:  # noqa: BLE001 # an end that cannot even be read is a finding, not a reason to stop looking
        return Trial(after, lives, [Failure("did not end", after, traceback.format_exc(limit=-1))])
    compare = differences if home.lane == "batch" else live_differences
    failures = [_failure(after, each) for each in compare(calm, found)]
    return Trial(after, lives, failures, found.left_behind)


def how(status: int) -> str:
    too_long = f"was still at it after {LONGEST_LIFE_SECONDS} s"
    return too_long if status == -signal.SIGKILL else f"ended with {status}"


def _failure(after: str, difference: Difference) -> Failure:
    return Failure(difference.kind, after, difference.detail)
