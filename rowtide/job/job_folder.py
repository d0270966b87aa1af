"""Load and check a job's folder: spec, prompt, answer model, checks, skills, versions.

Everything that can be known to be wrong before a cent is spent is found here, with file, line and key.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
from pydantic import BaseModel, PydanticUserError

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_code import (
    IMPORT_SECONDS,
    Check,
    JobCodeFailure,
    fill_template,
    functions_with_prefix,
    run_job_code,
)
from rowtide.job.job_file import JOB_FILE, read_spec
from rowtide.job.job_spec import GroundingSpec, JobSpec
from rowtide.job.on_call import is_url
from rowtide.job.prompt import read_prompt
from rowtide.job.skills import Skill, read_skills, skills_for_group
from rowtide.job.versions import JobVersion, compute_version
from rowtide.job.wire_names import server_of_plain_name

ANSWER_FILE = "answer.py"
REQUIREMENTS = "requirements.txt"  # what its own code and its servers need


@dataclass(frozen=True)
class Job:
    """A job that was loaded and checked."""

    folder: Path
    spec: JobSpec
    instructions: str
    message: jinja2.Template
    answer: type[BaseModel]
    checks: list[Check]
    skills: list[Skill]
    version: JobVersion
    own_code: Mapping[str, object]
    """What its answer.py defines, by name."""

    @property
    def name(self) -> str:
        return self.spec.job or self.folder.name

    def on_ladder(self, tiers: list[str]) -> "Job":
        """Return the job with these tiers instead of its own."""
        return replace(self, spec=self.spec.model_copy(update={"tiers": tiers}))

    @property
    def tiers(self) -> list[str]:
        """The names of the ladder's tiers, and of the self-check's, as reports show them."""
        look = self.spec.checks.self_check
        return [*self.spec.tiers, *([f"{look.tier} (check)"] if look else [])]

    @property
    def is_gated(self) -> bool:
        """Whether answers must pass a gate."""
        return self.spec.gates.answers is not None

    @cached_property
    def prompt_file(self) -> Path:
        """The file of its prompt."""
        return self.folder / self.spec.prompt

    @property
    def answer_file(self) -> Path:
        """The file of its answer model, checks and comparers."""
        return self.folder / ANSWER_FILE

    def message_for(self, row: Mapping[str, object]) -> str | JobCodeFailure:
        """Return the row's own message: the prompt below `---`, filled in; or the failure of the template."""
        text = fill_template(self.message, self.prompt_file, row, row)
        return text.lstrip("\n") if isinstance(text, str) else text  # the lines above it are for error messages only

    def group_of(self, row: Mapping[str, object]) -> str | None:
        """Return the name of the row's group: empty where the row has no value, None when the job has no groups."""
        column = self.spec.skills.group_by
        return None if column is None else _name_of_group(row.get(column))

    def skills_for(self, group: str | None) -> list[Skill]:
        """Return the skills that the rows of a group get."""
        return skills_for_group(self.skills, group, self.spec.skills.always)

    @property
    def skills_for_all(self) -> list[Skill]:
        """The skills that every row gets, whatever its group."""
        return self.skills_for(None if self.spec.skills.group_by is None else "")


def find_job(name: str, *, jobs: Path) -> Path:
    """Return the folder of a job, named by its folder or by its name under `jobs`."""
    for folder in (Path(name), jobs / name):
        if (folder / "job.yaml").is_file():
            return folder.resolve()
    if Path(name).is_dir():
        raise UserMistake("this folder holds no job.yaml", file=name)
    known = sorted(folder.parent.name for folder in jobs.glob("*/job.yaml"))
    raise UserMistake(f"no job {name!r}: neither a folder nor a name under {jobs}/", meant=nearest_name(name, known))


def load_job(folder: Path) -> Job:
    """Load and check a job's folder, all but its rows and its tool servers. Raises UserMistake."""
    spec = read_spec(folder)
    instructions, message = read_prompt(folder / spec.prompt)
    module = _module(folder / ANSWER_FILE)
    answer = _answer_model(module, spec.answer, folder / ANSWER_FILE)
    _check_rules(spec, answer, folder)
    of = "a check is a function of the answer and the row"
    checks = [*functions_with_prefix(vars(module), "check_", of, folder / ANSWER_FILE).values()]
    folders = [Path(os.path.normpath(folder / each)) for each in spec.skills.folders]
    skills = read_skills(folders, spec.skills.always, job_file=folder / JOB_FILE)
    version = _version(folder, spec, answer, skills)
    return Job(folder, spec, instructions, message, answer, checks, skills, version, vars(module))


