"""Documents say what is so: generated parts are current, links lead somewhere, commands exist, the example runs."""

import ast
import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import app
from flows.pump import pump
from rowtide.stages.preflight import plan_run

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
EXAMPLE_FILE = re.compile(r"^\*\*`([\w./]+)`\*\*\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """The names GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_are_current() -> None:
    documents = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    stale = [path.name for path in documents["documents"]() if documents["refreshed"](text_of(path)) != text_of(path)]
    assert not stale, f"{stale}: the code says something else now; `make fix` writes these parts afresh"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(text_of(document)):
        found = (document.parent / target).resolve() if target else document
        assert found.exists(), f"{document.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(found), f"{document.name} links to {target}#{anchor}: no such heading"


def test_commands_in_documents_exist() -> None:
    shown = "\n".join(block for document in DOCUMENTS for block in SHELL.findall(text_of(document)))
    targets = set(re.findall(r"^([a-z-]+):.*##", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", shown)) <= targets
    assert set(re.findall(r"\browtide (\w+)", shown)) <= set(app)


def test_every_make_target_says_what_it_does() -> None:
    makefile = text_of(ROOT / "Makefile")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))


def test_every_deployment_names_a_flow_and_parameters_it_takes() -> None:
    for deployment in yaml.safe_load(text_of(ROOT / "prefect.yaml"))["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        tree = ast.parse(text_of(ROOT / f"{module.replace('.', '/')}.py"))
        (flow,) = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == name]
        assert set(deployment["parameters"]) <= {each.arg for each in flow.args.args}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The job that docs/add_a_job.md builds, built."""
    folder = tmp_path / "tickets"
    for name, content in EXAMPLE_FILE.findall(text_of(ROOT / "docs" / "add_a_job.md")):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


def test_the_worked_example_is_fit_to_run(example: Path) -> None:
    found = asyncio.run(plan_run(example, None, {}))
    assert [model.alias for model in found.models] == ["haiku", "sonnet"]
    assert b"customers__find_customer" in found.request


@pytest.mark.slow
def test_the_worked_example_runs(api: Any, example: Path) -> None:
    found = asyncio.run(pump(str(example)))
    assert (found["rows"], found["loaded"]) == (3, 3), found["reasons"]
