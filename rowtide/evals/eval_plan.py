"""What is settled of an eval before its first row is asked."""

from dataclasses import dataclass

from rowtide.evals.looks import LookPlan
from rowtide.evals.outcome import ArmName
from rowtide.evals.verdicts import Margins


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """How an eval is judged."""

    changed: tuple[str, ...]
    margins: Margins
    level: float
    """Of the set, over all its verdicts."""
    alpha: float
    """Of this verdict."""
    level_left: float
    """Of the set, after this verdict."""
    looks: LookPlan
    floors: dict[str, float]
    least_group_rows: int
    cost_per_accepted_micro: int | None
    reuse_days: float
    lane: str
    settings_of: ArmName
    """The arm that is the job itself: whose comparers count."""
    is_first: bool
    """No version has passed yet, so this one is compared with itself: all its rows are asked, to know how often it is
    right."""
