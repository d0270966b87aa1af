"""The plan of an eval, fixed before its first row is asked: margins, levels, looks and limits."""

from dataclasses import dataclass

from rowtide.evals.judges import FieldJudge
from rowtide.evals.looks import LookPlan
from rowtide.evals.outcome import ArmName
from rowtide.evals.verdicts import Margins


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """How an eval is judged."""

    changed: tuple[str, ...]
    margins: Margins
    level: float
    """The significance level of the golden set, shared by all its verdicts."""
    alpha: float
    """The significance level of this verdict."""
    level_left: float
    """What is left of the set's level after this verdict."""
    looks: LookPlan
    floors: dict[str, float]
    least_group_rows: int
    cost_per_accepted_micro: int | None
    reuse_days: float
    lane: str
    settings_of: ArmName
    """The arm that is the job's own folder; its comparers are used."""
    is_first: bool
    """No version has passed yet, so this one is compared with itself: all its rows are asked, to learn how often it is
    right."""
    is_drift: bool = False
    """Both are the same version: the candidate is asked anew, the incumbent's answers are the first that are kept."""
    judges: tuple[FieldJudge, ...] = ()
    """Of the fields that a model compares, in the order of their names. Each is certified before a version is asked."""

    @property
    def is_to_be_certified(self) -> bool:
        """Whether a judge has not been asked about people's labels yet."""
        return any(each.certificate is None for each in self.judges)
