"""What stands in the files of a new job: from the profile of its source, what was asked, and the answer's fields."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from rowtide.job.job_spec import SourceSpec
from rowtide.stages.create_job.column_kinds import PATTERNS, ColumnProfile
from rowtide.stages.create_job.field_list import EVIDENCE, KINDS, AskedField
from rowtide.stages.create_job.profile_source import SourceProfile

EXPLICIT_COLUMNS = 40  # more of them are written by a loop
MOST_GATES = 5  # of each sort
KIND_WORDS = {
    "text": "In a few words",
    "number": "A number",
    "whole": "A whole number",
    "yes/no": "True or false",
    "date": "A date, YYYY-MM-DD",
    "list": "A list of texts; empty where there are none",
}
OF_JINJA = {
    "row", "range", "dict", "lipsum", "cycler", "joiner", "namespace", "loop", "self", "super", "caller", "varargs",
    "kwargs", "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else", "elif",
    "for", "import", "from", "include", "block", "set", "call", "filter", "macro", "recursive", "with", "without",
}  # fmt: skip
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*( [\w./-]+)*")
OF_YAML = re.compile(r"(?i:true|false|yes|no|on|off|y|n|null|~)")


@dataclass(frozen=True)
class JobDraft:
    """A job that is to be written."""

    name: str
    question: str
    fields: Sequence[AskedField]
    key: Sequence[str]
    source: SourceSpec
    """A file's path is absolute."""
    notes: Sequence[str]
    profile: SourceProfile
    sample: str
    """The name of the file that holds its sample."""


@dataclass(frozen=True)
class FieldLine:
    """A field of the answer, as answer.py and the prompt spell it."""

    name: str
    annotation: str
    meaning: str
    is_optional: bool


@dataclass(frozen=True)
class GateLine:
    """An expectation of the rows gate."""

    type: str
    kwargs: Sequence[tuple[str, object]]
    severity: str
    why: str = ""


def template_values(draft: JobDraft, staging: Path, folder: Path) -> dict[str, object]:
    """The values of all templates of a job that is rendered in `staging` and will be `folder`."""
    fields = [_field_line(each) for each in draft.fields]
    lines, left_out = message_lines(draft)
    profile = draft.profile
    return {
        "name": draft.name,
        "folder": f"jobs/{draft.name}",
        "question": draft.question,
        "description": draft.question.strip().partition("\n")[0][:200],
        "notes": [each.replace("\n", " ") for each in draft.notes],
        "source": source_lines(draft.source, staging, folder),
        "key": draft.key[0] if len(draft.key) == 1 else list(draft.key),
        "key_text": ", ".join(draft.key),
        "repeats": profile.repeats if draft.key == profile.key else 0,
        "sink": f"results/{draft.name}",
        "fields": fields,
        "evidence": next(each for each in fields if each.name == EVIDENCE),
        "imports": [
            *(["from datetime import date"] if any(each.kind == "date" for each in draft.fields) else []),
            *(["from typing import Literal"] if any(each.choices for each in draft.fields) else []),
        ],
        "lines": lines,
        "left_out": left_out,
        "gates": row_gates(draft),
        "rows": profile.rows,
        "sample": draft.sample,
        "personal": ", ".join(each.name for each in profile.columns if each.is_personal),
    }


def source_lines(spec: SourceSpec, staging: Path, folder: Path) -> list[tuple[str, object]]:
    """The keys of `source` in job.yaml. A file of the job's own, or under the present folder, has a relative path."""
    keys = spec.model_dump(exclude_defaults=True, exclude_none=True)
    if spec.path is not None:
        if spec.path.is_relative_to(staging):
            keys["path"] = str(spec.path.relative_to(staging))
        elif spec.path.is_relative_to(Path.cwd()):
            keys["path"] = os.path.relpath(spec.path, folder)
    return [(name, str(value) if isinstance(value, Path) else value) for name, value in keys.items()]


def left_out_reason(column: ColumnProfile, question: str, rows: int) -> str | None:
    """Why the model is not shown a column, unless somebody wants it to; None where it is shown."""
    if re.search(rf"(?<!\w){re.escape(column.name)}(?!\w)", question, re.IGNORECASE):
        return None
    if column.kind == "empty":
        return "is empty"
    if column.is_personal:
        return "looks personal"
    return "is the same in every row" if column.distinct == 1 and column.filled == rows > 1 else None


def message_lines(draft: JobDraft) -> tuple[list[str], list[str]]:
    """The lines of the prompt that show a row, and those that are commented out."""
    columns, rows = draft.profile.columns, draft.profile.rows
    reasons = {each.name: left_out_reason(each, draft.question, rows) for each in columns}
    if all(reasons.values()):  # there is nothing else
        reasons = dict.fromkeys(reasons)
    line = {each.name: _line(each.name, may_lack=each.filled < rows and not is_csv(draft.source)) for each in columns}
    shown, hidden = [name for name in reasons if not reasons[name]], [name for name in reasons if reasons[name]]
    left_out = [_as_comment(f"{name} {reasons[name]}; to show it: {line[name]}") for name in hidden[:20]]
    if len(shown) <= EXPLICIT_COLUMNS or "row" in reasons:
        return [line[name] for name in shown], left_out
    but = f" and name not in {orjson.dumps(hidden).decode()}" if hidden else ""
    loop = f'{{% for name, value in row|items if value not in [none, ""]{but} -%}}'
    return [loop, "{{ name }}: {{ value }}", "{% endfor %}"], left_out