def check_columns(job: Job, columns: Collection[str]) -> None:
    """Raise UserMistake unless key, groups and the estimate's columns are all columns of the source."""
    named = [("key", column) for column in job.spec.key_columns]
    named += [("difficulty.columns", column) for column in job.spec.difficulty.columns]
    named += [("difficulty.lookup", column) for column in [job.spec.difficulty.lookup] if column is not None]
    if job.spec.skills.group_by is not None:
        named.append(("skills.group_by", job.spec.skills.group_by))
    for key, column in named:
        if column not in columns:
            raise UserMistake(
                f"{column!r} is not a column of the source; columns: {', '.join(columns)}",
                file=job.folder / JOB_FILE,
                key=key,
                meant=nearest_name(column, columns),
            )


def check_runbook(job: Job) -> None:
    """Raise UserMistake for a runbook that is neither a URL nor a file in the job's folder."""
    runbook = job.spec.runbook
    if runbook is None or is_url(runbook):
        return
    file = job.folder / runbook
    if not file.is_file() or not file.resolve().is_relative_to(job.folder.resolve()):
        raise UserMistake(f"no file {runbook!r} in the job's folder", file=job.folder / JOB_FILE, key="runbook")


def _name_of_group(value: object) -> str:
    return "" if value is None else str(value).strip()


def _module(file: Path) -> ModuleType:
    if not file.is_file():
        raise UserMistake("no such file; a job needs its answer as a pydantic model", file=file, key="answer")
    name = f"rowtide_job_{hashlib.blake2b(os.fsencode(file.resolve()), digest_size=6).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks up annotations there
    failed = run_job_code("import_failed", file.name, file, partial(_execute, file, module), IMPORT_SECONDS)
    if isinstance(failed, SyntaxError):
        raise UserMistake(failed.msg, file=file, line=failed.lineno)
    if failed is not None:
        raise UserMistake(
            f"{failed.kind}: {failed.message}{_what_to_install(failed.kind, file)}", file=file, line=failed.line
        )
    return module


def _what_to_install(kind: str, file: Path) -> str:
    """How to install the job's own packages, for a message about one that is missing."""
    needed = file.parent / REQUIREMENTS
    return f"; pip install -r {needed}" if kind == ModuleNotFoundError.__name__ and needed.is_file() else ""


def _execute(file: Path, module: ModuleType) -> SyntaxError | None:
    """Run the source file itself: Python knows a compiled file by second and size, and an edit may change neither."""
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except SyntaxError as error:
        return error
    return None


def _answer_model(module: ModuleType, name: str, file: Path) -> type[BaseModel]:
    models = {
        key: value for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, BaseModel)
    }
    if name not in models:
        raise UserMistake(
            f"no pydantic model called {name!r}", file=file, key="answer", meant=nearest_name(name, models)
        )
    return models[name]


def _check_rules(spec: JobSpec, answer: type[BaseModel], folder: Path) -> None:
    named = [(f"{name}.{n}", rule) for name, rules in spec.checks.rules.items() for n, rule in enumerate(rules)]
    for place, rule in named:
        file, key = folder / "job.yaml", f"checks.{place}"
        if rule.field not in answer.model_fields:
            meant = nearest_name(rule.field, answer.model_fields)
            raise UserMistake(f"the answer has no field {rule.field!r}", file=file, key=key, meant=meant)
        if isinstance(rule, GroundingSpec) and server_of_plain_name(rule.tool, spec.tools) is None:
            server = rule.tool.partition(".")[0]
            raise UserMistake(f"no tool server {server!r}", file=file, key=key, meant=nearest_name(server, spec.tools))


def _version(folder: Path, spec: JobSpec, answer: type[BaseModel], skills: list[Skill]) -> JobVersion:
    """The job's version: a hash of every file that is sent, run or checked with, and of the schema."""
    asked = [spec.prompt, *(Path(arg) for server in spec.tools.values() for arg in server.args)]
    asked += [file for server in spec.tools.values() for file in (server.python, server.stub) if file]
    asked += [spec.checks.self_check.rubric] if spec.checks.self_check else []
    asked += [Path(os.path.relpath(skill.file, folder)) for skill in skills]
    judged = [Path(ANSWER_FILE), *([spec.gates.answers] if spec.gates.answers else [])]
    return compute_version(spec, _schema(answer, folder), _contents(folder, asked), _contents(folder, judged))


def _schema(answer: type[BaseModel], folder: Path) -> dict[str, Any]:
    try:
        return answer.model_json_schema()
    except PydanticUserError as error:
        raise UserMistake(error.message, file=folder / ANSWER_FILE, key=answer.__name__) from None


def _contents(folder: Path, files: Sequence[Path]) -> dict[str, bytes]:
    return {str(file): (folder / file).read_bytes() for file in files if (folder / file).is_file()}
