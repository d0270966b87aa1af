"""A run opened for work: its record, its job as it was when the run began, and its models.

Every task opens one, so every task works on the same job or says what has changed.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from rowtide.agent.agent import RowAt
from rowtide.agent.requests import with_effort
from rowtide.agent.self_check import Rubric, SelfCheckVerdict
from rowtide.api.api_schema import api_schema
from rowtide.gates.gate_files import Gate, Suite, load_suite
from rowtide.job.job_folder import Job, load_job
from rowtide.job.job_spec import ToolServerSpec
from rowtide.job.prompt import read_prompt
from rowtide.job.run_id import check_run_id
from rowtide.job.versions import check_job_unchanged
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger.batches import Batch
from rowtide.ledger.claims import Worker
from rowtide.ledger.ledger import Ledger, Run
from rowtide.sinks.rehearsal_sink import with_rehearsal_sink
from rowtide.tiers.catalogue import NOTHING, Catalogue, Model, Overrides, load_catalogue
from rowtide.tiers.escalation import EscalationRules, resolve_model
from rowtide.tools.api_connector import BETA, fill_in_tokens
from rowtide.tools.kept_pool import pool_of
from rowtide.tools.operator_servers import NOTHING_PROVIDED, OperatorServers, apply_operator_servers
from rowtide.tools.server_secrets import environment_of_servers
from rowtide.tools.tools import ToolPool

SPOOL_PAGE = 5000
WRITTEN = "written.jsonl"  # in the spool: the text of streams, while somebody watches

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class RunContext:
    """What a task needs to know of its run."""

    ledger: Ledger
    home: Path
    run: Run
    job: Job
    models: list[Model]
    """The models of the tiers, lowest first, then the self-check's; fallbacks are not applied."""
    servers: dict[str, ToolServerSpec]
    """The job's tool servers; for a capability, the server that was found for it."""
    environment: Mapping[str, str]
    catalogue: Catalogue = field(default_factory=load_catalogue)
    worker: Worker = field(default_factory=Worker)

    @cached_property
    def prefixes(self) -> dict[int, bytes]:
        """Prefix contents by prefix_no, read once: when rows are asked, all are there."""
        with self.ledger.view() as tx:
            kept = ledger_prefixes.prefix_contents(tx, self.run)
        return {
            number: fill_in_tokens(content, self.environment) if self.betas else content
            for number, content in kept.items()
        }

    def prefix(self, prefix_no: int, effort: str | None) -> bytes:
        """Return the prefix before a row's own message, with this effort."""
        key = prefix_no, effort
        if key not in self._with_effort:
            self._with_effort[key] = with_effort(self.prefixes[prefix_no], effort)
        return self._with_effort[key]

    @cached_property
    def _with_effort(self) -> dict[tuple[int, str | None], bytes]:
        return {}

    @cached_property
    def earlier_versions(self) -> frozenset[int]:
        """The run's versions that ask otherwise than its present one; empty unless it was amended."""
        if not self.run.version_no:
            return frozenset()
        with self.ledger.view() as tx:
            return ledger_job_versions.versions_that_ask_otherwise(tx, self.run)

    @property
    def betas(self) -> list[str]:
        """The beta headers that the run's requests need."""
        return [BETA] if any(spec.placement == "connector" for spec in self.servers.values()) else []

    @cached_property
    def rubric(self) -> tuple[Rubric, bytes]:
        """The self-check's rubric, and the part that all its requests share."""
        rubric = self_check_rubric(self.job)
        assert rubric is not None
        return rubric, rubric.shared(api_schema(SelfCheckVerdict))

    @property
    def escalation(self) -> EscalationRules:
        spec = self.job.spec
        return EscalationRules(
            len(spec.tiers), spec.escalation, spec.limits.tool_output_chars if spec.escalation.quote else 0
        )

    def asked(self, row: RowAt) -> int:
        """Return the index in `models` for the row's next request: its tier's model, or the self-check's."""
        return len(self.job.spec.tiers) if row.in_self_check else row.tier

    def standing(self, *, at: str | None = None) -> list[Model]:
        """Return the models that answer for `models`, now or at a ledger timestamp, fallbacks included."""
        with self.ledger.view() as tx:
            unavailable_models = ledger_tiers.unavailable_models(tx, self.run)
        out = {each.model_id for each in unavailable_models if at is None or each.since <= at}
        return [resolve_model(self.catalogue, model, out) for model in self.models]

    def batches(self, *states: str) -> list[Batch]:
        """Return the run's batches in any of these states, oldest first."""
        with self.ledger.view() as tx:
            return ledger_batches.batches_in_states(tx, self.run, states)

    @property
    def top(self) -> Model:
        """The model of the ladder's highest tier."""
        return self.models[len(self.job.spec.tiers) - 1]

    def spool(self, name: str) -> Path:
        """Return the path of a spool file of this run: request bodies on their way out, results on their way in."""
        folder = self.home / "spool" / self.run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def sweep_spool(self, *, keep: Collection[str]) -> None:
        """Delete the spool files of all tags but these; the text of streams stays."""
        for file in (self.home / "spool" / self.run.run_id).glob("*"):
            if file.name != WRITTEN and file.name.partition(".")[0] not in keep:
                file.unlink()


