"""Fits a router from the history of earlier runs: the only module that imports `sklearn`.

A tier only saw rows that lower tiers failed, or that started on it, so its own share of accepted answers says nothing
of a row that would start there. What is fitted instead is how far each row had to escalate: a row accepted on a tier
counts as accepted on every higher tier, a row that failed on one counts as failed on all lower ones, and unknown cases
are left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from rowtide.errors import UserMistake
from rowtide.evals.job_golden import read_job_golden
from rowtide.extras import extra
from rowtide.job.job_folder import Job
from rowtide.ledger import routes as ledger_routes
from rowtide.ledger.apis import api_of_job
from rowtide.ledger.ledger import Ledger, to_timestamp
from rowtide.ledger.routes import PastRow
from rowtide.routing.difficulty import CalibrationBin, FeatureWeight, Outcome, Router, TierFit, tier_chance
from rowtide.routing.features import Features, build_vocabulary, row_features
from rowtide.routing.thresholds import Floats, Right, choose_thresholds

with extra("router"):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

HISTORY_ROWS = 50_000  # the newest
PAGE_ROWS = 5000
NEEDED_ROWS = 200  # fewer rows are not enough to fit anything
NEEDED_OF_EACH = 30  # accepted and failed rows that a tier needs before it is fitted
FOLDS = 5
BINS = 5
REGULARISATION = 0.1  # scikit-learn's C


@dataclass(frozen=True, slots=True)
class RoutingHistory:
    """The settled rows of a job's earlier runs."""

    runs: int
    past: list[Outcome]
    found: list[Features]
    right: dict[str, Right]
    """Golden rows, by key."""


def fit_router(ledger: Ledger, job: Job, output_prices: Sequence[float], *, now: datetime) -> Router:
    """Fit a router from the ledger. `output_prices` stand in for the costs of tiers that no row has been on.

    Raises UserMistake when there are too few rows.
    """
    tiers = job.spec.tiers
    with ledger.view() as tx:
        run_nos = ledger_routes.past_runs(tx, job.name, tiers, rows=HISTORY_ROWS)
        api = api_of_job(tx, job.name)
    pages = _Pages(ledger, run_nos)
    usual = build_vocabulary(
        (orjson.loads(each.content) for each in pages), job.spec.difficulty.columns, job.spec.difficulty.lookup
    )
    golden = read_job_golden(job)
    history = RoutingHistory(len(run_nos), [], [], defaultdict(dict))
    for each in pages:
        history.past.append(each.outcome)
        history.found.append(row_features(orjson.loads(each.content), usual))
        if each.row_key in golden.rows and each.outcome.accepted_at is not None and each.answer is not None:
            is_right = golden.is_right(each.row_key, orjson.loads(each.answer))
            history.right[each.row_key] = {**history.right[each.row_key], each.outcome.accepted_at: is_right}
    _check_enough(history, job)
    tier_fits, chances = _fit_tiers(tiers, history, output_prices)
    # A golden row without an accepted answer counts as wrong.
    right = {each.row_key: history.right.get(each.row_key, {}) for each in history.past if each.row_key in golden.rows}
    choice = choose_thresholds(tier_fits, history.past, chances, right, job.spec.difficulty.accuracy)
    return Router(
        api=api.name,
        fitted_at=to_timestamp(now),
        runs=history.runs,
        rows=len(history.past),
        escalated=_escalated(history.past),
        quarantined=sum(each.accepted_at is None for each in history.past),
        tiers=tiers,
        vocabulary=usual,
        tier_fits=tier_fits,
        thresholds=choice.thresholds,
        golden=choice.golden,
        saving=choice.saving,
    )


@dataclass(frozen=True, slots=True)
class _Pages:
    """The past rows, read anew on each iteration, so that memory holds one page."""

    ledger: Ledger
    run_nos: Sequence[int]

    def __iter__(self) -> Iterator[PastRow]:
        for run_no in self.run_nos:
            with self.ledger.view() as tx:
                yield from ledger_routes.past_rows(tx, run_no, page_rows=PAGE_ROWS)


def _check_enough(history: RoutingHistory, job: Job) -> None:
    escalated, rows = _escalated(history.past), len(history.past)
    if rows < NEEDED_ROWS or escalated < NEEDED_OF_EACH or rows - escalated < NEEDED_OF_EACH:
        ladder = ", ".join(job.spec.tiers)
        raise UserMistake(
            f"too little to learn from: {rows:,} settled rows on the ladder {ladder}, of which {escalated:,} were "
            f"escalated or quarantined; it takes {NEEDED_ROWS} rows, {NEEDED_OF_EACH} that were and "
            f"{NEEDED_OF_EACH} that were not",
            file=job.folder,
        )


def _escalated(past: Sequence[Outcome]) -> int:
    return sum(each.failed_at >= 0 for each in past)


