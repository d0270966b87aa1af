"""Export spans by OTLP over HTTP, as the OTEL_* variables say. The only module that imports OpenTelemetry's SDK."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def span_provider() -> TracerProvider:
    """Return a provider that sends spans in the background, and the last of them when the process ends."""
    resource = Resource({SERVICE_NAME: "rowtide"}).merge(OTELResourceDetector().detect())
    made = TracerProvider(resource=resource)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
