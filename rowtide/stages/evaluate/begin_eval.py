"""The beginning of an eval: what is compared, by what it is judged, and which answers are known already."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from rowtide.errors import WorldError
from rowtide.evals.comparers import JobComparer
from rowtide.evals.eval_plan import EvalPlan
from rowtide.evals.golden_rows import GOLDEN_FILE, Part
from rowtide.evals.judges import FieldJudge
from rowtide.evals.looks import LookPlan, alpha_left, alpha_of_use, plan_looks
from rowtide.evals.outcome import EXTRA, Arm, ArmName
from rowtide.evals.verdicts import Margins
from rowtide.job.job_folder import Job
from rowtide.job.versions import name_changes
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import permitted_versions
from rowtide.ledger import recordings as ledger_recordings
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger, to_timestamp
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.golden_set import GoldenSet, SetRow, check_leaks, check_provable, with_kept_answers
from rowtide.stages.evaluate.request_marks import how_asked
from rowtide.stages.measured_version import measured_version
from rowtide.stages.preflight import Plan
from rowtide.tiers.pricing import MICRO
from rowtide.tools.recordings import recording_of

NOTHING_CHANGED = "nothing that decides an answer differs"


@dataclass(frozen=True, slots=True)
class Compared:
    """One version, found fit to run."""

    label: str
    plan: Plan

    @property
    def version(self) -> str:
        return measured_version(self.plan.job, [model.id for model in self.plan.models])

    @property
    def arm(self) -> Arm:
        version, job = self.plan.job.version, self.plan.job
        return Arm(self.label, str(job.folder), version.asking, version.judging, tuple(job.spec.tiers))


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided."""

    eval_id: str
    job: Job
    """Whose golden rows, comparers and margins count."""
    settings_of: ArmName
    part: Part
    candidate: Compared
    incumbent: Compared
    golden: GoldenSet
    is_first: bool
    is_drift: bool
    budget_usd: float | None
    lane: str
    who: str
    flow_run_id: str | None = None
    """The flow run of Prefect that asks, if any."""
    judges: tuple[FieldJudge, ...] = ()
    is_anew: bool = False
    """Asked again although it was answered."""

    @property
    def api(self) -> str:
        return self.candidate.plan.api.name

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing that decides an answer differs."""
        return self.candidate.version == self.incumbent.version


def begin_eval(ledger: Ledger, asked: Question, *, now: datetime) -> Eval:
    """Begin an eval, or find the one that asks the same. Raises UserMistake for what can be known to be in vain."""
    drift_no = _drift_no(ledger, asked)
    mark = _mark_of(asked, drift_no)
    with ledger.page() as tx:
        before = ledger_evals.asked(tx, asked.job.name, mark)
        if before and not (asked.is_anew and before.verdict):
            if asked.budget_usd is not None:
                ledger_evals.give_budget(tx, before.eval_no, round(asked.budget_usd * MICRO))
            return before
    if asked.is_drift:
        asked = replace(asked, golden=with_kept_answers(asked.golden, _first_answers(ledger, asked)))
    use = _use(ledger, asked)
    plan = _plan(asked, use, drift_no)
    if not asked.is_unchanged:
        check_provable(asked.golden, asked.job.spec.evals, plan.looks.alpha, asked.job.folder / GOLDEN_FILE)
    check_leaks(asked.golden, asked.candidate.plan)
    rows = _rows(ledger, asked, plan, now)
    counted = use if asked.part == "confirm" else 0
    values = _record(ledger, asked, plan, now) | {"question": mark, "use_no": counted, "drift_no": drift_no}
    recorded = _recordings(
        ledger, asked, [each for row in rows for each in (row.candidate_row, row.incumbent_row) if each]
    )
    with ledger.page() as tx:
        if counted and use != 1 + ledger_evals.uses(tx, asked.job.name, asked.api, _key_hashes(asked.golden)):
            raise WorldError(f"another eval of {asked.job.name} began at this moment")
        begun = ledger_evals.begin(tx, values, rows)
        ledger_recordings.record(tx, asked.job.name, recorded)
        if asked.is_unchanged and not (asked.is_first or asked.is_drift):
            ledger_evals.finish(tx, begun.eval_no, "not_worse", [NOTHING_CHANGED], None, now=now)
        return ledger_evals.get(tx, asked.eval_id)


def _drift_no(ledger: Ledger, asked: Question) -> int:
    """Return the how manieth drift check of the version it is; 0 where it is none."""
    with ledger.view() as tx:
        ended = ledger_evals.drift_checks(tx, asked.job.name, asked.api, asked.candidate.version)
    return 1 + ended if asked.is_drift else 0


def _first_answers(ledger: Ledger, asked: Question) -> dict[str, int]:
    """Return the first row of each golden key that the ledger keeps of the version: later ones may have drifted."""
    rows, each = [*asked.golden.extra, *asked.golden.counted], asked.incumbent
    sought = [found for found, _ in how_asked(each.plan, rows, asked.api)]
    with ledger.view() as tx:
        return read_evals.earlier_rows(tx, asked.job.name, asked.api, each.plan.asked, sought, since="", is_first=True)


def _use(ledger: Ledger, asked: Question) -> int:
    """The how manieth verdict on the set it is; 0 where it is none on it. A planted candidate is judged as the next
    one would be."""
    if asked.part == "dev" or asked.is_unchanged:
        return 0
    with ledger.view() as tx:
        return 1 + ledger_evals.uses(tx, asked.job.name, asked.api, _key_hashes(asked.golden))


def _plan(asked: Question, use: int, drift_no: int) -> EvalPlan:
    evals = asked.job.spec.evals
    times = use or drift_no  # all checks of a version for drift have the level together, as all verdicts on a set do
    alpha = alpha_of_use(times, evals.level) if times else evals.level
    now, before = asked.candidate.plan.job.version, asked.incumbent.plan.job.version
    ladders = [list(each.plan.job.spec.tiers) for each in (asked.candidate, asked.incumbent)]
    changed = [*name_changes(before, now), *(["the ladder"] if ladders[0] != ladders[1] else [])]
    if not changed and not asked.is_unchanged:
        changed = ["where rows start, or the models behind the tiers"]
    ceiling = evals.cost_per_accepted_row
    return EvalPlan(
        changed=tuple(changed),
        margins=Margins(evals.margins.right, evals.margins.harm),
        level=evals.level,
        alpha=alpha,
        level_left=alpha_left(use, evals.level),
        looks=plan_looks(len(asked.golden.counted), alpha),
        floors=dict(evals.groups.floors),
        least_group_rows=evals.groups.least_rows,
        cost_per_accepted_micro=None if ceiling is None else round(ceiling * MICRO),
        reuse_days=evals.reuse_days,
        lane=asked.lane,
        settings_of=asked.settings_of,
        is_first=asked.is_first,
        is_drift=asked.is_drift,
        judges=asked.judges,
    )


def _record(ledger: Ledger, asked: Question, plan: EvalPlan, now: datetime) -> dict[str, object]:
    api, job = asked.candidate.plan.api, asked.job
    with ledger.view() as tx:
        is_fair = permitted_versions.standing(tx, job.name, asked.incumbent.version, api.name).may_run
        is_fair = is_fair or read_evals.last_passed(tx, job.name, api.name) is None
    budget = asked.budget_usd or job.spec.evals.budget_usd or job.spec.limits.budget_usd
    return {
        "eval_id": asked.eval_id,
        "job": job.name,
        "api": api.name,
        "made_up": int(api.is_made_up),
        "part": asked.part,
        "version": asked.candidate.version,
        "may_gate": int(is_fair and not asked.is_drift),
        "candidate": orjson.dumps(asked.candidate.arm).decode(),
        "incumbent": orjson.dumps(asked.incumbent.arm).decode(),
        "plan": orjson.dumps(plan).decode(),
        "key_hashes": b"".join(_key_hashes(asked.golden)),
        "budget_micro": None if budget is None else round(budget * MICRO),
        "who": asked.who,
        "flow_run_id": asked.flow_run_id,
        "started_at": to_timestamp(now),
    }


def _rows(ledger: Ledger, asked: Question, plan: EvalPlan, now: datetime) -> list[EvalRow]:
    """The rows of all looks, each with the answers that are known already."""
    rows = [*asked.golden.extra, *asked.golden.counted[: plan.looks.last]]
    if asked.is_drift:  # both are asked alike, and may differ all the same
        known, same = [dict[str, int](), _first_answers(ledger, asked)], [False] * len(rows)
    else:
        known, same = _known(ledger, asked, rows, plan, now)
    return [
        _row(place, each, _look_of(place - len(asked.golden.extra), plan.looks), is_same, known)
        for place, (each, is_same) in enumerate(zip(rows, same, strict=True), 1)
    ]


def _known(
    ledger: Ledger, asked: Question, rows: Sequence[SetRow], plan: EvalPlan, now: datetime
) -> tuple[list[dict[str, int]], list[bool]]:
    """The answers of candidate and incumbent that are known, by key; and which rows both would be asked alike."""
    since, known, marks = (
        to_timestamp(now - timedelta(days=plan.reuse_days)),
        list[dict[str, int]](),
        list[list[bytes]](),
    )
    for each in (asked.candidate, asked.incumbent):
        how = how_asked(each.plan, rows, asked.api)
        marks.append([mark for _, mark in how])
        sought = [found for found, _ in how] if plan.reuse_days else []
        with ledger.view() as tx:
            known.append(read_evals.earlier_rows(tx, asked.job.name, asked.api, each.plan.asked, sought, since=since))
    return known, [new == old for new, old in zip(*marks, strict=True)]


def _row(place: int, row: SetRow, look: int, is_same: bool, known: Sequence[Mapping[str, int]]) -> EvalRow:
    """Of one that both are asked alike, one answer is both versions'."""
    golden, key = row.golden, row.golden.key
    candidate, incumbent = (each.get(key) for each in known)
    if is_same:
        candidate = incumbent = incumbent or candidate
    outputs = {"answer": golden.answer, "group": row.group, "stratum": golden.stratum}
    content = orjson.dumps({**outputs, "pinned": golden.pinned, "by": golden.by})
    return EvalRow(place, look, key, row.row_id, row.content, content, int(is_same), candidate, incumbent)


