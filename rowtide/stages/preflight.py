"""Checks all that can be checked of a job before it costs anything: `rowtide plan`, and the beginning of every run."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from rowtide.agent.requests import (
    cache_warnings,
    cacheable_tokens,
    check_shared_part_size,
    shared_request_part,
    with_skills,
)
from rowtide.api.api_identity import UNKNOWN, Api
from rowtide.api.api_schema import api_schema
from rowtide.extras import need
from rowtide.gates.gate_files import Gate, load_suite
from rowtide.intake.source_interface import SourceShape
from rowtide.intake.sources import choose_source, source_display_name, source_shape
from rowtide.job.answer_fields import gate_column_names
from rowtide.job.job_folder import Job, check_columns, check_runbook, load_job
from rowtide.job.job_spec import SkillsSpec, SourceSpec
from rowtide.job.on_call import runbook_location
from rowtide.job.prompt import check_placeholders
from rowtide.routing.difficulty import ROUTER_FILE, fits_ladder, read_router
from rowtide.routing.start_rules import check_start_rules
from rowtide.stages.run_context import models_of, open_tool_pool, self_check_rubric
from rowtide.tiers.catalogue import NOTHING, Model, Overrides, load_catalogue
from rowtide.tools import api_connector
from rowtide.tools.operator_servers import NOTHING_PROVIDED, OperatorServers, apply_operator_servers
from rowtide.tools.server_lookup import Pinned, resolve_servers
from rowtide.tools.tool_schema_limits import check_tools
from rowtide.tools.trust import check_trusted


@dataclass(frozen=True)
class Plan:
    """A job that passed all checks; nothing has been sent."""

    job: Job
    source: SourceSpec
    shape: SourceShape
    """The source's columns, and notes on how it is read."""
    models: list[Model]
    servers: dict[str, Pinned]
    request: bytes
    """The part that every row's requests share, whatever its group."""
    warnings: list[str]
    """What is legal, but probably not intended."""
    api: Api = UNKNOWN

    @property
    def skills(self) -> list[str]:
        """The names of the skills in `request`."""
        return [skill.name for skill in self.job.skills_for_all]

    @property
    def record(self) -> dict[str, object]:
        """The columns of table `run` that describe the job."""
        return {
            "job": self.job.name,
            "job_folder": str(self.job.folder),
            "owner": self.job.spec.owner,
            "runbook": runbook_location(self.job.spec.runbook, self.job.folder),
            "asking": self.job.version.asking,
            "judging": self.job.version.judging,
            "parts": self.job.version.record(),
            "tiers": orjson.dumps(self.job.tiers).decode(),
            "models": orjson.dumps([model.id for model in self.models]).decode(),
            "request": self.request,
            "servers": orjson.dumps(
                {name: _as_kept(each) for name, each in self.servers.items() if self.job.spec.tools[name].capability}
            ).decode(),
            "source": source_display_name(self.source, self.job.folder),
        }

    @property
    def asked(self) -> dict[str, str]:
        """How the ledger knows the rows that it asked."""
        return {name: str(self.record[name]) for name in ("asking", "judging", "tiers", "models")}


async def plan_run(
    folder: Path,
    source_path: str | None,
    environment: Mapping[str, str],
    overrides: Overrides = NOTHING,
    tiers: list[str] | None = None,
    provided: OperatorServers = NOTHING_PROVIDED,
) -> Plan:
    """Check all that can be checked before it costs anything; `tiers` overrides the ladder. Raises UserMistake."""
    catalogue = load_catalogue(overrides)
    job = load_job(folder)
    job = job.on_ladder(tiers or catalogue.ladder(job.name, job.spec.tiers))
    check_runbook(job)
    source = choose_source(job.spec.source, source_path, folder, environment)
    shape = source_shape(source, folder, environment)
    known = shape.columns
    check_columns(job, known)
    check_placeholders(folder / job.spec.prompt, known)
    if look := job.spec.checks.self_check:
        check_placeholders(folder / look.rubric, [*known, "answer", "claimed"])
        self_check_rubric(job)
    models = models_of(job, catalogue)
    _check_router(folder)
    check_start_rules(job.spec.start, models[: len(job.spec.tiers)], known, folder)
    asked = apply_operator_servers(job.name, job.spec.tools, provided)
    pinned = await resolve_servers(asked, registry=job.spec.registry, folder=folder, environment=environment)
    check_trusted(folder, {name: each.found for name, each in pinned.items() if each.found})
    servers = {name: each.spec for name, each in pinned.items()}
    async with open_tool_pool(job, environment, servers) as pool:
        # A gate's library takes seconds to import, and servers a second to start: both at once.
        offered, _ = await asyncio.gather(pool.catalogue(), asyncio.to_thread(check_gates, job, known))
    check_tools(offered)
    tools: list[dict[str, object]] = [
        {"name": tool.wire_name, "description": tool.description, "input_schema": tool.input_schema} for tool in offered
    ]
    tools += api_connector.connector_toolsets(servers)
    request = shared_request_part(job.instructions, tools, api_schema(job.answer), job.skills_for_all)
    if called_by_the_api := api_connector.connector_servers(servers):
        request += b',"mcp_servers":' + orjson.dumps(called_by_the_api)
    check_shared_part_size(request, models, job.spec.limits)
    return Plan(job, source, shape, models, pinned, request, _warnings(job, models, request))


def _check_router(folder: Path) -> None:
    """Check that the router file is readable and its language detector installed. Raises UserMistake."""
    if read_router(folder):
        need("router", "py3langid")


def check_gates(job: Job, known: Collection[str]) -> None:
    """Check that every gate's file is valid and names existing columns (`known`: the source's). Raises UserMistake."""
    columns_of: dict[Gate, Collection[str]] = {
        "rows": known,
        **dict.fromkeys(("answers", "load"), gate_column_names(job.answer)),
    }
    for gate, named in columns_of.items():
        if (file := getattr(job.spec.gates, gate)) is not None:
            load_suite(job.folder / file, gate, named)


def _as_kept(pinned: Pinned) -> dict[str, object]:
    return {"server": pinned.name, "version": pinned.version, "spec": pinned.spec.model_dump(mode="json")}


def _warnings(job: Job, models: list[Model], request: bytes) -> list[str]:
    """Return warnings known before rows are read, such as a prefix too short to cache even with all skills."""
    longest = cacheable_tokens(with_skills(request, job.instructions, job.skills))
    absent = [
        f"skills.folders: {folder} does not exist, so it holds no skills"
        for folder in job.spec.skills.folders
        if folder not in SkillsSpec().folders and not (job.folder / folder).exists()
    ]
    if (router := read_router(job.folder)) and not fits_ladder(router, job.spec.tiers):
        absent.append(f"{ROUTER_FILE} was fitted for the ladder {', '.join(router.tiers)}: `rowtide fit-router` again")
    return absent + cache_warnings([longest], {model.alias: model.cache_minimum_tokens for model in models})
