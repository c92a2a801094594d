"""Effects pooled over settings and seeds: by hand, against scipy where it has the same, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nsbench.analysis.statistics.pooled import Pooled, by_level, pool

TABLE = np.array([[1.0, 3.0], [2.0, 6.0], [6.0, 6.0]])
"""Settings x seeds: means 2, 4 and 6 by 3 and 5 about 4; mean squares 8 of settings, 6 of seeds and 2 of the rest."""


def test_a_table_by_hand() -> None:
    found = pool(TABLE, 0.95)
    assert (found.mean, found.sd_settings, found.sd_seeds) == pytest.approx((4, math.sqrt(6 / 2), math.sqrt(4 / 3)))
    variance = (8 + 6 - 2) / 6
    df = (8 + 4) ** 2 / (8**2 / 2 + 6**2 / 1 + 2**2 / 2)  # Satterthwaite
    reach = stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((4 - reach, 4 + reach))
    new = stats.t.ppf(0.975, 1) * math.sqrt(3 + variance)  # three settings leave one degree of freedom
    assert (found.new_low, found.new_high) == pytest.approx((4 - new, 4 + new))


def test_where_seeds_make_no_difference_it_is_the_t_interval_of_settings() -> None:
    """The seeds' mean square, 0, is below that of the rest."""
    effects_SN = np.array([[0.0, 2, 1], [5, 3, 4], [3, 2, 4], [3, 4, 2]]) - np.array([0, 0, 0])
    assert effects_SN.mean(axis=0) == pytest.approx([2.75] * 3)
    expected = stats.ttest_1samp(effects_SN.mean(axis=1), 0).confidence_interval(0.9)
    found = pool(effects_SN, 0.9)
    assert (found.low, found.high, found.sd_seeds) == (pytest.approx(expected.low), pytest.approx(expected.high), 0)


def test_settings_that_differ_less_than_their_errors_have_no_spread() -> None:
    found = pool(np.array([[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]]), 0.95)
    assert (found.mean, found.sd_settings, found.sd_seeds) == (1, 0, 0)


@given(st.permutations(range(3)), st.permutations(range(2)), st.floats(-2, 2), st.floats(0.1, 3))
def test_order_and_scale_carry_over(settings: list[int], seeds: list[int], shift: float, scale: float) -> None:
    found, moved = pool(TABLE, 0.95), pool(shift + scale * TABLE[np.ix_(settings, seeds)], 0.95)
    expected = [shift + scale * value for value in found[:5]] + [scale * value for value in found[5:]]
    assert moved == pytest.approx(expected)


def test_constant_effects_have_an_interval_of_no_length() -> None:
    found = pool(np.full((4, 3), -0.3), 0.95)
    assert found[:5] == pytest.approx([-0.3] * 5)
    assert found[5:] == pytest.approx([0, 0])


@pytest.mark.parametrize(("shape", "mean"), [((2, 6), 1.0), ((5, 1), 1.0), ((0, 0), math.nan), ((3, 0), math.nan)])
def test_few_settings_or_seeds_have_a_mean_alone(shape: tuple[int, int], mean: float) -> None:
    assert pool(np.ones(shape), 0.95) == pytest.approx(Pooled(mean), nan_ok=True)


def drawn(generator: np.random.Generator, n: int, spread: float, seed_sd: float, mean: float = -0.2) -> np.ndarray:
    shared, own = generator.normal(0, seed_sd, 6), generator.normal(0, 0.25, (n, 6))
    return mean + generator.normal(0, spread, n)[:, None] + shared + own


@pytest.mark.parametrize(("spread", "seed_sd"), [(0.2, 0.0), (0.2, 0.1), (0.0, 0.1)])
def test_the_intervals_cover_about_what_they_say(spread: float, seed_sd: float) -> None:
    """benchmarks/README.md has a longer simulation."""
    generator, n_repeats, covered = np.random.default_rng(5), 400, np.zeros(2)
    for _ in range(n_repeats):
        found = pool(drawn(generator, 16, spread, seed_sd), 0.95)
        new = -0.2 + generator.normal(0, spread)
        covered += [found.low <= -0.2 <= found.high, found.new_low <= new <= found.new_high]
    mean, of_new = covered / n_repeats
    assert 0.91 <= mean <= 0.985
    assert of_new >= 0.9


def test_levels_of_a_choice_by_hand_and_by_scipy() -> None:
    generator = np.random.default_rng(2)
    levels = ["pre", "post", "pre", "post", "last", "pre", "post", "last"]
    effects_SN = drawn(generator, 8, 0.3, 0.0)
    effects_SN -= effects_SN.mean(axis=0)  # so that seeds make no difference
    means = {name: effects_SN.mean(axis=1)[[level == name for level in levels]] for name in ("pre", "post", "last")}
    found, p = by_level(effects_SN, levels, 0.95)
    assert list(found) == ["pre", "post", "last"]
    assert p == pytest.approx(stats.f_oneway(*means.values()).pvalue)
    within = sum(((group - group.mean()) ** 2).sum() for group in means.values()) / (8 - 3)
    for name, group in means.items():
        reach = stats.t.ppf(0.975, 5) * math.sqrt(within / len(group))
        assert found[name][:3] == pytest.approx((group.mean(), group.mean() - reach, group.mean() + reach))


def test_the_difference_of_levels_does_not_depend_on_the_seeds_that_all_share() -> None:
    """Each level's own interval does."""
    effects_SN, levels = drawn(np.random.default_rng(3), 8, 0.1, 0.0), ["a", "b"] * 4
    found, p = by_level(effects_SN, levels, 0.95)
    moved, again = by_level(effects_SN + np.array([1, -1, 0.5, -0.5, 0, 0]), levels, 0.95)
    assert p == pytest.approx(again)
    assert moved["a"].mean == pytest.approx(found["a"].mean)
    assert moved["a"].high - moved["a"].low > 2 * (found["a"].high - found["a"].low)


def test_no_test_where_levels_cannot_be_told_apart() -> None:
    for effects_SN, levels in ((TABLE, ["a", "b", "c"]), (TABLE, ["a", "a", "a"])):
        found, p = by_level(effects_SN, levels, 0.95)
        assert math.isnan(p)
        assert [found[name].mean for name in found] == pytest.approx([2, 4, 6] if len(found) == 3 else [4])
        assert math.isnan(found["a"].low) == (len(found) == 3)


def test_of_no_difference_p_is_uniform() -> None:
    generator = np.random.default_rng(4)
    p = [by_level(drawn(generator, 16, 0.2, 0.2), ["a", "b"] * 8, 0.95)[1] for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
