"""Text about two versions: the verdict in a sentence, its cost, and what the golden rows can and cannot prove."""

from collections import Counter
from collections.abc import Iterator

from rowtide.evals.outcome import EvalOutcome, RowOutcome
from rowtide.evals.planning import least_margin, least_rows, statistical_power
from rowtide.evals.verdicts import PASSES
from rowtide.text_format import format_usd, shorten_text
from rowtide.tiers.pricing import MICRO

REASON, MOST_REASONS = 200, 3  # characters; of a sentence
STRATA = 6  # that are named
FEW_DIFFER = 0.04  # of the rows: what an equal version differs on


def verdict_pill(found: EvalOutcome) -> tuple[str, str]:
    """Return the verdict in a word, and the class that colours it."""
    if found.verdict is None:
        return "goes on", "going"
    return found.verdict.replace("_", " "), "" if found.verdict in PASSES else "stopped"


def verdict_sentence(found: EvalOutcome) -> str:
    """Return what was shown, in one sentence."""
    rows, fixed, broken = len(found.counted), len(found.fixed), len(found.broken)
    changes = f"it fixes {_rows(fixed)} and breaks {broken:,} of {rows:,}"
    reasons = "; ".join(shorten_text(each, REASON) for each in found.reasons[:MOST_REASONS])
    match found.verdict:
        case None:
            return f"The eval goes on: so far, {changes}."
        case "better":
            return f"The candidate is better: {changes}."
        case "not_worse":
            return f"The candidate is not worse by {_points(found.margins.right)} points: {changes}."
        case "worse":
            return f"The candidate is worse: {reasons or changes}."
        case "undecided":
            return f"Undecided, so it does not pass: {changes}."
        case "invalid":
            return f"The two cannot be compared: {reasons}."


def lead(found: EvalOutcome) -> str:
    """Return what the eval cost, and what deciding would."""
    looks = f"{len(found.looks)} of {len(found.planned)} planned looks"
    cost = f"The eval cost {format_usd(found.cost_micro / MICRO)}, in {looks}."
    if found.verdict != "undecided":
        return cost
    if found.price is None:
        return f"{cost} More rows will not decide it: it looks worse by the margin or more."
    return (
        f"{cost} Deciding would take about {_rows(found.price.rows, 'more golden row')}, "
        f"{format_usd(found.price.cost_micro / MICRO)} and {_rows(found.price.labels, 'label')}."
    )


def proofs(found: EvalOutcome) -> Iterator[str]:
    """Yield what this set can and cannot prove, line by line."""
    rows, margin = len(found.counted), found.margins.right
    provable, needed = least_margin(rows, found.alpha), least_rows(margin, found.alpha)
    yield (
        f"{_rows(rows, 'golden row')} at a level of {found.alpha:.2%} can show at best that a version is not worse by "
        f"{100 * provable:.1f} points, if the two never differ. The margin asked for is {_points(margin)} points: "
        f"{needed:,} rows at least."
    )
    if rows:
        chance = statistical_power(rows, FEW_DIFFER, margin, found.alpha)
        yield (
            f"An equal version that differs on {FEW_DIFFER:.0%} of the rows passes one look at them all with a chance "
            f"of {chance:.0%}."
        )
    yield from _labels(found.rows)
    if found.use:
        yield (
            f"This is verdict {found.use} on the set: its level is {found.alpha:.2%} of {found.level:.0%}, and "
            f"{found.level_left:.2%} is left for all to come. New random rows renew it."
        )
    else:
        yield "It takes nothing from the level of the set."
    if found.is_made_up:
        yield "The answers are made up by an emulator: this says nothing of any model."


def _labels(rows: tuple[RowOutcome, ...]) -> Iterator[str]:
    if not rows:
        return
    by = Counter(_labeller(row.by) for row in rows)
    named = ", ".join(f"{count:,} by {who}" for who, count in by.most_common())
    yield f"Labelled: {named}. What a model labelled proves nothing of that model."
    if others := Counter(row.stratum for row in rows if row.stratum != "random"):
        counted = ", ".join(f"{count:,} {shorten_text(stratum, 40)}" for stratum, count in others.most_common(STRATA))
        yield f"Not drawn at random: {counted}. Such rows say nothing of how often a version is right."


def _labeller(by: str) -> str:
    first = by.partition(":")[0].strip().casefold()
    return "nobody named" if not first else f"a {first}" if first in ("rule", "model") else "people"


def _points(share: float) -> str:
    return f"{100 * share:g}"


def _rows(count: int, noun: str = "row") -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