def _fit_tiers(
    tiers: Sequence[str], history: RoutingHistory, output_prices: Sequence[float]
) -> tuple[list[TierFit], Floats]:
    fitted = [_fit_tier(tier, number, history) for number, tier in enumerate(tiers)]
    tier_fits = [fit for fit, _ in fitted]
    known = [n for n, fit in enumerate(tier_fits) if fit.accepted_micro]
    for n, fit in enumerate(tier_fits):
        if not fit.accepted_micro:
            like = min(known, key=lambda other: abs(other - n))
            times = output_prices[n] / output_prices[like]
            costs = {name: getattr(tier_fits[like], name) * times for name in ("accepted_micro", "failed_micro")}
            tier_fits[n] = fit.model_copy(update=costs)
    return tier_fits, np.column_stack([unseen for _, unseen in fitted])


def _fit_tier(tier: str, number: int, history: RoutingHistory) -> tuple[TierFit, Floats]:
    """Return the fit of one tier, and each row's chance from a model that was not fitted on it."""
    past, found = history.past, history.found
    suffices = [each.would_suffice(number) for each in past]
    known = [n for n, does in enumerate(suffices) if does is not None]
    labels = np.array([bool(suffices[n]) for n in known], bool)
    accepted_micro, failed_micro = _costs(past, number)
    fit = TierFit(
        tier=tier, rows=len(known), accepted=int(labels.sum()), weights={}, intercept=0,
        accepted_micro=accepted_micro, failed_micro=failed_micro,
    )  # fmt: skip
    if min(int(labels.sum()), int((~labels).sum())) < NEEDED_OF_EACH:
        usual = (fit.accepted + 1) / (fit.rows + 2)
        return fit.model_copy(update={"intercept": float(np.log(usual / (1 - usual)))}), np.full(len(past), usual)
    names = sorted(name for name in found[0] if len({found[n][name] for n in known}) > 1)
    matrix = np.array([[found[n][name] for name in names] for n in known])
    predicted = cross_val_predict(new_classifier(), matrix, labels, cv=_folds(), method="predict_proba")
    unseen: Floats = np.asarray(predicted)[:, 1]
    fitted = classifier_as_data(new_classifier().fit(matrix, labels), names)
    fit = fit.model_copy(update=fitted | _quality(unseen, labels))
    chances = np.array([tier_chance(fit, each) for each in found])
    chances[known] = unseen
    return fit, chances


def new_classifier() -> CalibratedClassifierCV:
    """Return an unfitted logistic regression on standardized features, calibrated by Platt's method on unseen folds.

    Its L1 penalty selects one of several features that say the same, which can then be named.
    """
    regression = LogisticRegression(l1_ratio=1, solver="liblinear", C=REGULARISATION, random_state=0)
    line = make_pipeline(StandardScaler(), regression)
    never: Any = False  # its stubs know "auto" only
    return CalibratedClassifierCV(line, method="sigmoid", ensemble=never, cv=_folds())


def classifier_as_data(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the weights and calibration of a fitted `new_classifier`, as numbers for `router.json`."""
    (calibrated,) = model.calibrated_classifiers_
    (platt,) = calibrated.calibrators
    scaler, regression = (step for _, step in calibrated.estimator.steps)
    numbers = zip(names, scaler.mean_.tolist(), scaler.scale_.tolist(), regression.coef_[0].tolist(), strict=True)
    return {
        "weights": {
            name: FeatureWeight(mean=mean, scale=scale, weight=each) for name, mean, scale, each in numbers if each
        },
        "intercept": float(regression.intercept_[0]),
        "slope": float(platt.a_),
        "offset": float(platt.b_),
    }


def _folds() -> StratifiedKFold:
    return StratifiedKFold(FOLDS, shuffle=True, random_state=0)


def _quality(unseen: Floats, labels: Any) -> dict[str, Any]:
    base = float(labels.mean())
    parts = np.array_split(np.argsort(unseen, kind="stable"), BINS)
    return {
        "brier": float(((unseen - labels) ** 2).mean()),
        "brier_base": base * (1 - base),
        "calibration": [
            CalibrationBin(rows=len(part), chance=float(unseen[part].mean()), accepted=float(labels[part].mean()))
            for part in parts
        ],
    }


def _costs(past: Sequence[Outcome], tier_no: int) -> tuple[float, float]:
    """Return a row's mean cost on a tier in micro-dollars: when it ends there, and when it goes on."""
    here = [each for each in past if tier_no in each.cost_micro]
    ended = [each.cost_micro[tier_no] for each in here if each.accepted_at == tier_no]
    went_on = [each.cost_micro[tier_no] for each in here if each.failed_at >= tier_no]
    either = ended + went_on or [0]
    return float(np.mean(ended or either)), float(np.mean(went_on or either))