def _look_of(place: int, looks: LookPlan) -> int:
    """The look that counts the row at this place (from 1 on) first."""
    if place < 1:
        return EXTRA
    return next(number for number, rows in enumerate(looks.rows, 1) if place <= rows)


def _recordings(ledger: Ledger, asked: Question, row_nos: Sequence[int]) -> dict[str, tuple[str, str]]:
    """What tools outputs to the rows that are known, as recordings: the other version must hear the same."""
    plan = asked.incumbent.plan
    with ledger.view() as tx:
        outputs = read_evals.tool_outputs(tx, row_nos)
    servers = {name: each.spec for name, each in plan.servers.items()}
    recorded = dict[str, tuple[str, str]]()
    for tool, arguments, output, at in sorted(outputs, key=lambda each: each[3]):
        recorded[recording_of(plan.job.version.asks, servers, tool, arguments)] = output, at
    return recorded


def _mark_of(asked: Question, drift_no: int) -> str:
    """The fingerprint of all that decides the verdict."""
    rows = [
        [row.golden.key, row.row_id, row.golden.answer, row.golden.pinned, row.group]
        for row in [*asked.golden.extra, *asked.golden.counted]
    ]
    code = asked.job.version.judges.get(asked.job.answer_file.name)
    how = {
        name: [each.name, code] if isinstance(each, JobComparer) else each.model_dump(mode="json")
        for name, each in asked.golden.comparers.items()
    }
    judged = asked.job.spec.evals.model_dump(
        mode="json", include={"margins", "level", "groups", "cost_per_accepted_row"}
    )
    judges = [[each.field, dict(each.asked), dict(each.labels)] for each in asked.judges]
    versions = [asked.candidate.version, asked.incumbent.version]
    decides = [
        asked.candidate.plan.api.name,
        asked.part,
        versions,
        asked.is_first,
        drift_no,
        rows,
        how,
        judged,
        *judges,
    ]
    return hashlib.blake2b(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def _key_hashes(golden: GoldenSet) -> list[bytes]:
    return [
        hashlib.blake2b(row.golden.key.encode(errors="surrogatepass"), digest_size=ledger_evals.HASH_BYTES).digest()
        for row in golden.counted
    ]
