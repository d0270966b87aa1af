"""A command begins at once: what takes seconds to import is imported by who needs it, and by nobody else."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import make_job
from outside import ROOT, rowtide

HEAVY = {
    "altair", "anthropic", "duckdb", "fastapi", "great_expectations", "mcp", "numpy", "pandas", "prefect", "pyarrow",
    "scipy", "sklearn", "sqlalchemy", "uvicorn",
}  # fmt: skip

LOADED = """
import sys
from cli.main import main
from rowtide.late_imports import LateModule
sys.argv = ["rowtide", *sys.argv[1:]]
try:
    main()
finally:
    loaded = {name.partition(".")[0] for name, module in sys.modules.items() if not isinstance(module, LateModule)}
    print("LOADED", *sorted(loaded))
"""

HELP_OF_EACH = """
    for command in sys.argv[1:]:
        sys.argv[1:] = [command, "--help"]
        try:
            main()
        except SystemExit as ended:
            assert ended.code == 0
"""


def loaded_by(*words: str | Path, folder: Path = ROOT, program: str = LOADED, **environment: str) -> set[str]:
    """The top-level packages that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=folder,
        env={**environment, "PATH": "", "PYTHONPATH": str(ROOT), "ROWTIDE_PREFECT_PORT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["quarantine", "--help"]])
def test_help_imports_nothing_that_takes_long(words: list[str]) -> None:
    assert not loaded_by(*words) & HEAVY


def test_the_help_of_a_command_waits_for_no_library_that_its_work_needs() -> None:
    """One process asks for the help of each, so that what any of them imports is found."""
    for_help = LOADED.replace("    main()\n", HELP_OF_EACH)
    loaded = loaded_by("run", "plan", "resume", "amend", "recheck", "cancel", "purge", "doctor", program=for_help)
    assert "cyclopts" in loaded
    assert not loaded & {"anthropic", "mcp", "pandas", "prefect", "great_expectations", "scipy"}


def test_a_run_without_a_server_of_prefects_does_not_import_prefect(api: object, tmp_path: Path) -> None:
    """Of all that could be left out it takes the most; nor is anything imported for a job without gates and tools."""
    job = make_job(tmp_path / "job", rows=2)
    loaded = loaded_by("run", job, "--json", ROWTIDE_HOME=str(tmp_path / "home"), ROWTIDE_PAGE="0", HOME=str(tmp_path))
    assert "anthropic" in loaded
    assert not loaded & {"prefect", "great_expectations", "mcp", "scipy", "sklearn", "fastapi", "altair"}


@pytest.mark.parametrize("words", [["--version"], ["runs"], ["run", "companies", "--limit", "none"]])
def test_a_command_forked_from_a_warm_process_says_and_ends_as_a_new_one(tmp_path: Path, words: list[str]) -> None:
    """Most tests start commands so, which takes a third of the time."""
    new = rowtide(*words, environment={"ROWTIDE_HOME": str(tmp_path), "TZ": "UTC"})  # which only a new one reads
    assert rowtide(*words, environment={"ROWTIDE_HOME": str(tmp_path)}) == new


@pytest.mark.parametrize("words", [["--help"], ["runs"], ["run", "companies"]])
def test_on_windows_a_command_says_in_one_sentence_where_rowtide_runs(words: list[str]) -> None:
    program = dedent("""
        import sys
        from cli.main import main
        assert "fcntl" not in sys.modules  # Windows has none: to import it would be a traceback
        sys.platform, sys.argv = "win32", ["rowtide", *sys.argv[1:]]
        main()
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("rowtide: Rowtide runs on Linux and macOS")
    assert done.stderr.count("\n") == 1
