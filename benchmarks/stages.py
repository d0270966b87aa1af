"""CPU by stage of the flow, off the spans that the product makes anyway: `rowtide.extract`, `rowtide.submit`, …"""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import trace

from benchmarks.used import cpu_seconds

PREFIX = "rowtide."


def process() -> dict[str, float]:
    """The CPU of the whole process."""
    return {"process": cpu_seconds()}


class Stages(trace.TracerProvider):
    """A tracer provider that keeps no span: it adds up what the process used between the begin and end of stages."""

    def __init__(self, begun: Callable[[str], None], used: Callable[[], Mapping[str, float]] = process) -> None:
        self.seconds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By stage, of each kind of CPU that is `used`."""
        self.task_runs = 0
        self._begun, self._used = begun, used
        self._is_in_one = False

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return _Tracer(self)

    @contextmanager
    def measure(self, name: str) -> Generator[None]:
        """Count a stage, which is a task run. A span within one, as of a batch that is posted, is part of it."""
        if self._is_in_one:
            yield
            return
        self.task_runs += 1
        self._begun(name)
        self._is_in_one, before = True, self._used()
        try:
            yield
        finally:
            self._is_in_one = False
            self.seconds[name] += Counter({kind: now - before.get(kind, 0.0) for kind, now in self._used().items()})


class _Tracer(trace.Tracer):
    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def start_span(self, *_: Any, **__: Any) -> trace.Span:
        return trace.INVALID_SPAN

    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> AbstractContextManager[Any]:
        return self._stages.measure(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else nullcontext()
