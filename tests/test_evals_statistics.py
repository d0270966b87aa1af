"""The statistics of evals do what they promise: the level is kept, and what is said of power and price is so."""

import itertools
import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial

from rowtide.binomial import clopper_pearson_lower, clopper_pearson_upper
from rowtide.evals.e_process import STAKES, cluster_means, e_values, is_not_worse
from rowtide.evals.exact_tango import exact_critical_value, worst_case_p_value
from rowtide.evals.judge_candidate import compare_measure, judge_candidate
from rowtide.evals.judges import JudgeCounts, certify_judge, corrected_rate, krippendorff_alpha
from rowtide.evals.looks import LOOKS, alpha_left, alpha_of_use, plan_looks, row_order
from rowtide.evals.paired_test import (
    PairedCounts,
    critical_value,
    p_value,
    tango_interval,
    tango_lower_bound,
    tango_score,
    tango_score_of_counts,
)
from rowtide.evals.planning import (
    explain_too_few_rows,
    least_margin,
    least_rows,
    price_of_deciding,
    rows_by_score,
    rows_needed,
    rows_without_disagreement,
    statistical_power,
)
from rowtide.evals.verdicts import Margins

DRAWS = 20_000
ALPHA = 0.05
NOISE = 4 * math.sqrt(ALPHA * (1 - ALPHA) / DRAWS)  # four standard errors of a share of 5%

Ints = npt.NDArray[np.int64]


@st.composite
def paired_counts(draw: st.DrawFn, most: int = 500) -> PairedCounts:
    rows = draw(st.integers(1, most))
    fixed = draw(st.integers(0, rows))
    return PairedCounts(rows, fixed, draw(st.integers(0, rows - fixed)))


def drawn(rows: int, differ: float, difference: float, seed: int = 0) -> tuple[Ints, Ints]:
    """(fixed, broken) of many evals of a candidate that is truly better by `difference`."""
    shares = [(differ + difference) / 2, (differ - difference) / 2, 1 - differ]
    counts = np.random.default_rng(seed).multinomial(rows, shares, size=DRAWS)
    return counts[:, 0], counts[:, 1]


# --- the score test


def test_tangos_z_is_the_score_test_of_the_likeliest_shares() -> None:
    """Against the likelihood itself, maximised by a library: every count of 12 rows, at five differences."""
    rows = 12
    for fixed, broken in itertools.product(range(rows + 1), repeat=2):
        for difference in (-0.3, -0.05, 0.0, 0.1, 0.4):
            if fixed + broken > rows:
                continue

            def loss(share: float, b: int = fixed, c: int = broken, d: float = difference) -> float:
                logs = [(b, share + d), (c, share), (rows - b - c, 1 - 2 * share - d)]
                return -sum(count * math.log(max(each, 1e-300)) for count, each in logs if count)

            low, high = max(0.0, -difference), (1 - difference) / 2
            found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
            best = min((found.x, low, high), key=loss)
            variance = rows * (2 * best + difference - difference**2)
            if variance > 1e-6:
                want = (fixed - broken - rows * difference) / math.sqrt(variance)
                assert tango_score(rows, fixed, broken, difference) == pytest.approx(want, abs=2e-4)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        (PairedCounts(21, 1, 7), -0.517, -0.026),  # Fagerland, Lydersen, Laake, BMC Med. Res. Meth. 13:91 (2013)
        (PairedCounts(161, 6, 16), -0.124, -0.005),
    ],
)
def test_the_interval_is_the_published_one(counts: PairedCounts, low: float, high: float) -> None:
    assert tango_interval(counts) == pytest.approx((low, high), abs=1e-3)


def test_at_no_margin_it_is_mcnemars() -> None:
    assert tango_score_of_counts(PairedCounts(200, 15, 5), 0) == pytest.approx(10 / math.sqrt(20))
    assert p_value(critical_value(0.0125)) == pytest.approx(0.0125)


@given(paired_counts(), st.sampled_from([0.05, 0.0125, 0.2]), st.floats(0.005, 0.5))
def test_the_bound_and_the_test_say_the_same(counts: PairedCounts, alpha: float, margin: float) -> None:
    bound = tango_lower_bound(counts, alpha)
    assert -1 <= bound <= counts.difference + 1e-9
    if abs(bound + margin) > 1e-9:
        assert (bound > -margin) == (tango_score_of_counts(counts, -margin) > critical_value(alpha))


