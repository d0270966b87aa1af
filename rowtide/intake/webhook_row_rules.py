"""Finds out what each job requires of its rows when its first message comes; one job's failure is its own."""

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

WAIT_SECONDS = 5.0  # how long a sender waits for a source that does not answer
AGAIN_SECONDS = 10.0  # a failed search is not repeated sooner
GIVEN_UP_SECONDS = 60.0  # a search that hangs so long gets a second one beside it
LISTED_SECONDS = 1.0  # the folder of jobs is listed at most so often


@dataclass
class _Search:
    """One attempt to read a job's rules."""

    task: Task[RowRules]
    since: float


@dataclass
class RowRulesOfJobs:
    """The row rules of the jobs under a folder."""

    jobs: Path
    environment: Mapping[str, str]
    _known: frozenset[str] = frozenset()
    _listed_at: float = float("-inf")
    _found: dict[str, RowRules] = field(default_factory=dict[str, RowRules])
    _searches: dict[str, _Search] = field(default_factory=dict[str, _Search])
    _threads: dict[str, BoundedThreads] = field(default_factory=dict[str, BoundedThreads])

    def has(self, job: str) -> bool:
        """Return whether the job exists: its name is compared with the folders' names, and never used as a path."""
        now = time.monotonic()
        if now - self._listed_at >= LISTED_SECONDS:
            self._known = frozenset(file.parent.name for file in self.jobs.glob(f"*/{JOB_FILE}"))
            self._listed_at = now
        return job in self._known

    async def of(self, job: str) -> RowRules:
        """Return the job's row rules. Raises MessageRefused while they are unknown, UserMistake for an invalid job."""
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
    """Read a job's row rules from its spec and its source's columns. Raises UserMistake if either is wrong."""
    folder = jobs / job
    spec = read_spec(folder)
    return RowRules(job, spec.key_columns, source_columns(spec.source, folder, environment), spec.limits.row_bytes)
