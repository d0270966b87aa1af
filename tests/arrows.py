"""Which folder of rowtide/ imports which: `python tests/arrows.py` prints every arrow, and those that run back up.

The folders stand in FLOORS from the top down, and in STAGES those of rowtide/stages/. An arrow that runs from a lower
floor to a higher one is a back arrow; `tests/test_architecture.py` allows none.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FLOORS = [
    "stages", "ledger", "report", "evals", "sinks", "forecast", "gates", "api", "quarantine", "intake", "observing",
    "routing", "agent", "tiers", "tools", "job", "lanes", "",
]  # fmt: skip
STAGES = [
    "create_job",
    "diagnose",
    "amend",
    "evaluate",
    "forecast",
    "label",
    "load",
    "report",
    "converse",
    "wait",
    "follow_up",
    "validate",
    "extract",
    "route",
    "submit",
    "",
]


class Arrow(NamedTuple):
    """So many imports lead from modules of one folder to modules of another."""

    above: str
    below: str
    imports: int

    def __str__(self) -> str:
        return f"{self.above or 'rowtide'} → {self.below or 'rowtide'} ({self.imports})"


def modules_of(root: Path) -> dict[str, Path]:
    """The modules of rowtide/ by their dotted names."""
    found = (path for path in sorted((root / "rowtide").rglob("*.py")) if path.stem != "__init__")
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in found}


def imported_by(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of rowtide/ that a file imports."""
    return {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        for name in (f"{node.module}.{alias.name}", node.module)
        if name in modules
    }


def arrows(root: Path, below: str = "") -> Iterator[Arrow]:
    """The arrows between folders of rowtide/, or between the folders `below` one of them."""
    modules, depth = modules_of(root), 2 if below else 1

    def folder(module: str) -> str:
        parts = module.split(".")
        return parts[depth] if len(parts) > depth + 1 else ""

    found = Counter(
        (folder(module), folder(other))
        for module, path in modules.items()
        for other in imported_by(path, modules)
        if not below or {module.split(".")[1], other.split(".")[1]} == {below}
    )
    return (Arrow(*ends, count) for ends, count in sorted(found.items()) if ends[0] != ends[1])


def back(root: Path) -> list[Arrow]:
    """The arrows that run from a lower floor to a higher one."""
    return [
        each
        for below, floors in (("", FLOORS), ("stages", STAGES))
        for each in arrows(root, below)
        if floors.index(each.above) > floors.index(each.below)
    ]


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    for title, found in (
        ("folders of rowtide/", [*arrows(root)]),
        ("folders of rowtide/stages/", [*arrows(root, "stages")]),
        ("back up", back(root)),
    ):
        sys.stdout.write("\n".join([f"{title}: {len(found)} arrows", *(f"  {each}" for each in found), ""]))