@given(paired_counts(), st.floats(-0.99, 0.99))
def test_z_is_mirrored_and_falls_with_what_is_claimed(counts: PairedCounts, difference: float) -> None:
    z = tango_score_of_counts(counts, difference)
    assert z == pytest.approx(-tango_score_of_counts(counts.exchanged, -difference), abs=1e-6)
    assert tango_score_of_counts(counts, min(difference + 0.01, 1.0)) <= z + 1e-9


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_few_rows_and_no_disagreement_are_no_error(rows: int) -> None:
    counts = PairedCounts(rows, 0, 0)
    assert tango_score_of_counts(counts, 0) == 0
    assert tango_score_of_counts(counts, -0.05) == pytest.approx(math.sqrt(rows * 0.05 / 0.95))
    assert -1 <= tango_lower_bound(counts, ALPHA) <= 0
    for all_one_way in (PairedCounts(rows, rows, 0), PairedCounts(rows, 0, rows)):
        assert not math.isnan(tango_score_of_counts(all_one_way, -0.05))
    with pytest.raises(ValueError, match="cannot be"):
        PairedCounts(rows, rows, 1)


# --- level and power


@pytest.mark.parametrize("margin", [0.02, 0.03, 0.05])
@pytest.mark.parametrize("differ", ["few", 0.10, 0.30])
@pytest.mark.parametrize("rows", LOOKS)
def test_a_candidate_that_is_worse_by_the_margin_rarely_passes(rows: int, differ: float | str, margin: float) -> None:
    share = margin if isinstance(differ, str) else differ  # few: only those rows differ on which it is worse
    fixed, broken = drawn(rows, share, -margin, seed=rows)
    passed = (tango_score(rows, fixed, broken, -margin) >= exact_critical_value(rows, margin, ALPHA)).mean()
    assert passed <= ALPHA + NOISE
    assert passed == pytest.approx(statistical_power(rows, share, margin, ALPHA, -margin), abs=NOISE)


CASES = [
    (rows, margin, share)
    for rows in (60, 90, 120, 165, 240, 480)
    for margin in (0.02, 0.03, 0.05)
    for share in (margin, 0.061, 0.1, 0.23, 0.4)
    if share >= margin
]


@pytest.mark.parametrize("alpha", [ALPHA, ALPHA / 4])
def test_the_level_is_kept_exactly(alpha: float) -> None:
    """By enumeration, so no draw hides it."""
    assert max(statistical_power(rows, share, margin, alpha, -margin) for rows, margin, share in CASES) <= alpha


def test_the_normal_distribution_would_not_have_kept_it() -> None:
    """Why a verdict is not read off the normal distribution, and that the price of it is next to nothing."""
    limit = critical_value(ALPHA)
    assert statistical_power(90, 0.03, 0.03, ALPHA, -0.03, limit=limit) == pytest.approx(0.0645, abs=1e-3)
    for rows, margin in ((165, 0.05), (165, 0.02), (480, 0.03)):
        loss = statistical_power(rows, 0.04, margin, ALPHA, limit=limit) - statistical_power(rows, 0.04, margin, ALPHA)
        assert 0 <= loss < 0.02


def test_the_worst_chance_is_the_largest_over_all_shares() -> None:
    rows, margin, z = 12, 0.1, 1.2
    counts = [(b, c) for b, c in itertools.product(range(rows + 1), repeat=2) if b + c <= rows]
    extreme = [(b, c) for b, c in counts if tango_score(rows, b, c, -margin) >= z]
    whole, worst = np.array([(b, c, rows - b - c) for b, c in extreme]), 0.0
    for share in np.linspace(margin, 1, 200):
        shares = [(share - margin) / 2, (share + margin) / 2, 1 - share]
        worst = max(worst, float(multinomial.pmf(whole, rows, shares).sum()))
    assert worst_case_p_value(rows, z, margin) == pytest.approx(worst, abs=2e-3)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 20])
def test_the_level_is_kept_by_a_handful_of_rows_too(rows: int) -> None:
    for margin in (0.01, 0.05, 0.4):
        limit = exact_critical_value(rows, margin, ALPHA / 4)
        assert worst_case_p_value(rows, limit, margin) <= ALPHA / 4
        assert statistical_power(rows, 0.4, margin, ALPHA / 4, -margin) <= ALPHA / 4
    assert exact_critical_value(0, 0.05, ALPHA) == math.inf