def open_run(
    ledger: Ledger,
    home: Path,
    run_id: str,
    environment: Mapping[str, str],
    overrides: Overrides = NOTHING,
    provided: OperatorServers = NOTHING_PROVIDED,
) -> RunContext:
    """Open a run. Raises UserMistake when its job has changed in a way that decides answers.

    Its tiers keep the names they began with; the models behind them are as in today's catalogue.
    """
    with ledger.view() as tx:
        run = ledgers.find_run(tx, check_run_id(run_id))
    job = load_job(Path(run.job_folder))
    check_job_unchanged(job.version, run, job.folder)
    names: list[str] = orjson.loads(run.tiers)
    job = with_rehearsal_sink(job.on_ladder(names[: len(names) - bool(job.spec.checks.self_check)]), run.api)
    catalogue = load_catalogue(overrides)
    found: dict[str, dict[str, Any]] = orjson.loads(run.servers)
    pinned = {name: ToolServerSpec.model_validate(each["spec"]) for name, each in found.items()}
    servers = apply_operator_servers(job.name, {**job.spec.tools, **pinned}, provided)
    return RunContext(ledger, home, run, job, models_of(job, catalogue), servers, environment, catalogue)


def models_of(job: Job, catalogue: Catalogue) -> list[Model]:
    """Return the ladder's models, lowest tier first, then the self-check's if the job has one."""
    look = job.spec.checks.self_check
    return [catalogue.tier(alias) for alias in [*job.spec.tiers, *([look.tier] if look else [])]]


def self_check_rubric(job: Job) -> Rubric | None:
    """Return the self-check's rubric, or None if the job has none."""
    look = job.spec.checks.self_check
    return Rubric(*read_prompt(file := job.folder / look.rubric), file) if look else None


def open_tool_pool(
    job: Job, environment: Mapping[str, str], servers: Mapping[str, ToolServerSpec]
) -> AbstractAsyncContextManager[ToolPool]:
    """Return the job's tool servers, for as long as an `async with` lasts; stages that follow each other share them."""
    needed = environment_of_servers(servers, environment)
    made_of = dict(servers), job.folder, needed, job.spec.limits.tool_output_chars
    return pool_of(made_of, lambda: ToolPool(*made_of))


def load_gate(job: Job, gate: Gate = "answers") -> Suite | None:
    """Return a gate of a job whose gates were checked, or None if it has no such gate."""
    file = getattr(job.spec.gates, gate)
    return None if file is None else load_suite(job.folder / file, gate, None)
