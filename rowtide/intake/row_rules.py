"""What each job asks of its rows: found when its first message comes, and its trouble with that is its own alone."""

import asyncio
import time
from asyncio import Task
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rowtide.intake.messages import MessageRefused, RowRules
from rowtide.intake.sources import source_columns
from rowtide.job.job_file import JOB_FILE, read_spec
from rowtide.observing.bounded_threads import BoundedThreads

WAIT_SECONDS = 5.0  # a sender, for a source that does not answer
AGAIN_SECONDS = 10.0  # a door that could not be found is not looked for sooner
GIVEN_UP_SECONDS = 60.0  # a source that has not answered for so long is asked once more beside
LISTED_SECONDS = 1.0  # the folder of jobs is read no more often, whoever asks for whatever


@dataclass
class _Search:
    """One attempt to find a job's door."""

    task: Task[RowRules]
    since: float


@dataclass
class RowRulesOfJobs:
    """The doors of the jobs under a folder."""

    jobs: Path
    environment: Mapping[str, str]
    _known: frozenset[str] = frozenset()
    _listed_at: float = float("-inf")
    _found: dict[str, RowRules] = field(default_factory=dict[str, RowRules])
    _searches: dict[str, _Search] = field(default_factory=dict[str, _Search])
    _threads: dict[str, BoundedThreads] = field(default_factory=dict[str, BoundedThreads])

    def has(self, job: str) -> bool:
        """Whether there is such a job: the name is looked for among the folders', and is never a path."""
        now = time.monotonic()
        if now - self._listed_at >= LISTED_SECONDS:
            self._known = frozenset(file.parent.name for file in self.jobs.glob(f"*/{JOB_FILE}"))
            self._listed_at = now
        return job in self._known

    async def door(self, job: str) -> RowRules:
        """What the job asks of a row. Raises MessageRefused while that is not known, UserMistake for a wrong job."""
        if job in self._found:
            return self._found[job]
        search = self._search(job)
        left = max(0.0, search.since + WAIT_SECONDS - time.monotonic())
        try:
            async with asyncio.timeout(None if search.task.done() else left):
                self._found[job] = await asyncio.shield(search.task)
        except TimeoutError:
            words = f"the source of job {job!r} has not answered for {WAIT_SECONDS:g} s"
            raise MessageRefused("unavailable", words, retry_after_seconds=AGAIN_SECONDS) from None
        self._searches.pop(job, None)
        return self._found[job]

    def _search(self, job: str) -> _Search:
        now, search = time.monotonic(), self._searches.get(job)
        old = AGAIN_SECONDS if search and search.task.done() else GIVEN_UP_SECONDS
        if search is None or now - search.since >= old:
            threads = self._threads.setdefault(job, BoundedThreads(3))
            call = threads.call(None, read_row_rules, job, self.jobs, self.environment)
            search = self._searches[job] = _Search(asyncio.create_task(call), now)
        return search


def read_row_rules(job: str, jobs: Path, environment: Mapping[str, str]) -> RowRules:
    """Read the job, and its source's columns. Raises UserMistake where either is wrong."""
    folder = jobs / job
    spec = read_spec(folder)
    return RowRules(job, spec.key_columns, source_columns(spec.source, folder, environment), spec.limits.row_bytes)
