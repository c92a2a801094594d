"""When low token sensitivity bounds joint noise: against enumeration, Boolean analysis and a counterexample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from nsbench.theory import boolean
from nsbench.theory.robustness import flip_probability, product_law, token_sensitivities, two_constant_inputs

Array = NDArray[np.float64]


def random_case(shape: tuple[int, ...], seed: int, classes: int = 3) -> tuple[Array, Array, list[Array]]:
    """Labels, a joint law that is no product, and laws to redraw tokens from."""
    random = np.random.default_rng([seed, len(shape)])
    joint = random.dirichlet(np.ones(math.prod(shape))).reshape(shape)
    return random.integers(classes, size=shape), joint, [random.dirichlet(np.ones(size)) for size in shape]


def enumerated(labels: Array, joint: Array, laws: list[Array], redrawn: list[float]) -> float:
    """Probability of a change, over all pairs of inputs, where token i is redrawn with probability redrawn[i]."""
    total, inputs = 0.0, list(itertools.product(*map(range, labels.shape)))
    for x, y in itertools.product(inputs, inputs):
        step = math.prod((1 - p) * (a == b) + p * law[b] for a, b, law, p in zip(x, y, laws, redrawn, strict=True))
        total += joint[x] * step * (labels[x] != labels[y])
    return total


def test_flips_are_those_of_all_pairs_of_inputs() -> None:
    labels, joint, laws = random_case((2, 3, 4), 0)
    for epsilon in (0.0, 0.3, 1.0):
        exact = enumerated(labels, joint, laws, [epsilon] * 3)
        assert flip_probability(labels, joint, laws, epsilon) == pytest.approx(exact, abs=1e-14)
    for token in range(3):
        exact = enumerated(labels, joint, laws, [1.0 * (i == token) for i in range(3)])
        assert token_sensitivities(labels, joint, laws)[token] == pytest.approx(exact, abs=1e-14)


def test_of_uniform_bits_they_are_influence_and_noise_stability() -> None:
    n, half = 5, [np.array([0.5, 0.5])] * 5
    table = np.sign(np.random.default_rng(1).standard_normal(2**n))
    labels = table.astype(int).reshape((2,) * n)
    # A redraw is a flip half of the time, and (1 - epsilon) is the correlation.
    assert token_sensitivities(labels, product_law(half), half).sum() == pytest.approx(
        boolean.total_influence(table) / 2
    )
    for epsilon in (0.1, 0.6, 1.0):
        stability = boolean.noise_stability(table, 1 - epsilon)
        assert flip_probability(labels, product_law(half), half, epsilon) == pytest.approx((1 - stability) / 2)


@pytest.mark.parametrize("product", [True, False])
def test_the_slope_at_no_noise_is_the_sum_of_sensitivities(product: bool) -> None:
    """Pr[flip] = epsilon T S + O(epsilon^2), whatever the inputs' law."""
    labels, joint, laws = random_case((3, 2, 3), 2)
    joint = product_law(laws) if product else joint
    slope = token_sensitivities(labels, joint, laws).sum()
    errors = [flip_probability(labels, joint, laws, epsilon) / epsilon - slope for epsilon in (1e-3, 1e-4)]
    assert 1e-5 < abs(errors[0]) < 0.01
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.01)


def test_on_product_laws_it_bounds_joint_noise() -> None:
    epsilon = np.array([0.01, 0.1, 0.3, 1.0])
    tightest = math.inf
    for seed in range(100):
        shape = ((2,) * 5, (3, 2, 4), (2, 2, 2))[seed % 3]
        labels, _, laws = random_case(shape, seed, classes=2 + seed % 2)
        sums = token_sensitivities(labels, product_law(laws), laws).sum()
        left = epsilon * sums - flip_probability(labels, product_law(laws), laws, epsilon)
        assert (left >= -1e-14).all()
        tightest = min(tightest, (left[0] / (0.01 * sums)) if sums else math.inf)
    assert tightest < 0.02
    # A dictator has equality; a bound that is a hundredth smaller does not hold.
    dictator, half = np.array([[0, 0], [1, 1]]), [np.array([0.5, 0.5])] * 2
    sums = token_sensitivities(dictator, product_law(half), half).sum()
    assert flip_probability(dictator, product_law(half), half, epsilon) == pytest.approx(epsilon * sums, abs=1e-15)


def test_off_product_laws_it_bounds_nothing() -> None:
    n, half = 15, [np.array([0.5, 0.5])] * 15
    labels, inputs = boolean.majority(n).astype(int).reshape((2,) * n), two_constant_inputs(n)
    assert inputs.sum() == 1
    assert token_sensitivities(labels, inputs, half).tolist() == [0.0] * n
    assert flip_probability(labels, inputs, half, [0.0, 1.0]) == pytest.approx([0.0, 0.5])
    # Exactly: more than half of the tokens change, each with probability epsilon / 2.
    changed = sum(math.comb(n, r) * 0.2**r * 0.8 ** (n - r) for r in range(8, n + 1))
    assert flip_probability(labels, inputs, half, 0.4) == pytest.approx(changed)


def test_what_is_outside_a_domain_is_named() -> None:
    labels, joint, laws = random_case((2, 2), 3)
    for call, named in (
        (lambda: token_sensitivities(labels * 1.0, joint, laws), r"labels is not allowed; allowed: whole numbers"),
        (lambda: token_sensitivities(labels, joint / 2, laws), r"inputs has the sum 0.5"),
        (lambda: token_sensitivities(labels, joint, laws[:1]), r"shapes labels \(2, 2\), .* redraw \(\(2,\),\)"),
        (lambda: flip_probability(labels, joint, laws, 1.5), r"epsilon = 1.5"),
        (lambda: product_law([[0.5, -0.5]]), r"tokens = -0.5"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