def test_at_no_margin_the_worst_chance_is_that_of_a_coin() -> None:
    """Where every row differs, it is the sign test."""
    for fixed in (5, 8, 10):
        z = tango_score_of_counts(PairedCounts(10, fixed, 10 - fixed), 0)
        coin = binomtest(fixed, 10, alternative="greater").pvalue
        assert worst_case_p_value(10, z, 0) >= coin - 1e-9
    assert worst_case_p_value(0, 0.0, 0.05) == 1
    assert worst_case_p_value(60, 0.0, 0) >= 0.5


def test_the_exact_level_is_the_sum_over_every_count() -> None:
    rows, margin, share = 25, 0.1, 0.2
    shares = [(share - margin) / 2, (share + margin) / 2, 1 - share]
    whole = sum(
        multinomial.pmf([b, c, rows - b - c], rows, shares)
        for b, c in itertools.product(range(rows + 1), repeat=2)
        if b + c <= rows and tango_score(rows, b, c, -margin) >= critical_value(ALPHA)
    )
    assert statistical_power(rows, share, margin, ALPHA, -margin, limit=critical_value(ALPHA)) == pytest.approx(
        whole, abs=1e-9
    )


def looked(differ: float, difference: float, margin: float, rows: int = 480) -> tuple[float, float, float]:
    """Of many evals at the planned looks: (share shipped, share blocked, mean rows asked)."""
    plan = plan_looks(rows, ALPHA)
    fixed, broken = np.zeros(DRAWS, np.int64), np.zeros(DRAWS, np.int64)
    state, ended = np.zeros(DRAWS), np.full(DRAWS, plan.last)
    for at, before in zip(plan.rows, (0, *plan.rows), strict=False):
        b, c = drawn(at - before, differ, difference, seed=at)
        fixed, broken = fixed + b, broken + c
        passes = (state == 0) & (
            tango_score(at, fixed, broken, -margin) >= exact_critical_value(at, margin, plan.alpha)
        )
        blocked = (
            (state == 0) & ~passes & (tango_score(at, broken, fixed, 0) >= exact_critical_value(at, 0, plan.alpha))
        )
        ended[passes | blocked] = at
        state[passes], state[blocked] = 1, -1
    return float((state == 1).mean()), float((state == -1).mean()), float(ended.mean())


def test_looking_four_times_keeps_the_level() -> None:
    for differ in (0.05, 0.10, 0.30):
        shipped, *_ = looked(differ, -0.05, 0.05)
        assert shipped <= ALPHA + NOISE
    assert looked(0.08, -0.05, 0.05)[0] == pytest.approx(0.024, abs=0.004)


def test_what_the_planned_looks_find_and_when() -> None:
    identical = looked(0.0, 0.0, 0.05)
    assert identical[0] == 1
    assert identical[2] == 120
    equal = looked(0.04, 0.0, 0.05)
    assert equal[0] == pytest.approx(0.985, abs=0.004)
    assert equal[2] == pytest.approx(212, abs=4)
    far_worse = looked(0.12, -0.10, 0.05)
    assert far_worse[0] < 0.001
    assert far_worse[1] > 0.999
    assert far_worse[2] == pytest.approx(102, abs=3)


def test_what_165_rows_can_prove() -> None:
    assert statistical_power(165, 0.04, 0.05, ALPHA) == pytest.approx(0.86, abs=0.015)
    assert statistical_power(165, 0.04, 0.02, ALPHA) == pytest.approx(0.29, abs=0.015)


@pytest.mark.parametrize(
    ("rows", "margin", "at_5", "at_1_25"),
    [(60, 0.05, 0.038, 0.002), (165, 0.03, 0.036, 0.007), (480, 0.03, 0.046, 0.008)],
)
def test_the_level_of_one_look(rows: int, margin: float, at_5: float, at_1_25: float) -> None:
    """EVALS.md's figures, for some share that differs between the least and a tenth."""
    shares = np.linspace(margin, 0.10, 8)
    for alpha, want in ((0.05, at_5), (0.0125, at_1_25)):
        levels = [
            statistical_power(rows, share, margin, alpha, -margin, limit=critical_value(alpha)) for share in shares
        ]
        assert min(levels) - 0.003 <= want <= max(levels) + 0.003


# --- planning


