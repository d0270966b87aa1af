"""Read a prompt: the part for all rows, the message for each row, and a check that placeholders are columns.

A hole is a column by its name, `{{ city }}`, or of `row`, which is the whole row: `{{ row["Company Name"] }}`.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import cast

import jinja2
import jinja2.meta
import orjson
from jinja2 import nodes
from jinja2.sandbox import safe_range

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.yaml_file import read_text

ROW = "row"
NAMED = re.compile(r"\{\{-?\s*([^{}|()\[\]\"'~]+?)\s*-?(?:\|[^{}]*)?\}\}")  # a hole that is only a name
_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False)
# At most 100,000 steps: a slip of the pen must not keep a run busy for ever.
_ENVIRONMENT.globals.update(range=cast(type[range], safe_range))


def read_prompt(file: Path) -> tuple[str, jinja2.Template]:
    """Return the instructions for all rows, above the line `---`, and the template of each row's message, below it.
    Raises UserMistake.
    """
    if not file.is_file():
        raise UserMistake("no such file; a job needs a prompt", file=file, key="prompt")
    text = read_text(file)
    shared, line, own = text.partition("\n---\n")
    if not line:
        shared, own = "", shared
    try:
        holes = jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(shared))
        if holes:
            raise UserMistake(f"above the --- line all rows are alike: no hole {sorted(holes)[0]!r} there", file=file)
        # Parsed with the lines above it, so that a mistake is reported at its place in the file.
        message = _ENVIRONMENT.from_string("\n" * (shared + line).count("\n") + own.strip())
        message.globals = dict(message.globals)  # a ChainMap, copied for every row, costs half the rendering
        return shared.strip(), message
    except jinja2.TemplateSyntaxError as error:
        what = (error.message or "not a Jinja2 template") + _about_names(text, error.lineno)
        raise UserMistake(what, file=file, line=error.lineno) from None


def check_placeholders(file: Path, columns: Collection[str]) -> None:
    """Raise UserMistake, with line and nearest column, for a placeholder that is neither a column nor one of `row`."""
    text = read_text(file)
    tree = _ENVIRONMENT.parse(text)
    undeclared = jinja2.meta.find_undeclared_variables(tree) - _ENVIRONMENT.globals.keys()
    for hole in sorted(undeclared - {ROW} - set(columns)):
        line = next((n for n, each in enumerate(text.splitlines(), 1) if re.search(rf"\b{hole}\b", each)), None)
        raise _no_column(hole, hole, columns, file, line)
    if ROW in undeclared:
        _check_row(tree, columns, file)


def _check_row(tree: nodes.Template, columns: Collection[str], file: Path) -> None:
    taken = list(_taken_of_row(tree))
    for written, name, line in taken:
        is_method = written.startswith("row.") and name in dir(dict)
        if name in columns and is_method:
            what = f"{{{{ {written} }}}} is a method of every row, not its column; write {{{{ {_spelled(name)} }}}}"
            raise UserMistake(what, file=file, line=line)
        if name not in columns and not is_method:
            raise _no_column(written, name, columns, file, line)
    if ROW in columns and not taken:
        what = f"{{{{ row }}}} is the whole row; the column of that name is written {{{{ {_spelled(ROW)} }}}}"
        raise UserMistake(what, file=file)


def _taken_of_row(tree: nodes.Template) -> Iterator[tuple[str, str, int]]:
    """The columns that a prompt takes from `row` by name: (as written, column, line)."""
    for attribute in tree.find_all(nodes.Getattr):
        if _is_row(attribute.node):
            yield f"row.{attribute.attr}", attribute.attr, attribute.lineno
    for item in tree.find_all(nodes.Getitem):
        if _is_row(item.node) and isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            yield _spelled(item.arg.value), item.arg.value, item.lineno


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW


def _no_column(written: str, name: str, columns: Collection[str], file: Path, line: int | None) -> UserMistake:
    meant = nearest_name(name, columns)
    meant = meant if meant is None or meant.isidentifier() else _spelled(meant)
    what = f"{{{{ {written} }}}} is not a column of the source; columns: {', '.join(columns)}"
    return UserMistake(what, file=file, line=line, meant=meant)


def _spelled(column: str) -> str:
    """A placeholder for a column that works whatever the column is called."""
    return f"row[{orjson.dumps(column).decode()}]"


def _about_names(text: str, line: int) -> str:
    """The advice for a column's name that is no name for Jinja2."""
    lines = text.splitlines()
    for found in NAMED.findall(lines[line - 1] if line <= len(lines) else ""):
        if not found.isidentifier():
            return f"; a column called {found!r} is written {{{{ {_spelled(found)} }}}}"
    return ""
