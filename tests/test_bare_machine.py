"""What a machine with nothing but Python and make is told: what was not tried, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_a_library_that_tells_of_leaks_at_the_end_is_not_heard_and_all_else_is() -> None:
    program = (
        "import duckdb\n"
        "from rowtide import gc_tuning\n"
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('goodbye'))\n"
        "gc_tuning.freeze_imported_objects()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == "goodbye"


@pytest.mark.parametrize(("stamp", "extras"), [(".venv/.run", "'.[report,serve]'"), (".venv/.test", "'.[test]'")])
def test_make_installs_the_extras_by_name_and_the_jobs_own_packages(stamp: str, extras: str) -> None:
    command = ["make", "--dry-run", "--always-make", stamp]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"--requirement jobs/companies/requirements.txt --editable {extras}" in said


@pytest.mark.slow
def test_what_needs_a_browser_is_skipped_with_one_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-k", "browser", "tests/test_report_page.py"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[-2] == "skipped 2 tests: no Chromium here; sudo apt install chromium"
    assert ended.stderr == ""
