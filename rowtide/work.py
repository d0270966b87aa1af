"""A run, opened for work: its record, its job as it was when the run began, and the ladder's models.

Every task starts here, so every task works on the same job or says what has changed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import BaseModel

from rowtide import ledger as ledgers
from rowtide.catalogue import Model, load_catalogue
from rowtide.claude import api_schema
from rowtide.errors import UserMistake
from rowtide.gates import Suite, load_suite
from rowtide.job import SourceSpec
from rowtide.job_folder import Job, changed_files, check_holes, check_key, load_job
from rowtide.ledger import Ledger, Run
from rowtide.requests import shared_part
from rowtide.sources import columns
from rowtide.tools import ToolPool

SPOOL_PAGE = 5000


@dataclass(frozen=True)
class Work:
    """What a task needs to know of its run."""

    ledger: Ledger
    home: Path
    run: Run
    job: Job
    models: list[Model]

    def spool(self, name: str) -> Path:
        """A file of this run's own: request bodies on their way out, results on their way in."""
        folder = self.home / "spool" / self.run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def sweep_spool(self, *, keep: Collection[str]) -> None:
        """Delete the files of every tag but these."""
        for file in (self.home / "spool" / self.run.run_id).glob("*"):
            if file.name.partition(".")[0] not in keep:
                file.unlink()


@dataclass(frozen=True)
class Plan:
    """A job found fit to run: nothing has been sent, and nothing more can be known to be wrong."""

    job: Job
    source: SourceSpec
    models: list[Model]
    request: bytes


async def plan(folder: Path, source_path: str | None, environment: Mapping[str, str]) -> Plan:
    """Check all that can be checked before a cent is spent. Raises UserMistake."""
    job = load_job(folder)
    source = job.spec.source if source_path is None else SourceSpec(path=Path(source_path).resolve())
    known = columns(source, folder, environment)
    check_key(job, known)
    check_holes(job, known)
    load_gate(job)
    models = models_of(job)
    schema = api_schema(job.answer)
    async with tool_pool(job, environment) as pool:
        tools: list[dict[str, object]] = [
            {"name": tool.wire_name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in await pool.catalogue()
        ]
    return Plan(job, source, models, shared_part(job.instructions, tools, schema))


def open_work(ledger: Ledger, home: Path, run_id: str) -> Work:
    """Open a run. Raises UserMistake when its job has changed in a way that decides answers."""
    with ledger.view() as tx:
        run = ledgers.find_run(tx, run_id)
    job = load_job(Path(run.job_folder))
    if job.version != run.job_version:
        changed = ", ".join(changed_files(orjson.loads(run.job_files), job.files))
        raise UserMistake(
            f"{changed} changed since run {run.run_id} began, and a run's rows must all be asked alike; "
            "put it back to resume, or start a new run",
            file=job.folder,
        )
    return Work(ledger, home, run, job, models_of(job))


def models_of(job: Job) -> list[Model]:
    """The ladder's models, lowest rung first."""
    catalogue = load_catalogue()
    return [catalogue.tier(alias) for alias in job.spec.tiers]


def tool_pool(job: Job, environment: Mapping[str, str]) -> ToolPool:
    return ToolPool(job.spec.tools, job.folder, environment, job.spec.limits.tool_output_chars)


def load_gate(job: Job) -> Suite | None:
    """The answers gate, or None when the job has none."""
    if job.spec.gates.answers is None:
        return None
    return load_suite(job.folder / job.spec.gates.answers, list(fields_of(job.answer)))


def fields_of(answer: type[BaseModel]) -> list[str]:
    """The answer's columns."""
    return list(answer.model_fields)
