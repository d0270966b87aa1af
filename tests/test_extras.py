"""What most do not need is an extra: without it all else works, and whoever needs it is told its name."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import make_job
from outside import ROOT, Done, rowtide

EXTRAS = ["opentelemetry.sdk", "psycopg", "py3langid", "sklearn", "standardwebhooks", "vl_convert"]
# Python imports it when it starts: the command, and what it starts, are on a machine where these were never installed.
NEVER_INSTALLED = """
import sys
from importlib.abc import MetaPathFinder


class NeverInstalled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{each}.") for each in MISSING):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NeverInstalled())
"""
ROUTER: dict[str, Any] = {
    "fitted_at": "2026-11-21T12:00:00Z",
    "runs": 1,
    "rows": 200,
    "escalated": 0,
    "quarantined": 0,
    "tiers": ["haiku", "sonnet"],
    "vocabulary": {"rows": 9, "columns": ["message"], "lookup": None, "words": {}, "languages": [], "long_chars": 9},
    "tier_fits": [],
    "thresholds": [0.5],
    "golden": {"rows": 0, "right": 0, "lower_bound": 0, "confidence": 0.95, "target": 0.9, "verdict": "none"},
    "saving": {"share": 0, "low": 0, "high": 0, "micro_per_row": 0, "started_higher": 0},
}


def without(tmp_path: Path, packages: list[str], *words: str | Path, **environment: str) -> Done:
    """What a command of `rowtide` says where these packages are missing."""
    place = tmp_path / "never_installed"
    place.mkdir()
    (place / "sitecustomize.py").write_text(f"MISSING = {packages!r}\n{NEVER_INSTALLED}")
    return rowtide(*words, environment={"PYTHONPATH": f"{place}:{ROOT}", **environment})


@pytest.mark.parametrize(
    ("extra", "package", "words", "environment"),
    [
        ("router", "sklearn", ["fit-router", "companies"], {}),
        ("report", "vl_convert", ["report"], {}),
        ("serve", "standardwebhooks", ["serve"], {"ROWTIDE_WEBHOOK_SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}),
        ("postgres", "psycopg", ["runs"], {"ROWTIDE_LEDGER": "postgresql://nobody@nowhere.invalid/ledger"}),
        ("otel", "opentelemetry.sdk", ["serve", "--unsigned"], {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}),
    ],
)
def test_who_needs_an_extra_that_is_not_here_is_told_what_to_install(
    extra: str, package: str, words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = without(tmp_path, [package], *words, ROWTIDE_HOME=str(tmp_path), **environment)
    assert done.status == 2, done.err
    assert f"is not here; it comes with: pip install 'rowtide[{extra}]'" in done.err


def test_a_job_that_has_a_router_is_told_before_anything_is_sent(api: object, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job")
    (job / "router.json").write_bytes(orjson.dumps(ROUTER))
    done = without(tmp_path, ["py3langid"], "run", job)
    assert (done.status, "rowtide[router]" in done.err) == (2, True), done.err


def test_a_job_whose_own_package_is_missing_says_how_to_install_it(tmp_path: Path) -> None:
    done = without(tmp_path, ["pycountry"], "plan", "jobs/companies", ROWTIDE_HOME=str(tmp_path))
    assert done.status == 2
    assert "pip install -r " in done.err
    assert "jobs/companies/requirements.txt" in done.err


def test_without_any_extra_a_run_goes_through_and_says_why_it_has_no_page(api: object, tmp_path: Path) -> None:
    done = without(tmp_path, EXTRAS, "run", make_job(tmp_path / "job", rows=2), ROWTIDE_PAGE="1")
    assert done.status == 0, done.err
    assert "2 loaded" in done.out
    assert "could not be drawn: the package vl_convert is not here" in done.err