def test_rows_that_are_needed_without_disagreement() -> None:
    margins = (0.05, 0.03, 0.02, 0.01)
    assert [rows_without_disagreement(each, ALPHA) for each in margins] == [59, 99, 149, 299]
    assert [rows_by_score(each, ALPHA) for each in margins] == [52, 88, 133, 268]
    for margin, rows in zip(margins, (52, 88, 133, 268), strict=True):
        assert tango_score_of_counts(PairedCounts(rows, 0, 0), -margin) >= critical_value(ALPHA)
        assert tango_score_of_counts(PairedCounts(rows - 1, 0, 0), -margin) < critical_value(ALPHA)
    for margin, alpha in itertools.product(margins, (ALPHA, ALPHA / 4)):
        rows = least_rows(margin, alpha)
        assert least_margin(rows, alpha) <= margin < least_margin(rows - 1, alpha)
        assert explain_too_few_rows(rows, margin, alpha) is None
        assert not compare_measure(PairedCounts(rows - 1, 0, 0), margin, alpha).is_not_worse
    assert [least_rows(each, ALPHA) for each in margins] == [59, 99, 149, 299]
    assert "it takes 99 even if no answer differs; label 59 more" in (explain_too_few_rows(40, 0.03, ALPHA) or "")
    assert "allow 100.0 points" in (explain_too_few_rows(0, 0.03, ALPHA) or "")


@pytest.mark.parametrize(("wanted", "factor"), [(0.8, 6.2), (0.9, 8.6)])
def test_rows_that_are_needed_for_a_power(wanted: float, factor: float) -> None:
    needed = rows_needed(0.08, 0.03, ALPHA, wanted)
    assert needed == pytest.approx(factor * 0.08 / 0.03**2, rel=0.01)
    assert needed is not None
    assert statistical_power(needed, 0.08, 0.03, ALPHA) == pytest.approx(wanted, abs=0.04)
    assert rows_needed(0.08, 0.03, ALPHA, wanted, difference=-0.03) is None


def test_the_price_of_deciding() -> None:
    right, harm = PairedCounts(120, 3, 3), PairedCounts(120, 1, 1)
    price = price_of_deciding([(right, 0.03), (harm, 0.02)], ALPHA, 1_800)
    needed = max(rows_needed(0.05, 0.03, ALPHA) or 0, rows_needed(2 / 120, 0.02, ALPHA) or 0)
    assert price is not None
    assert price.rows == needed - 120
    assert price.cost_micro == price.rows * 1_800
    assert 0 < price.labels < price.rows
    assert price_of_deciding([(PairedCounts(120, 0, 8), 0.03)], ALPHA, 1) is None
    done = price_of_deciding([(PairedCounts(480, 0, 0), 0.03)], ALPHA, 1)
    assert done is not None
    assert (done.rows, done.labels, done.cost_micro) == (0, 0, 0)


# --- looks


def test_looks_are_planned_for_the_rows_there_are() -> None:
    assert plan_looks(480, 0.05).rows == (60, 120, 240, 480)
    assert plan_looks(10_000, 0.05).alpha == 0.0125
    assert plan_looks(165, 0.05).rows == (60, 120, 165)
    assert plan_looks(125, 0.05).rows == (60, 125)
    assert plan_looks(40, 0.05) == plan_looks(40, 0.05, (60, 120))
    assert (plan_looks(40, 0.05).rows, plan_looks(40, 0.05).alpha) == ((40,), 0.05)
    assert (plan_looks(0, 0.05).rows, plan_looks(0, 0.05).last) == ((), 0)


@given(
    st.dictionaries(st.integers(0, 999).map(str), st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 9)
)
def test_the_order_is_fixed_by_the_seed_and_spreads_each_group(groups: dict[str, str], seed: int) -> None:
    order = row_order(groups, seed)
    assert sorted(order) == sorted(groups)
    assert row_order(dict(reversed(groups.items())), seed) == order
    sizes = Counter(groups.values())
    seen: Counter[str] = Counter()
    for taken, key in enumerate(order, 1):
        seen[groups[key]] += 1
        for group, size in sizes.items():
            assert abs(seen[group] - size * taken / len(groups)) <= 1 + size * len(sizes) / len(groups)


def test_another_seed_is_another_order() -> None:
    groups = {str(n): "" for n in range(50)}
    assert row_order(groups, 1) != row_order(groups, 2)


