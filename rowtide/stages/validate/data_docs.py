"""Builds Great Expectations' data docs of a gate from its stored verdicts."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2

from rowtide.gates.expectation_verdict import ExpectationVerdict
from rowtide.gates.gate_files import PARAMETER, import_great_expectations
from rowtide.ledger.ledger import from_timestamp
from rowtide.observing.event_log import logger
from rowtide.stages.run_context import RunContext

INDEX = "index.html"
TRACKER = re.compile(r"https://great-expectations-web-assets[^\"')]*")  # a tracking image of the maker's
UNSAFE = str.maketrans({"<": "‹", ">": "›", "$": "＄"})  # GX inserts values unescaped into scripts and templates

log = logger(__name__)


def docs_location(context: RunContext, gate: str) -> Path:
    """Return the index page of a gate's docs, whether they were built or not."""
    return context.home / "reports" / context.run.run_id / gate / INDEX


def write_docs(context: RunContext, gate: str, verdicts: Sequence[ExpectationVerdict]) -> None:
    """Build a gate's docs. A failure is only logged."""
    if context.environment.get("ROWTIDE_PAGE") == "0" or not verdicts:
        return
    gx, folder = import_great_expectations(), docs_location(context, gate).parent
    try:
        with tempfile.TemporaryDirectory() as place:
            _build(gx, Path(place), folder, context.run.run_id, gate, verdicts)
    except (
        gx.exceptions.GreatExpectationsError,
        jinja2.TemplateError,
        LookupError,
        TypeError,
        ValueError,
        OSError,
    ) as e:
        log.warning(
            "the pages of the %s gate of run %s could not be built: %s; all else is done", gate, context.run.run_id, e
        )


def _build(
    gx: ModuleType, place: Path, folder: Path, run_id: str, gate: str, verdicts: Sequence[ExpectationVerdict]
) -> None:
    context = gx.get_context(mode="file", project_root_dir=str(place))
    context.variables.progress_bars = {"globally": False}
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    site = place / "site"
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    config = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store}
    context.add_data_docs_site(gate, {**config, "site_index_builder": index})
    entries = [
        {"type": each.type, "kwargs": _kwargs(each), "severity": each.severity, "meta": {"notes": _safe(each.message)}}
        for each in verdicts
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=gate, expectations=entries))
    context.validation_results_store.add(*_validation(gx, run_id, gate, suite, verdicts))
    context.build_data_docs()
    for page in site.rglob("*.html"):
        page.write_text(TRACKER.sub("data:,", page.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(site, folder)


def _validation(
    gx: ModuleType, run_id: str, gate: str, suite: Any, verdicts: Sequence[ExpectationVerdict]
) -> tuple[Any, Any]:
    """Return the validation result that GX would have given for the whole run: its key, and itself."""
    asked = [(e, v) for e, v in zip(suite.expectations, verdicts, strict=True) if v.passed is not None]
    results = [
        gx.core.ExpectationValidationResult(
            success=verdict.passed,
            expectation_config=expectation.configuration,
            result=_result(verdict),
            exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
        )
        for expectation, verdict in asked
    ]
    passed = sum(bool(verdict.passed) for _, verdict in asked)
    counted = {"evaluated_expectations": len(asked), "successful_expectations": passed}
    counted |= {"unsuccessful_expectations": len(asked) - passed}
    run = gx.core.run_identifier.RunIdentifier(
        run_name=run_id, run_time=from_timestamp(max(v.judged_at for v in verdicts))
    )
    validation = gx.core.ExpectationSuiteValidationResult(
        success=passed == len(asked),
        results=results,
        suite_name=gate,
        statistics={**counted, "success_percent": 100.0 * passed / max(len(asked), 1)},
        meta={"run_id": run.to_json_dict(), "great_expectations_version": gx.__version__},
    )
    keys = gx.data_context.types.resource_identifiers
    return keys.ValidationResultIdentifier(keys.ExpectationSuiteIdentifier(gate), run, gate), validation


def _result(verdict: ExpectationVerdict) -> dict[str, Any]:
    share = 100.0 * verdict.failed / max(verdict.judged, 1)
    counted = {"element_count": verdict.judged, "unexpected_count": verdict.failed, "unexpected_percent": share}
    found: dict[str, Any] = {**counted, "missing_count": 0, "partial_unexpected_list": _safe(verdict.examples)}
    return found if verdict.observed is None else {**found, "observed_value": _safe(verdict.observed)}


def _kwargs(verdict: ExpectationVerdict) -> dict[str, Any]:
    """Return the file's kwargs, without a distribution that is a parameter: GX would try to draw it."""
    is_parameter = {key: isinstance(value, dict) and PARAMETER in value for key, value in verdict.kwargs.items()}
    return {
        key: value if is_parameter[key] else _safe(value)
        for key, value in verdict.kwargs.items()
        if not (is_parameter[key] and key == "partition_object")
    }


def _safe(value: Any) -> Any:
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if isinstance(value, dict):
        return {key: _safe(each) for key, each in value.items()}
    return value.translate(UNSAFE) if isinstance(value, str) else value
