"""Writes the folder of a new job: its files are rendered and checked aside, then appear at once, or not at all."""

import csv
import io
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import orjson
import psutil
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rowtide.api.api_schema import api_schema
from rowtide.errors import UserMistake
from rowtide.evals.label_choice import Candidate, choose_rows
from rowtide.evals.label_sheet import field_types, label_columns, label_records
from rowtide.intake.plain_values import plain_value
from rowtide.intake.source_rows import row_key
from rowtide.job.job_folder import check_columns, load_job
from rowtide.job.job_spec import SourceSpec
from rowtide.job.prompt import check_placeholders
from rowtide.quarantine.quarantine_sheet import write_csv_sheet
from rowtide.stages.create_job.template_values import JobDraft, is_csv, prose, quoted, template_values, yaml_value

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "job.yaml": "job.yaml.jinja",
    "prompt.md": "prompt.md.jinja",
    "answer.py": "answer.py.jinja",
    "gates/rows.yaml": "rows.yaml.jinja",
    "AGENTS.md": "AGENTS.md.jinja",
    ".claude/skills/work-on-this-job/SKILL.md": "SKILL.md.jinja",
}
LABELS = "labels.csv"
SAMPLE_ROWS, LABEL_ROWS = 20, 50
IN_WORK = "new"  # folder of a home, for jobs that are being made


@contextmanager
def staging_folder(home: Path) -> Generator[Path]:
    """A folder to make a job in; it is gone afterwards, and what killed processes left is gone before."""
    parent = home / IN_WORK
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("*-*"):
        owner = left.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    try:
        folder = made / "job"
        (folder / "data").mkdir(parents=True)
        yield folder.resolve()
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sample_name(source: SourceSpec) -> str:
    """The name of a job's sample: a CSV like its source where that is a usual one, else JSON Lines."""
    is_usual = is_csv(source) and source.quote == '"' and source.escape is None
    return "sample.csv" if is_usual else "sample.jsonl"


def write_job(draft: JobDraft, staging: Path, folder: Path) -> list[Candidate]:
    """Write a job's files in `staging`, check them, and move them to `folder`. Returns the rows of the sample.

    Raises UserMistake where `folder` is there already; then nothing is written.
    """
    rows = [Candidate(key, row.values) for row in draft.profile.sample if (key := row_key(row.values, draft.key))]
    if not rows:
        raise UserMistake(f"no row has a value in {' and '.join(draft.key)}; name another column", key="--key")
    chosen = choose_rows(rows, {}, (), LABEL_ROWS)
    lines = {key: row.line for row in draft.profile.sample if (key := row_key(row.values, draft.key))}
    sample = sorted(chosen[:SAMPLE_ROWS], key=lambda row: lines[row.key])
    values = template_values(draft, staging, folder)
    values |= {"sample_rows": len(sample), "label_rows": len(chosen)}
    _render(values, staging)
    names = [each.name for each in draft.profile.columns]
    (staging / draft.sample).write_bytes(_sample(sample, names, draft))
    job = load_job(staging)
    check_columns(job, names)
    check_placeholders(job.prompt_file, names)
    api_schema(job.answer)  # refuses what the API does
    fields = list(field_types(job.answer))
    with (staging / LABELS).open("w", encoding="utf-8", newline="") as file:
        write_csv_sheet(file, label_columns(names, fields), label_records(chosen, names, fields))
    if not any((staging / "data").iterdir()):
        (staging / "data").rmdir()
    shutil.rmtree(staging / "__pycache__", ignore_errors=True)
    _move(staging, folder)
    return sample


def check_is_free(folder: Path) -> None:
    """Raise UserMistake where there is something in the place of a job's folder."""
    if os.path.lexists(folder):
        raise UserMistake("is there already, and is left as it is: choose another name", file=folder)
    if os.path.lexists(folder.parent) and not folder.parent.is_dir():
        raise UserMistake("is no folder, so no job can be made in it", file=folder.parent)


def _render(values: dict[str, object], staging: Path) -> None:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quoted": quoted, "yaml": yaml_value, "prose": prose, "oneline": _one_line}
    for name, template in FILES.items():
        if name.startswith("gates/") and not values["gates"]:
            continue
        file = staging / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(environment.get_template(template).render(**values), encoding="utf-8")


def _sample(rows: Sequence[Candidate], names: Sequence[str], draft: JobDraft) -> bytes:
    encoding = draft.source.encoding or "utf-8"
    if draft.sample.endswith(".jsonl"):
        lines = (orjson.dumps(dict(row.values), plain_value).decode() for row in rows)
        return "".join(f"{line}\n" for line in lines).encode(encoding)
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=draft.source.delimiter or ",", lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row.values.get(name) for name in names] for row in rows)
    return text.getvalue().encode(encoding)


def _move(staging: Path, folder: Path) -> None:
    """Make the folder appear whole. Where it is on another disk, it is copied beside its place first."""
    check_is_free(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if staging.stat().st_dev != folder.parent.stat().st_dev:
            shutil.copytree(staging, beside)
            staging = beside
        staging.rename(folder)
    except OSError as error:
        raise UserMistake(f"cannot be written: {error.strerror}", file=folder) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())