def is_csv(source: SourceSpec) -> bool:
    """Whether a source is a CSV, whose rows have all its columns."""
    return source.path is not None and (source.kind or source.path.suffix[1:].lower()) in ("csv", "tsv")


def row_gates(draft: JobDraft) -> list[GateLine]:
    """Return the lines of the gate over the source's rows: what the model reads must be filled, and columns that hold
    few values, or one pattern, should go on doing so.
    """
    profile, rows = draft.profile, draft.profile.rows
    filled = [each for each in profile.columns if each.filled == rows and not each.is_personal]
    read = [each for each in filled if each.kind == "long text"] or [each for each in filled if each.kind == "text"][:1]
    lookups = [each for each in profile.columns if each.is_lookup and each.is_text]
    shaped = [each for each in profile.columns if each.is_text and each.kind in PATTERNS and not each.is_lookup]
    return [
        *(_must_be_filled(each) for each in read[:MOST_GATES]),
        *(_is_in_list(each, rows) for each in lookups[:MOST_GATES]),
        *(_has_shape(each, rows) for each in shaped[:MOST_GATES]),
    ]


def _must_be_filled(column: ColumnProfile) -> GateLine:
    why = "filled in every row when the job was made"
    if column.is_text:
        kwargs = [("column", column.name), ("min_value", 1), ("mostly", 0.9)]
        return GateLine("expect_column_value_lengths_to_be_between", kwargs, "critical", why)
    kwargs = [("column", column.name), ("mostly", 0.9)]
    return GateLine("expect_column_values_to_not_be_null", kwargs, "critical", why)


def _is_in_list(column: ColumnProfile, rows: int) -> GateLine:
    values = [*column.common, *([""] if column.filled < rows else [])]
    kwargs: list[tuple[str, object]] = [("column", column.name), ("value_set", values), ("mostly", 0.99)]
    return GateLine("expect_column_values_to_be_in_set", kwargs, "warning", "all that there were")


def _has_shape(column: ColumnProfile, rows: int) -> GateLine:
    pattern = PATTERNS[column.kind] if column.filled == rows else f"(?:{PATTERNS[column.kind]})?"
    kwargs = [("column", column.name), ("regex", rf"^\s*(?:{pattern})\s*$"), ("mostly", 0.99)]
    return GateLine("expect_column_values_to_match_regex", kwargs, "warning", column.kind)


def _field_line(field: AskedField) -> FieldLine:
    about = field.about or ("" if field.written == field.name else field.written)
    about = f"{about.rstrip('.')}. " if about else ""
    if field.choices:
        annotation = f"Literal[{', '.join(map(quoted, field.choices))}]"
        meaning = f"{about}One of: {', '.join(field.choices)}."
    else:
        annotation = KINDS[field.kind]
        meaning = about.strip() if about and field.kind == "text" else f"{about}{KIND_WORDS[field.kind]}."
    if field.is_optional:
        return FieldLine(field.name, f"{annotation} | None", f"{meaning} Null where the row does not say.", True)
    return FieldLine(field.name, annotation, meaning, False)


def _line(name: str, *, may_lack: bool) -> str:
    """The line that shows a column; `may_lack`: a row may not have it, or have null there."""
    label = f"{{{{ {orjson.dumps(name).decode()} }}}}" if re.search(r"[{}\n\r#%]", name) else name
    hole = _hole(name)
    return f'{label}: {{{{ {hole} | default("", {hole} is none) }}}}' if may_lack else f"{label}: {{{{ {hole} }}}}"


def _hole(name: str) -> str:
    if name.isascii() and name.isidentifier() and name not in OF_JINJA:
        return name
    return f"row[{orjson.dumps(name).decode()}]"


def _as_comment(text: str) -> str:
    """A comment of the template, which also takes the line break before it away."""
    return f"{{#- {text.replace('#}', '# }')} #}}"


def quoted(text: str) -> str:
    """A text in double quotes, as YAML and Python read it alike."""
    return f'"{"".join(_escaped(each) for each in text)}"'


def yaml_value(value: object) -> str:
    """A value as job.yaml spells it, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(yaml_value(each) for each in value)}]"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and not OF_YAML.fullmatch(value) else quoted(value)
    return orjson.dumps(value).decode()


def prose(text: str) -> str:
    """A text that stands in a template and holds nothing of a template's: no hole, no line that ends a part."""
    apart = re.sub(r"\{(?=[{%#])", "{ ", text)
    return re.sub(r"(?m)^---\s*$", "- - -", apart).strip()


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
