"""Read YAML, and refuse what YAML would silently drop or change."""

from pathlib import Path
from typing import Any

import yaml

from rowtide.errors import UserMistake

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # every stage reads the job, and Python alone takes 10 × as long


def read_text(file: Path) -> str:
    """Read a text file that people write. Raises UserMistake with line and column of a byte that is not UTF-8."""
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = content[: error.start].rpartition(b"\n")[2]
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        what = f"column {len(before) + 1} holds the byte 0x{byte:02x}, which is not UTF-8; save the file as UTF-8"
        raise UserMistake(what, file=file, line=line) from None


def read_yaml(file: Path) -> tuple[Any, yaml.Node | None]:
    """Parse a YAML file: its values, and the nodes that know their lines. Raises UserMistake.

    A key that stands twice in one mapping is refused, at any depth: YAML would keep the last one.
    """
    text = read_text(file)
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        _check_keys(node, file, set())
        return (None if node is None else loader.construct_document(node)), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        if mark and text.splitlines()[mark.line :][:1] and text.splitlines()[mark.line].lstrip(" ").startswith("\t"):
            what += "; it is a tab, and YAML indents with spaces"
        raise UserMistake(f"not YAML: {what}", file=file, line=mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise UserMistake(f"not YAML: {' '.join(str(error).split())}", file=file) from None
    finally:
        loader.dispose()


def find_node(node: yaml.Node, path: list[Any]) -> tuple[yaml.Node, int]:
    """Return the deepest node on `path` that exists, and the 1-based line of its key or item."""
    line = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in reversed(node.value) if k.value == str(part)), None)
            if found is None:
                return node, line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return node, line


def explain_yaml_coercion(node: yaml.Node, value: object) -> str:
    """Return an explanation that YAML turned a word into another value, such as `no` into false; empty if
    it did not.
    """
    if isinstance(node, yaml.ScalarNode) and not node.style and not isinstance(value, str | None):
        return f"; YAML reads {node.value} as {value!r}: put quotes around it"
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") and not node.value:
        return f"; {node.style} begins a block of text in YAML: put quotes around it"
    return ""


def _check_keys(node: yaml.Node | None, file: Path, seen: set[int]) -> None:
    if node is None or id(node) in seen:  # an alias stands for a node that was looked at
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _check_keys(each, file, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    what = f"this key stands twice in one mapping, on lines {lines[key.value]} and {line}; keep one"
                    raise UserMistake(what, file=file, line=line, key=key.value)
                lines[key.value] = line
            _check_keys(value, file, seen)
