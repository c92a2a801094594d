"""What inputs say of Table 1's proved bounds: rho by halves, standard errors, confidence limits, and which is smaller.

A bound is a ratio of means over N inputs: E[half_square] / (1 - c^k) or I / k, over E[f^2] or the variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsbench.schemas.pretrained import CASE
from nsbench.theory.concentration import tail_mass_bound_from_influence, tail_mass_bound_from_stability

CONFIDENCE, PAIRED_CONFIDENCE = 0.95, 0.99
"""Of a bound's upper limit, and of the interval that says which of two bounds is smaller. The latter is wider: a model
has about six functions, and values of noise are so skewed that few inputs find stability's bound too low too often."""
LEAST_INPUTS = 8
"""Inputs from which on there is an interval."""
N_RESAMPLES, SEED = 10_000, 7
BLOCK = 100
"""Resamples at a time, for the memory of many inputs."""

Array = NDArray[np.float64]
_CASE_NAMES = [column.name for column in CASE]


def bound_limits(per_input: pd.DataFrame, degree: int) -> pd.DataFrame:
    """The proved bounds of Table 1 with their limits, from a table of PER_INPUT.

    Columns: those of CASE, bound_from, divided_by (norm2 or variance), and value ... over_influence_high of TAIL. A
    bound from stability is that at the rho that the other half of the inputs chooses (`level_of_other_half`), so its
    limits are of the mean of two bounds, which is one too. NaN where a divisor is 0; limits are NaN below LEAST_INPUTS.
    """
    names = ["value", "standard_error", "upper", "over_influence", "over_influence_low", "over_influence_high"]
    rows = []
    for case, table in per_input.groupby(_CASE_NAMES, sort=False):
        for found in _of_case(table, degree):
            rows.append([*case, *found])
    return pd.DataFrame(rows, columns=[*_CASE_NAMES, "bound_from", "divided_by", *names])


def _of_case(table: pd.DataFrame, degree: int) -> Iterator[list[str | float]]:
    """Rows of one case: bound_from, divided_by and the numbers."""
    values = {
        name: rows.pivot(index="correlation", columns="input", values="value")
        for name, rows in table.fillna({"correlation": 0.0}).groupby("quantity")
    }
    lost = values["half_square"]
    factors_P = tail_mass_bound_from_stability(0.0, 1.0, lost.index.to_numpy(), degree)
    bounds_PN = factors_P[:, None] * lost.to_numpy()
    chosen_N = level_of_other_half(bounds_PN)
    stability_N = bounds_PN[chosen_N, np.arange(len(chosen_N))]
    # Of E[f^2] no more than all is lost.
    most = {"influence": np.inf, "stability": factors_P[chosen_N].mean()}
    influence_N = tail_mass_bound_from_influence(values["influence"].to_numpy()[0], 1.0, degree)
    readout_N = values["readout"].to_numpy()[0]
    bounds = {"influence": influence_N, "stability": stability_N}
    squares = {"norm2": readout_N**2, "variance": (readout_N - readout_N.mean()) ** 2}
    ends = [(1 - PAIRED_CONFIDENCE) / 2, (1 + PAIRED_CONFIDENCE) / 2]
    over = [_ratio(stability_N, influence_N), *ratio_limits(stability_N, influence_N, ends)[1]]
    for bound_from, bound_N in bounds.items():
        for divided_by, square_N in squares.items():
            value = min(_ratio(bound_N, square_N), most[bound_from])
            error, (upper,) = ratio_limits(bound_N, square_N, [CONFIDENCE])
            paired = over if bound_from == "stability" else [np.nan] * 3
            yield [bound_from, divided_by, value, value * error, upper, *paired]


def level_of_other_half(bounds_PN: Array) -> NDArray[np.int64]:
    """For each of N inputs the one of P noise levels at which the mean bound over the other half of them is least.

    Halves are the inputs of even and of odd number. Taking the least of P noisy means would be too low, as noise
    chooses too.
    """
    if bounds_PN.shape[1] == 1:
        return bounds_PN.argmin(0)
    even_N = np.arange(bounds_PN.shape[1]) % 2 == 0
    of_even, of_odd = (int(bounds_PN[:, half_N].mean(1).argmin()) for half_N in (even_N, ~even_N))
    return np.where(even_N, of_odd, of_even)


def ratio_limits(over_N: Array, under_N: Array, levels: Sequence[float]) -> tuple[float, list[float]]:
    """The standard error of log(E[over] / E[under]) and the confidence limits of the ratio at these levels.

    By the bootstrap-t (Efron, Tibshirani 1993, section 12.5) of the logarithm, pairs resampled together: it keeps its
    level at fewer inputs than percentile or BCa intervals, as values of noise are skewed. NaN below LEAST_INPUTS.
    """
    n = len(over_N)
    products_NK = np.stack([over_N, under_N, over_N**2, over_N * under_N, under_N**2], 1)
    value, error = _log_ratio(products_NK.mean(0), n)
    if n < LEAST_INPUTS:
        return float(error), [np.nan for _ in levels]
    generator = np.random.default_rng(SEED)
    counts = (generator.multinomial(n, np.full(n, 1 / n), size=BLOCK) for _ in range(N_RESAMPLES // BLOCK))
    values_B, errors_B = np.hstack([_log_ratio(counts_BN @ products_NK / n, n) for counts_BN in counts])
    with np.errstate(all="ignore"):
        t_B = np.where(errors_B > 0, (values_B - value) / errors_B, values_B - value)
        # A limit of the ratio at a level comes from the other tail of t.
        limits = np.exp(value - error * np.quantile(t_B, [1 - level for level in levels]))
    return float(error), limits.tolist()


def _log_ratio(means_K: Array, n: int) -> tuple[Array, Array]:
    """log(E[over] / E[under]) and its standard error by the delta method, from means of the products (..., 5)."""
    over, under, over_over, over_under, under_under = np.moveaxis(means_K, -1, 0)
    with np.errstate(all="ignore"):
        spread = over_over / over**2 - 2 * over_under / (over * under) + under_under / under**2
        return np.log(over / under), np.sqrt(np.maximum(spread, 0.0) / (n - 1))


def _ratio(over_N: Array, under_N: Array) -> float:
    return float(over_N.mean() / under_N.mean()) if under_N.any() else np.nan
