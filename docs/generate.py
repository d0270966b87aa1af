"""The parts of the documents that the code says better: `python docs/generate.py` writes them afresh.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `tests/test_docs.py` fails when one is
out of date; `make fix` mends it.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.exits import MEANS
from rowtide.agent import states
from rowtide.agent.account_refusals import REFUSALS
from rowtide.agent.outcome_policies import BATCHES, ERRORS, RESULTS, STOPS, Policy
from rowtide.job.job_spec import JobSpec

ROOT = Path(__file__).parent.parent
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
FIRST = ("ready", "quarantined", "unchanged")  # what a row can be when extract has looked at it


def refreshed(text: str) -> str:
    """The document with every generated part as it should be now."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", text)


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def row_states() -> str:
    """The states, each with its comment in states.py."""
    source = Path(states.__file__).read_text(encoding="utf-8")
    said = re.findall(r'^    [A-Z_]+ = "(\w+)"  # (.+)$', source, re.MULTILINE)
    return "\n".join(["| row state | meaning |", "|---|---|", *(f"| `{name}` | {meaning} |" for name, meaning in said)])


def moves() -> str:
    """The table of legal moves, as a diagram."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, move), after in states.MOVES.items():
        arrows.setdefault((before.value, after.value), []).append(move)
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {name}: extract" for name in FIRST)]
    lines += [f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in arrows.items()]
    return "\n".join([*lines, *(f"    {name} --> [*]" for name in sorted(states.SETTLED)), "```"])


def modules() -> str:
    """Every module, with the first sentence of its docstring."""
    lines: list[str] = []
    parts = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("rowtide/**/*/__init__.py"))
    for folder in ("cli", "webhooks", "flows", "tasks", "orchestration", "blocks", "rowtide", *parts):
        lines += [
            "",
            f"**{folder}/** {_says(ROOT / folder / '__init__.py')}",
            "",
            "| module | says of itself |",
            "|---|---|",
        ]
        files = sorted(path for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("__"))
        lines += [f"| `{path.stem}` | {_says(path)} |" for path in files]
    return "\n".join(lines[1:])


def policies() -> str:
    """The tables that decide what becomes of a row or a batch."""
    tables: dict[str, Mapping[Any, Policy]] = {
        "the reply's `stop_reason`": STOPS,
        "the error of an errored request": ERRORS,
        "anything else the API says of a request": RESULTS,
        "what became of a whole batch": BATCHES,
    }
    lines: list[str] = []
    for what, table in tables.items():
        lines += ["", f"| {what} | what happens | because |", "|---|---|---|"]
        lines += [
            f"| {'*anything new*' if kind is None else f'`{kind}`'} | {policy.do.value} | {policy.why} |"
            for kind, policy in table.items()
        ]
    return "\n".join(lines[1:])


def refusals() -> str:
    """What the API says of an account, and where that was read."""
    lines = ["| what it means | what to do | read at |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {each.means} | {each.do} | {each.source} |" for each in REFUSALS)])


def exits() -> str:
    """What each exit status says."""
    lines = ["| exit status | means |", "|---:|---|"]
    return "\n".join([*lines, *(f"| {status.value} | {words} |" for status, words in MEANS.items())])


def _says(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", "\\|")


def job_yaml() -> str:
    """Every key of a job, with the sentence that follows it in job.py."""
    return "\n".join(_sections("", JobSpec)).strip()


def _sections(place: str, model: type[BaseModel]) -> Iterator[str]:
    if place:
        yield f"\n## `{place}`\n"
    yield from ("| key | what | default | meaning |", "|---|---|---|---|")
    yield from (_line(name, field) for name, field in model.model_fields.items())
    for name, field in model.model_fields.items():
        for inner in (found := [each for each in _models_in(field.annotation) if len(each.model_fields) > 1]):
            which = f" (compare: {inner.model_fields['compare'].default})" if len(found) > 1 else ""
            yield from _sections(f"{place}.{name}".lstrip(".") + _each(field.annotation) + which, inner)


def _line(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {_sentence(field)} |"


def _sentence(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())  # a line of a table is one line


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required():
        return "**required**"
    if value is None or value == "" or isinstance(value, BaseModel | list | dict):
        return ""
    return f"`{value}`" if not isinstance(value, float) else f"`{value:g}`"


def _kind(annotation: Any) -> str:
    """A type, in words for someone who writes YAML."""
    arguments = [each for each in get_args(annotation) if each is not NoneType]
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _kind(arguments[0])
        case origin if origin is Literal:
            return ", ".join(f"`{each}`" for each in arguments)
        case origin if origin in (Union, UnionType):
            return " or ".join(dict.fromkeys(_kind(each) for each in arguments))
        case origin if origin is list:
            return f"list of {_kind(arguments[0])}"
        case origin if origin is dict:
            return f"name: {_kind(arguments[1])}"
        case _:
            return WORDS.get(annotation, "mapping, below")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for each in get_args(annotation) for found in _models_in(each)]


def _each(annotation: Any) -> str:
    origin = get_origin(annotation)
    return ".NAME" if origin is dict else "[]" if origin is list else ""


PARTS: dict[str, Callable[[], str]] = {
    "row_states": row_states,
    "moves": moves,
    "modules": modules,
    "job_yaml": job_yaml,
    "policies": policies,
    "refusals": refusals,
    "exits": exits,
}


if __name__ == "__main__":
    for document in documents():
        document.write_text(refreshed(document.read_text(encoding="utf-8")), encoding="utf-8")