def test_all_uses_of_a_set_have_its_level_together() -> None:
    assert alpha_of_use(1, 0.05) == pytest.approx(0.0304, abs=1e-4)
    assert alpha_left(0, 0.05) == 0.05
    assert alpha_left(3, 0.05) == pytest.approx(0.05 - sum(alpha_of_use(k, 0.05) for k in (1, 2, 3)))
    assert 0 < alpha_left(10_000, 0.05) < 1e-5
    with pytest.raises(ValueError, match="from 1 on"):
        alpha_of_use(0, 0.05)


# --- verdicts


def test_each_verdict_has_its_evidence() -> None:
    def verdict(right: tuple[int, int], harm: tuple[int, int] = (0, 0), rows: int = 240, **more: object) -> str:
        return judge_candidate(PairedCounts(rows, *right), PairedCounts(rows, *harm), 0.0125, **more).verdict  # type: ignore[arg-type] # passed on

    assert verdict((0, 0)) == "undecided"  # 240 rows cannot show 2 points at this level
    assert verdict((0, 0), rows=480) == "not_worse"
    assert verdict((12, 1), rows=480) == "better"
    assert verdict((1, 14)) == "worse"
    assert verdict((12, 1), harm=(0, 9), rows=480) == "worse"  # more right, bought with harm
    assert verdict((9, 9)) == "undecided"
    assert verdict((0, 0), rows=0) == "invalid"
    assert verdict((0, 0), rows=480, problems=["other rows"]) == "invalid"
    assert verdict((12, 1), rows=480, failed=["a pinned row is wrong"]) == "worse"
    assert verdict((0, 0), rows=240, margins=Margins(0.05, 0.05)) == "not_worse"


def test_what_is_certainly_worse_but_not_by_the_margin_passes() -> None:
    seen = compare_measure(PairedCounts(4_000, 10, 40), 0.03, 0.05)
    assert seen.is_worse
    assert seen.is_not_worse
    finding = judge_candidate(PairedCounts(4_000, 10, 40), PairedCounts(4_000, 0, 0), 0.05)
    assert (finding.verdict, finding.passes) == ("not_worse", True)
    assert finding.right.bound == pytest.approx(-0.0108, abs=1e-3)


def test_counts_of_other_rows_are_invalid() -> None:
    finding = judge_candidate(PairedCounts(10, 0, 0), PairedCounts(9, 0, 0), 0.05)
    assert finding.verdict == "invalid"
    assert "10 rows, and harm on 9" in finding.reasons[0]


# --- the e-process


def test_the_e_process_is_what_its_definition_says() -> None:
    differences, margin = [0, -1, 1, 0.5, 0], 0.05
    for length in range(1, 6):
        stakes = [float(stake) / (1 - margin) for stake in STAKES]
        want = np.mean([math.prod(1 + stake * (d + margin) for d in differences[:length]) for stake in stakes])
        assert e_values(differences, margin)[length - 1] == pytest.approx(want)
    assert e_values([], margin).shape == (0,)
    assert not is_not_worse([], margin, ALPHA)


