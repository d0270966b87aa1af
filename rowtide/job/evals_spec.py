"""The keys of `evals` in `job.yaml`, which say how versions of a job are compared."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from rowtide.job.strict_spec import Real, Spec, Whole


class Exact(Spec):
    """The same JSON value."""

    compare: Literal["exact"] = "exact"


class Folded(Spec):
    """Texts that differ in case, in spaces or in how Unicode writes a letter are the same."""

    compare: Literal["folded"] = "folded"


class Number(Spec):
    """A number, also one that is written as text."""

    compare: Literal["number"] = "number"
    absolute: Real = Field(default=0, ge=0)
    """How far it may be off."""
    relative: Real = Field(default=0, ge=0)
    """How far it may be off, as a share of what is known: 0.01 is one percent. The wider of the two counts."""


class Date(Spec):
    """A day, or a moment, in whatever way ISO 8601 writes it. Where a day is known, a moment within it agrees."""

    compare: Literal["date"] = "date"
    days: Whole = Field(default=0, ge=0)
    """How many days it may be off."""


class SetF1(Spec):
    """Lists, without their order and without doubles: F1 of what was answered against what is known."""

    compare: Literal["set_f1"] = "set_f1"
    at_least: Real = Field(default=1, gt=0, le=1)
    """The F1 from which on the lists agree: 2·common/(known + answered). Two empty lists have 1."""
    folded: bool = False
    """Whether texts in them are compared as `folded` does."""


class EnumOrder(Spec):
    """Words with an order, such as low, medium, high."""

    compare: Literal["enum_order"] = "enum_order"
    order: list[str] = Field(min_length=2)
    """The words, from one end to the other."""
    steps: Whole = Field(default=0, ge=0)
    """How many places it may be off."""

    @field_validator("order")
    @classmethod
    def _each_once(cls, order: list[str]) -> list[str]:
        if len(set(order)) < len(order):
            raise ValueError("a word stands twice; each has one place")
        return order


class Judge(Spec):
    """A model that says by a rubric whether two values mean the same. It counts once people's labels certify it."""

    compare: Literal["judge"] = "judge"
    rubric: str = Field(min_length=1)
    """When two values mean the same, in plain words; without Jinja, and without a line `---`."""
    tier: str = "haiku"
    """The tier that judges; best none that answers the job's rows."""

    @field_validator("rubric")
    @classmethod
    def _plain(cls, rubric: str) -> str:
        if not rubric.strip():
            raise ValueError("a rubric says when two values mean the same")
        if any(each in rubric for each in ("{{", "{%", "{#")):
            raise ValueError("a rubric is the same for all pairs: plain words, without {{ or {%")
        if any(line.strip() == "---" for line in rubric.splitlines()):
            raise ValueError("a rubric has no line ---: below that line of a prompt stands what is judged")
        return rubric


COMPARERS: dict[str, type[Spec]] = {
    "exact": Exact,
    "folded": Folded,
    "number": Number,
    "date": Date,
    "set_f1": SetF1,
    "enum_order": EnumOrder,
    "judge": Judge,
}


def _by_name(value: object) -> object:
    """`country: folded` is short for `country: {compare: folded}`."""
    return {"compare": value} if isinstance(value, str) else value


Named = Annotated[
    Exact | Folded | Number | Date | SetF1 | EnumOrder | Judge,
    Field(discriminator="compare"),
    BeforeValidator(_by_name),
]
Share = Annotated[Real, Field(gt=0, lt=1)]


class MarginsSpec(Spec):
    right: Share = 0.03
    """By what share of the golden rows fewer may come out right: 0.03 is 3 points."""
    harm: Share = 0.02
    """By what share more may be loaded and wrong."""


class GroupsSpec(Spec):
    by: str | None = None
    """The column that puts golden rows into groups; by default `skills.group_by`."""
    floors: dict[str, Share] = {}
    """Group → the share of its rows that a version must get right, whatever the others do."""
    least_rows: Whole = Field(default=20, ge=1)
    """A group with fewer golden rows has no floor: so few say little."""


class EvalsSpec(Spec):
    required: bool = False
    """Whether a version of the job may run only with a passing verdict (`rowtide eval`), or by a person's word
    (`rowtide eval JOB --override --why TEXT`). Without one `run` and `amend` exit 3."""
    fields: dict[str, Named] = {}
    """How each field of the answer is compared: `exact`, `folded`, `number`, `date`, `set_f1`, `enum_order` or `judge`;
    or a mapping with one of these as `compare`. What is not named is compared by its kind, or by `compare_FIELD` in
    answer.py."""
    margins: MarginsSpec = MarginsSpec()
    """By how much a version may be worse and still pass."""
    level: Share = 0.05
    """The chance that a version which is worse by the margin passes all the same: of the whole set of golden rows,
    however often it is asked."""
    dev_share: Annotated[Real, Field(ge=0, lt=1)] = 0.3
    """The share of the golden rows that whoever changes the job may look at; the others prove."""
    cost_per_accepted_row: Annotated[Real, Field(gt=0)] | None = None
    """What an accepted row may cost a version, in US dollars; one that costs more does not pass."""
    budget_usd: Annotated[Real, Field(gt=0)] | None = None
    """What one eval may cost at worst, in US dollars. `--budget` says otherwise."""
    reuse_days: Annotated[Real, Field(ge=0, le=36_500)] = 30
    """How old an answer of the ledger's may be that stands for asking the same again; 0: all is asked anew."""
    drift_days: Annotated[Real, Field(gt=0, le=36_500)] | None = None
    """After how many days Prefect's watch has the job as it is asked anew, against the first answers that the ledger
    keeps of this version: a model may answer otherwise under its old name. Without it only `rowtide eval JOB --drift`
    does."""
    groups: GroupsSpec = GroupsSpec()
    """Which golden rows belong together, and what share of each group must be right."""
