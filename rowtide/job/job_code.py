"""Run a job's own code (checks, validators, serializers, templates) so that a failure is a value, not a crash.

Whatever that code does, it comes back as a value: what it returned, or a `JobCodeFailure` that names the place, the
exception's type and its message. A failure costs its row; one that most of a run's first rows share stops the run.
"""

import atexit
import dis
import inspect
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

import jinja2

from rowtide.errors import UserMistake
from rowtide.masking import mask_secrets
from rowtide.text_format import shorten_text

SECONDS = 10  # that code of a job's may take for one row
IDLE_TICKS = 5
IMPORT_SECONDS = 120  # and to be imported: it may load large libraries
MESSAGE_CHARS = 300
TEXT_CHARS = 32_000_000  # what one request may have
FIRST_ROWS = 20  # so many rows must have been tried before their share is taken for everybody's
MOST = 0.8  # of the rows that were tried, a larger share that fails alike is the job's fault
FEWEST = 2  # one row alone says nothing about the others
LOGIN = re.compile(r"(\w+://)[^/\s@]+@")  # user and password in a URL; or a token in the user's place
TEMPLATE = "<template>"  # what Jinja2 calls the file of every template

Check = Callable[[Any, dict[str, object]], object]  # None or a sentence, if it keeps to what is asked of it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobCodeFailure:
    """A failure of a job's code: where it happened, which exception, what it said."""

    reason: str
    """The reason of its row: `check_failed`, `validator_failed`, `serializer_failed` or `template_failed`."""
    where: str
    """The place and what happened there: `check_total (answer.py:12) raised ValueError`. Alike rows share it."""
    message: str
    kind: str = ""
    """The exception's type."""
    line: int | None = None

    @property
    def words(self) -> str:
        return f"{self.where}: {self.message}" if self.message else self.where


class JobCodeRaised(Exception):
    """An exception that carries a JobCodeFailure out of code that returns something else."""

    def __init__(self, failure: JobCodeFailure) -> None:
        self.failure = failure
        super().__init__(failure.words)


class JobCodeTimeout(BaseException):
    """The job's code ran over its time. If a bare `except` of the job swallows it, it is raised once more."""


