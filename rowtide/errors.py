"""The exceptions of Rowtide: mistakes of a user, faults of the world, reasons for a run to stop.

A failed row is never one of these: it is data, with a reason, in the ledger.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from rowtide.masking import mask_secrets

LEAST_LIKENESS = 0.55  # of difflib's ratio: `Totl` is like `Total, EUR`, `name` is not like `amount`


class RowtideError(Exception):
    """Something that Rowtide cannot go on without has failed. The message holds no secret, whatever it quotes."""

    def __init__(self, words: str) -> None:
        super().__init__(mask_secrets(words))


class UserMistake(RowtideError):
    """A mistake in a job, a source or a command that its author can correct. The command line exits 2.

    Rendered as `job.yaml:12: tiers: 'haikoo' is not a tier; did you mean 'haiku'?`.
    """

    def __init__(
        self,
        what: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
        meant: str | None = None,
    ) -> None:
        self.what, self.file, self.line, self.key, self.meant = mask_secrets(what), file, line, key, meant
        place = f"{file}:{line}" if file and line else str(file) if file else ""
        hint = f"; did you mean {meant!r}?" if meant else ""
        super().__init__(": ".join(part for part in (place, key, what) if part) + hint)


class DecisionOutdated(UserMistake):
    """What a person decided about has changed since it was shown. Nothing is decided; it is shown again."""


class WorldError(RowtideError):
    """Something outside failed for everyone (network, rate limit, server). Worth trying again later."""

    def __init__(self, words: str, *, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(words)


class StoppedByWorld(WorldError):
    """The API refuses all work until a person acts (credit exhausted, key revoked). The run can be resumed."""


class RunStopped(RowtideError):
    """The run stopped at a limit with rows still to send; verified rows are loaded. It can be resumed."""


class StoppedByJob(RowtideError):
    """Most of a run's first rows fail alike in the job's own code. Its rows are as they were; it can be resumed."""


class LeaseLost(RowtideError):
    """Another process has taken over this run. This one stops; nothing is lost."""


class NoPassingVerdict(RowtideError):
    """The job requires a passing eval of every version, and this version has none. Nothing was begun."""

    def __init__(self, words: str, *, job: str, version: str, folder: Path) -> None:
        self.job, self.version, self.folder = job, version, folder
        super().__init__(words)


class VersionStopped(NoPassingVerdict):
    """The same, and a person has stopped this version, or is being asked about it: nobody else needs to be."""


class IllegalMove(RowtideError):
    """A row was asked to make a move that its state does not allow: a bug, or two writers. The run stops."""


def nearest_name(name: str, legal: Iterable[str]) -> str | None:
    """Return the legal name most like `name`, or None when nothing is close."""
    by_folded = {each.casefold(): each for each in legal}
    return next((by_folded[each] for each in get_close_matches(name.casefold(), by_folded, 1, LEAST_LIKENESS)), None)
