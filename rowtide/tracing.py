"""OpenTelemetry spans, made only where the standard OTEL_* variables ask for them.

The SDK is an extra, so `span_export` is imported when it is wanted.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace

from rowtide.extras import extra

WHERE = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_tracers: list[trace.Tracer] = []  # one, when spans are wanted


def are_spans_wanted(environment: Mapping[str, str]) -> bool:
    """Return whether the standard variables ask for spans."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER")
    return exporter == "otlp" or (exporter is None and any(environment.get(name) for name in WHERE))


def start_tracing(environment: Mapping[str, str]) -> None:
    """Start to send spans if the standard variables (OTEL_*) name a place. An existing provider, such as an agent's, is
    used.

    Raises UserMistake when the SDK is not installed.
    """
    if _tracers or not are_spans_wanted(environment):
        return
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_provider())
    use_provider(trace.get_tracer_provider())


def use_provider(provider: trace.TracerProvider | None) -> None:
    """Make spans with this provider from now on; None: make none."""
    _tracers[:] = [provider.get_tracer("rowtide")] if provider else []


def span(name: str, **attributes: str | int | float | None) -> AbstractContextManager[Any]:
    """Return a span for the length of a `with`; does nothing when spans are not wanted."""
    if not _tracers:
        return nullcontext()
    known = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
    return _tracers[0].start_as_current_span(name, attributes=known)


def _provider() -> trace.TracerProvider:
    with extra("otel"):
        from rowtide.span_export import span_provider  # noqa: PLC0415 # the SDK is an extra
    return span_provider()
