"""Makes a job in two steps: look at a table, then write the job that was decided on."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.sources import open_source
from rowtide.job.job_spec import SourceSpec
from rowtide.stages.create_job.field_list import AskedField, parse_fields, with_evidence
from rowtide.stages.create_job.import_table import ROW_NUMBER, ImportedTable, TableOptions, import_table, number_rows
from rowtide.stages.create_job.profile_source import SourceProfile, profile_source
from rowtide.stages.create_job.template_values import JobDraft
from rowtide.stages.create_job.write_job import sample_name, write_job

DEFAULT_FIELDS = "topic, summary"
NAME = re.compile(r"[a-z][a-z0-9_-]*")
OF_SOURCE = re.compile(r"`source\.(\w+)[^`]*`")  # what a message about a source advises, where there is no job yet
NAMED_COLUMNS = 25  # in a message


@dataclass(frozen=True)
class TableSeen:
    """A table, and what it holds."""

    table: ImportedTable
    profile: SourceProfile

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return [each.name for each in self.profile.columns]

    @property
    def needs_numbers(self) -> bool:
        """Whether no column and no pair of columns names each row."""
        return not self.profile.key


@dataclass(frozen=True)
class Decided:
    """What somebody decided about a job: by a flag, by an answer, or by default."""

    question: str
    fields: Sequence[AskedField]
    key: Sequence[str]


@dataclass(frozen=True)
class Place:
    """Where a job is made, and where it will be."""

    staging: Path
    folder: Path
    environment: Mapping[str, str]

    @property
    def scratch(self) -> Path:
        """A folder that is gone when the job is made."""
        return self.staging.parent


def check_name(name: str) -> None:
    """Raise UserMistake for a name that no job can have, with one that it can."""
    if not NAME.fullmatch(name):
        meant = re.sub(r"[^a-z0-9_-]+", "-", Path(name).name.lower()).lstrip("-_0123456789").rstrip("-_") or "my-job"
        what = "a job's name begins with a small letter and has small letters, digits, - and _ only"
        raise UserMistake(what, key=repr(name), meant=meant)


def look_at_table(
    given: str, database: str | None, options: TableOptions, key: str | None, place: Place, say: Callable[[int], None]
) -> TableSeen:
    """Find and profile the table that `given` names: a file, a URL, a query. Raises UserMistake, with flags to type."""
    try:
        table = import_table(given, database, options, place.staging / "data", place.folder)
        source = open_source(table.spec, place.folder, place.environment)
        named = key_columns(key, source.shape().columns) if key else []
        return TableSeen(table, profile_source(source, [] if named == [ROW_NUMBER] else named, place.scratch, say))
    except UserMistake as mistake:
        is_copy = mistake.file is not None and Path(mistake.file).is_relative_to(place.staging)
        file = given if is_copy or (mistake.file is None and database is None) else mistake.file
        line = None if is_copy else mistake.line
        raise UserMistake(
            with_flags(mistake.what), file=file, line=line, key=mistake.key, meant=mistake.meant
        ) from None


def with_flags(advice: str) -> str:
    """Return an advice about a source with the flags to type instead of the keys of job.yaml."""
    return OF_SOURCE.sub(lambda found: f"--{found[1].replace('_', '-')}", advice)


def key_columns(key: str, columns: Sequence[str]) -> list[str]:
    """The columns of a key that somebody typed. Raises UserMistake with the nearest column."""
    named = [key] if key in (*columns, ROW_NUMBER) else [each.strip() for each in key.split(",") if each.strip()]
    for each in named:
        if each not in columns and named != [ROW_NUMBER]:
            what = f"{each!r} is not a column; columns: {', '.join(columns[:NAMED_COLUMNS])}; or {ROW_NUMBER}"
            raise UserMistake(what, key="--key", meant=nearest_name(each, columns))
    if not named:
        raise UserMistake(f"names no column; columns: {', '.join(columns[:NAMED_COLUMNS])}", key="--key")
    return named


def default_decisions(profile: SourceProfile) -> Decided:
    """What is decided where nobody says otherwise."""
    texts = [each for each in profile.columns if each.kind in ("long text", "text") and each.distinct > 1]
    longest = max(texts, key=lambda each: (not each.is_personal, each.kind == "long text", each.longest), default=None)
    question = f"What is this {longest.name} about?" if longest else "What stands out in this row?"
    return Decided(question, with_evidence(parse_fields(DEFAULT_FIELDS)), profile.key or [ROW_NUMBER])


def make_job(name: str, seen: TableSeen, decided: Decided, place: Place) -> tuple[Path, list[str]]:
    """Write the job's folder, whole. Returns its sample, and the keys in it. Raises UserMistake."""
    table, profile, key = seen.table, seen.profile, list(decided.key)
    if key == [ROW_NUMBER] and ROW_NUMBER not in seen.columns:
        copy = place.staging / "data" / "numbered_rows.jsonl"
        key = [number_rows(open_source(table.spec, place.folder, place.environment), copy)]
        note = f"{copy.name} is a copy in which rows are numbered, because nothing else names them"
        table = ImportedTable(SourceSpec(path=copy), [*table.notes, note])
        numbered = open_source(table.spec, place.folder, place.environment)
        profile = profile_source(numbered, key, place.scratch, lambda _: None)
    sample = sample_name(table.spec)
    draft = JobDraft(name, decided.question, decided.fields, tuple(key), table.spec, table.notes, profile, sample)
    rows = write_job(draft, place.staging, place.folder)
    return place.folder / sample, [row.key for row in rows]
