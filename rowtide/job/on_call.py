"""Check `owner` and `runbook` of `job.yaml`: whom to call about a job, and where the instructions are."""

from pathlib import Path
from urllib.parse import urlsplit

LONGEST = 200  # characters of an owner or a runbook: each is a tag, and a line of an alert
WEB = ("http", "https")


def validate_owner(value: str) -> str:
    """Return the owner, if it can be a tag. Raises ValueError."""
    return _one_line(value)


def validate_runbook(value: str) -> str:
    """Return the runbook, if it is a URL without a login or a path inside the job's folder. Raises ValueError."""
    _one_line(value)
    parts = urlsplit(value)
    if "://" in value or parts.scheme in WEB:
        if parts.scheme not in WEB or not parts.hostname:
            raise ValueError("a URL of the web, as https://wiki.example.com/runbook, or a file in the job's folder")
        if set(value) & set(' <>"`\\'):
            raise ValueError("a URL has no space, quote, backslash or angle bracket: write them as %20 and so on")
        if parts.username or parts.password:
            raise ValueError("a login does not belong here: everybody who is told of a run reads it")
        return value
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise ValueError("a path in the job's folder: neither absolute nor through `..`")
    return value


def is_url(runbook: str) -> bool:
    """Return whether it is a URL."""
    return urlsplit(runbook).scheme in WEB


def runbook_location(runbook: str | None, folder: Path) -> str | None:
    """Return where to find a runbook without the job at hand: its URL, or the whole path."""
    return runbook if runbook is None or is_url(runbook) else str(folder / runbook)


def _one_line(value: str) -> str:
    if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > LONGEST:
        raise ValueError(f"one line of text, of at most {LONGEST} characters, with no space before or after it")
    return value
