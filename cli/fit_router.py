"""`rowtide fit-router JOB`: learn from a job's history where its rows should start."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.open_ledger import open_existing_ledger
from cli.output import out, print_json, short_path
from cli.shared_arguments import JobName
from configuration.model_overrides import model_overrides_in_force
from rowtide.errors import UserMistake
from rowtide.job.job_folder import find_job, load_job
from rowtide.ledger.apis import api_of_job
from rowtide.routing.difficulty import ROUTER_FILE, Router, TierFit, describe_feature, read_router
from rowtide.stages.route.router_fit import fit_router as fit
from rowtide.tiers.catalogue import load_catalogue
from rowtide.tiers.pricing import MICRO

STRONGEST = 5


def fit_router(job: JobName, *, json: bool = False) -> int:
    """Learn from a job's own history where its rows should start, and write it to router.json in the job's folder.

    Parameters
    ----------
    job
        A name under jobs/, or a folder.
    json
        Print one JSON object on stdout.
    """
    catalogue = load_catalogue(asyncio.run(model_overrides_in_force()))
    found = load_job(find_job(job, jobs=Path("jobs")))
    found = found.on_ladder(catalogue.ladder(found.name, found.spec.tiers))
    prices = [float(catalogue.tier(tier).price_at(0).output) for tier in found.spec.tiers]
    with open_existing_ledger() as ledger:
        router = fit(ledger, found, prices, now=datetime.now(UTC))
        with ledger.view() as tx:
            is_made_up = api_of_job(tx, found.name).is_made_up
    file = found.folder / ROUTER_FILE
    if is_made_up:
        _check_takes_the_place(file, router)
    _write(file, router)
    if json:
        print_json(_summary(router))
        return 0
    out.lines(router_lines(router))
    out.print(f"Written to {short_path(file)}: the job's next run starts rows by it.")
    return 0


def router_lines(router: Router) -> list[str]:
    """Return the fitted router in words, line by line."""
    lines = [
        f"Learnt from {router.rows:,} rows of {_count(router.runs, 'run')}: {router.escalated:,} escalated or failed, "
        f"{router.quarantined:,} were quarantined."
    ]
    for each in router.tier_fits:
        lines += ["", *_print_tier(each)]
    return [*lines, "", *_threshold_lines(router), _golden_lines(router)]


def _print_tier(fit: TierFit) -> list[str]:
    share = f"{fit.accepted / fit.rows:.1%}" if fit.rows else "nothing"
    lines = [
        f"{fit.tier}: would do for {share} of {fit.rows:,} rows; ${fit.accepted_micro / MICRO:.6f} for one that it "
        f"does for, ${fit.failed_micro / MICRO:.6f} for one that goes on"
    ]
    if fit.brier is None or fit.brier_base is None:
        return [*lines, "  too few of one kind to tell rows apart: the same chance for every row"]
    lines.append(f"  Brier score {fit.brier:.4f} against {fit.brier_base:.4f} for the same chance for every row")
    lines.append("  said → came true: " + ", ".join(f"{b.chance:.0%} → {b.accepted:.0%}" for b in fit.calibration))
    lines += [
        f"  {'for' if weight > 0 else 'against'}: {describe_feature(name)}" for name, weight in strongest_features(fit)
    ]
    return lines


def strongest_features(fit: TierFit) -> list[tuple[str, float]]:
    """Return the features that move the chance most, with the log-odds that one standard deviation adds."""
    added = [(name, -fit.slope * each.weight) for name, each in fit.weights.items()]
    return sorted(added, key=lambda each: -abs(each[1]))[:STRONGEST]


def _threshold_lines(router: Router) -> list[str]:
    saving = router.saving
    if not saving.started_higher:
        return [f"All rows start on {router.tiers[0]}: nothing else is cheaper for certain."]
    steps = [
        f"on {tier} with a chance of {least:.0%} or more"
        for tier, least in zip(router.tiers, router.thresholds, strict=False)
        if least <= 1
    ]
    words = ", else ".join([*steps, f"on {router.tiers[-1]}"])
    return [
        f"A row starts {words}. {saving.started_higher:.1%} start above {router.tiers[0]}.",
        f"Expected saving against starting all on {router.tiers[0]}: {saving.share:.1%} of the cost "
        f"(95%: {saving.low:.1%} to {saving.high:.1%}), ${saving.micro_per_row / MICRO:.6f} a row.",
    ]


def _golden_lines(router: Router) -> str:
    golden = router.golden
    if not golden.rows:
        return f"Golden rows: {golden.verdict}."
    return (
        f"Golden rows: {golden.right} of {golden.rows} right, at least {golden.lower_bound:.1%} with "
        f"{golden.confidence:.0%} confidence (Clopper-Pearson); target {golden.target:.0%}. {golden.verdict}."
    )


def _summary(router: Router) -> dict[str, Any]:
    kept = router.model_dump(mode="json", exclude={"vocabulary": {"words"}, "tier_fits": {"__all__": {"weights"}}})
    for each, shown in zip(router.tier_fits, kept["tier_fits"], strict=True):
        shown["strongest"] = [
            {"feature": describe_feature(name), "log_odds": weight} for name, weight in strongest_features(each)
        ]
    return kept


def _check_takes_the_place(file: Path, router: Router) -> None:
    """Raise UserMistake where a router fitted to made-up answers would replace one fitted to another API's."""
    before = read_router(file.parent)
    if before and before.api != router.api:
        raise UserMistake(
            "was learnt from another API's answers, and the job's newest run had made-up ones: move it away first",
            file=file,
        )


def _write(file: Path, router: Router) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(router.model_dump_json(indent=1) + "\n", encoding="utf-8")
    beside.replace(file)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