def test_it_cannot_be_expected_to_grow_where_the_candidate_is_worse() -> None:
    """By enumeration: the mean over every sequence of five rows, of a candidate that is exactly as much worse."""
    margin, share = 0.1, 0.3
    chances = {1: (share - margin) / 2, -1: (share + margin) / 2, 0: 1 - share}
    sequences = list(itertools.product(chances, repeat=5))
    weights = np.array([math.prod(chances[d] for d in each) for each in sequences])
    assert weights.sum() == pytest.approx(1)
    assert weights @ e_values(np.array(sequences), margin) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_looking_after_every_row_keeps_the_level(share: float) -> None:
    margin, draws = 0.05, 2_000
    chances = [(share + margin) / 2, 1 - share, (share - margin) / 2]
    random, ever = np.random.default_rng(5), 0
    for _ in range(8):
        differences = random.choice([-1, 0, 1], size=(draws // 8, 150), p=chances)
        ever += int((e_values(differences, margin).max(axis=1) >= 1 / ALPHA).sum())
    assert ever / draws <= ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / draws)


def test_it_does_find_what_is_equal() -> None:
    assert is_not_worse(np.zeros(300), 0.05, ALPHA)
    assert not is_not_worse(np.zeros(20), 0.05, ALPHA)
    for margin, differences in ((1.0, [0]), (0.05, [2])):
        with pytest.raises(ValueError, match="margin"):
            e_values(differences, margin)


def test_the_parts_of_a_document_are_one_observation() -> None:
    assert cluster_means([1, 0, -1, 1], ["a", "b", "a", "b"]) == [0, 0.5]
    assert np.isfinite(e_values(np.ones(5_000), 0.05)[:100]).all()


# --- judges


@given(st.integers(0, 200), st.integers(1, 200), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_bounds_of_a_share_are_clopper_and_pearsons(hits: int, rows: int, confidence: float) -> None:
    hits = min(hits, rows)
    one_sided = {"greater": clopper_pearson_lower, "less": clopper_pearson_upper}
    for side, bound in one_sided.items():
        known = binomtest(hits, rows, alternative=side).proportion_ci(confidence, method="exact")
        assert bound(hits, rows, confidence) == pytest.approx(known.low if side == "greater" else known.high, abs=1e-9)


def labels(good_passed: int, good_failed: int, bad_passed: int, bad_failed: int) -> list[tuple[bool, bool]]:
    return (
        [(True, True)] * good_passed
        + [(True, False)] * good_failed
        + [(False, True)] * bad_passed
        + [(False, False)] * bad_failed
    )


def test_a_judge_is_certified_by_both_of_its_bounds() -> None:
    assert certify_judge(labels(59, 6, 6, 59)).is_certified
    assert not certify_judge(labels(59, 6, 10, 55)).is_certified
    assert not certify_judge(labels(500, 0, 0, 0)).is_certified  # nobody labelled a bad one
    assert not certify_judge([]).is_certified
    assert not certify_judge(labels(13, 0, 0, 13)).is_certified
    assert certify_judge(labels(14, 0, 0, 14)).tpr_bound == pytest.approx(0.05 ** (1 / 14))


def test_a_rate_is_corrected_as_rogan_and_gladen_say() -> None:
    counts = JudgeCounts(90, 10, 20, 80)
    found = corrected_rate(60, 100, counts)
    assert found is not None
    assert found.rate == pytest.approx((0.6 + 0.8 - 1) / (0.9 + 0.8 - 1))
    rate = found.rate
    variance = (0.6 * 0.4 / 100 + rate**2 * 0.9 * 0.1 / 100 + (1 - rate) ** 2 * 0.8 * 0.2 / 100) / 0.7**2
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert 0 <= found.low < found.rate < found.high <= 1
    assert corrected_rate(5, 10, JudgeCounts(5, 5, 5, 5)) is None  # a coin
    assert corrected_rate(5, 10, JudgeCounts(5, 5, 0, 0)) is None
    assert corrected_rate(0, 0, counts) is None


@pytest.mark.parametrize(("rate", "tpr", "tnr"), [(0.9, 0.95, 0.85), (0.5, 0.9, 0.9), (0.98, 0.98, 0.9)])
def test_the_corrected_interval_holds_the_truth(rate: float, tpr: float, tnr: float) -> None:
    random, held, tries = np.random.default_rng(7), 0, 600
    passes = rate * tpr + (1 - rate) * (1 - tnr)
    for _ in range(tries):
        good, bad = random.binomial(65, tpr), random.binomial(65, tnr)
        found = corrected_rate(random.binomial(200, passes), 200, JudgeCounts(good, 65 - good, 65 - bad, bad))
        held += found is not None and found.low <= rate <= found.high
    assert held / tries >= 0.93


def test_krippendorffs_alpha_is_the_published_one() -> None:
    """Krippendorff, Computing Krippendorff's alpha-reliability (2011): four observers with gaps, and two."""
    observers = [
        "1 2 3 3 2 1 4 1 2 * * *",
        "1 2 3 3 2 2 4 1 2 5 * 3",
        "* 3 3 3 2 3 4 2 2 5 1 *",
        "1 2 3 3 2 4 4 1 2 5 1 *",
    ]
    units = [
        [None if label == "*" else label for label in unit]
        for unit in zip(*(o.split() for o in observers), strict=True)
    ]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    binary = list(zip("0100000010", "1110010000", strict=True))
    assert krippendorff_alpha(binary) == pytest.approx(0.095, abs=5e-4)


def test_agreement_that_cannot_fail_is_no_agreement() -> None:
    assert krippendorff_alpha([("a", "a"), ("a", "a")]) is None
    assert krippendorff_alpha([("a", None), (None, "b")]) is None
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([("a", "a"), ("b", "b")]) == 1
