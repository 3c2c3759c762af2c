"""Paired statistics: against statsmodels and scipy, and what they claim of themselves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steergraph.base.errors import InputError
from steergraph.evals.stats import (
    compare,
    corrected,
    holm,
    mcnemar_exact,
    mean_interval,
    paired_bootstrap,
    sign_flip,
    wilson,
)

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_statsmodels_own(hits: int, n: int, level: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = min(hits, n)
    low, high = proportion_confint(hits, n, alpha=1 - level, method="wilson")
    ours = wilson(hits, n, level)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
    assert ours.low <= ours.estimate <= ours.high or math.isclose(ours.low, ours.estimate, abs_tol=1e-12)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_statsmodels_own(wins: int, losses: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[5, wins], [losses, 7]], exact=True).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(min(1.0, expected))


@pytest.mark.slow
@settings(deadline=None)
@given(probabilities)
def test_holm_is_statsmodels_own(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_a_few_items_are_permuted_exactly(moved: list[int]) -> None:
    from scipy.stats import permutation_test

    first = np.array(moved, dtype=float)
    if not first.any():
        assert sign_flip(first, np.zeros_like(first)) == 1.0
        return
    expected = permutation_test(
        (first, np.zeros_like(first)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    # scipy doubles the smaller tail; for a statistic symmetric about zero that is the same.
    assert sign_flip(first, np.zeros_like(first)) == pytest.approx(min(1.0, expected))


def test_many_items_are_permuted_by_chance_and_never_give_zero() -> None:
    rng = np.random.default_rng(1)
    assert sign_flip(np.ones(200), np.zeros(200)) == pytest.approx(1 / 10_001)
    null = rng.normal(size=200)
    assert 0.02 < sign_flip(null - null.mean(), np.zeros(200)) <= 1.0


def test_the_bootstrap_is_scipys_within_its_noise() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(2)
    first, second = rng.random(80), rng.random(80) * 0.8
    ours = paired_bootstrap(first, second)
    theirs = bootstrap((first - second,), np.mean, method="percentile", rng=rng).confidence_interval
    assert ours.estimate == pytest.approx((first - second).mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours == paired_bootstrap(first, second), "a seed gives one interval"


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        found = mean_interval(rng.normal(0.3, 1.0, size=60), resamples=500, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 180 <= hits <= 198


def test_textbook_values() -> None:
    found = wilson(8, 10)
    assert (round(found.low, 3), round(found.high, 3)) == (0.490, 0.943)
    assert mcnemar_exact(8, 1) == 2 * 10 / 2**9
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_pairing_finds_what_the_marginals_hide() -> None:
    hard = np.random.default_rng(4).normal(0, 10, size=40)
    found = compare(hard + 0.5, hard)
    assert found.verdict == "better"
    assert (found.wins, found.losses, found.n) == (40, 0, 40)


def test_binary_arms_are_tested_by_mcnemar() -> None:
    first, second = [1] * 9 + [0] * 11, [0] * 8 + [1] * 2 + [0] * 10
    found = compare(first, second)
    assert found.p == mcnemar_exact(8, 1)
    assert f"{wilson(1, 2):.0%}" == "50% (9% to 91%)"


def test_a_table_of_many_comparisons_claims_less() -> None:
    """Fifteen cells at n = 10 have a winner by luck; corrected, they have none."""
    rng = np.random.default_rng(5)
    base = rng.integers(0, 2, size=30)
    cells = [compare(rng.integers(0, 2, size=30), base) for _ in range(15)]
    lone = compare([1] * 8 + [0] * 22, [0] * 30)
    assert lone.verdict == "better"
    assert corrected([lone, *cells])[0].verdict == "not shown"


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [1.0, 2.0]), ([], []), ([float("nan")], [0.0]), ([[1.0]], [[2.0]])]
)
def test_what_cannot_be_compared_is_said(first: list[float], second: list[float]) -> None:
    with pytest.raises(InputError):
        compare(first, second)