class _Ticker:
    """A signal once a second while a job's code runs; it ends code that runs over its time. A signal, because nothing
    else reaches code that holds the interpreter, such as a regular expression without end.
    """

    __slots__ = ("count", "idle", "is_on", "until")

    def __init__(self) -> None:
        self.count, self.idle, self.is_on = 0, 0, False
        self.until: int | None = None
        """The tick at which the code that is run now has had its time."""

    def turn_on(self) -> None:
        try:
            signal.signal(signal.SIGALRM, self._tick)
            signal.setitimer(signal.ITIMER_REAL, 1, 1)
            self.is_on, self.idle = True, 0
            atexit.register(self.turn_off)  # an interpreter that ends has no handlers any more: a tick would kill it
        except AttributeError:
            return  # not Unix

    def turn_off(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.is_on = False

    def _tick(self, _: int, __: FrameType | None) -> None:
        self.count += 1
        self.idle = self.idle + 1 if self.until is None else 0
        if self.idle > IDLE_TICKS:  # whoever runs such code again turns it on again
            self.turn_off()
        if self.until is not None and self.count > self.until:
            raise JobCodeTimeout


_TICKER = _Ticker()


def run_job_code(
    reason: str, name: str, file: Path, code: Callable[[], T], seconds: int = SECONDS
) -> T | JobCodeFailure:
    """Run `code`, which calls the job's own code. Returns its value, or the failure. `name` says what it is, `file`
    where it is written.

    Signals come to a process's main thread: code that is run in another is not bounded in time.
    """
    if current_thread() is not main_thread():
        return _outcome(reason, name, file, code)
    if not _TICKER.is_on:
        _TICKER.turn_on()
    outer = _TICKER.until
    _TICKER.until = _TICKER.count + seconds
    try:
        return _outcome(reason, name, file, code)
    except JobCodeTimeout as error:
        error.args = (f"it did not return within {seconds} s",)
        return failure_from_exception(reason, name, file, error)
    finally:
        _TICKER.until = outer


def _outcome(reason: str, name: str, file: Path, code: Callable[[], T]) -> T | JobCodeFailure:
    """What the code returns, or its failure.

    A signal's exception passes: Ctrl-C and a stop by the system are no fault of the job's.
    """
    try:
        return code()
    except JobCodeRaised as raised:
        return raised.failure
    except BaseException as error:
        if not _is_the_jobs(error):
            raise
        return failure_from_exception(reason, name, file, error)


def functions_with_prefix(
    module: Mapping[str, object], prefix: str, what: str, file: Path
) -> dict[str, Callable[[Any, Any], object]]:
    """Return the functions of answer.py whose names begin with `prefix`, by name, in their order. `module` is what it
    defines (`vars`).

    Raises UserMistake for one that cannot be called with two values; `what` says what such a function is of.
    """
    found = {name: value for name, value in module.items() if name.startswith(prefix)}
    for name, value in found.items():
        if not callable(value) or inspect.iscoroutinefunction(value):
            raise UserMistake(f"{name} is {'async' if callable(value) else 'no function'}; {what}", file=file)
        try:
            inspect.signature(value).bind(None, None)
        except TypeError as error:
            raise UserMistake(f"{name}: {error}; {what}", file=file) from None
        except ValueError:
            continue  # written in C, without a signature
    return cast(dict[str, Callable[[Any, Any], object]], found)


def fill_template(
    template: jinja2.Template, file: Path, values: Mapping[str, object], row: Mapping[str, object]
) -> str | JobCodeFailure:
    """Return the text of a prompt or a rubric for one row: filled from `values`, with the whole row as `row`."""
    return run_job_code("template_failed", file.name, file, lambda: _filled(template, values, row))


def _filled(template: jinja2.Template, values: Mapping[str, object], row: Mapping[str, object]) -> str:
    pieces, length = list[str](), 0
    for piece in template.generate(values, row=row):
        pieces.append(piece)
        length += len(piece)
        if length > TEXT_CHARS:
            raise ValueError(f"it makes more than {TEXT_CHARS:,} characters of this row")
    text = "".join(pieces)
    if not text.isascii():
        text.encode()  # half a surrogate pair cannot be sent
    return text


def failure_from_exception(reason: str, name: str, file: Path, error: BaseException) -> JobCodeFailure:
    """Return the failure that an exception raised by a job's code stands for."""
    function, line = _place(error.__traceback__, file)
    place = f"{file.name}:{line}" if line else file.name
    named = name if reason == "check_failed" else function or name
    where = place if name == file.name else f"{named} ({place})"
    kind = type(error).__name__
    return JobCodeFailure(reason, f"{where} raised {kind}", _message(error), kind, line)


def redacted_failure_line(text: str, length: int = MESSAGE_CHARS) -> str:
    """Return text from a job's code as one line that is safe to store, send and show: cut, without logins or tokens."""
    whole = " ".join(text[: 10 * length].encode(errors="replace").decode().split())
    return shorten_text(mask_secrets(LOGIN.sub(r"\1***@", whole)), length)


def most_frequent_failure(failures: Iterable[JobCodeFailure]) -> tuple[JobCodeFailure, int] | None:
    """Return the failure that most rows share, and how many do; None without failures."""
    found = list(failures)
    if not found:
        return None
    where, count = Counter(each.where for each in found).most_common(1)[0]
    return next(each for each in found if each.where == where), count


def is_job_wide_fault(failed: int, tried: int, *, are_all: bool) -> bool:
    """Return whether this many rows failing alike is the job's fault. `are_all`: every row of the run was tried."""
    if tried >= FIRST_ROWS:
        return failed > MOST * tried
    return are_all and failed == tried >= FEWEST


def _is_the_jobs(error: BaseException) -> bool:
    """Whether the job's code raised the exception itself; a signal handler's passes through the same frames."""
    if isinstance(error, Exception | SystemExit):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    code = last.tb_frame.f_code
    stands_at_raise = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    return stands_at_raise and "rowtide_job_" in str(last.tb_frame.f_globals.get("__name__"))


def _place(traceback: TracebackType | None, file: Path) -> tuple[str | None, int | None]:
    """Where an exception came from: the function in the job's file, and the innermost line there or in the template."""
    function = line = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename in (TEMPLATE, str(file)):
            function, line = function or code.co_qualname, traceback.tb_lineno
        traceback = traceback.tb_next
    return function, line


def _message(error: BaseException) -> str:
    try:
        return redacted_failure_line(str(error))
    except Exception:  # noqa: BLE001 # its __str__ is the job's code too
        return ""
