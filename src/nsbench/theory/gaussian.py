"""Hermite analysis of functions of one standard Gaussian variable, N(0, 1).

The paper's Appendix C mixes N(0, 1) with the Gaussian measure of variance 1/2 and its physicists' polynomials;
here all is under N(0, 1), whose orthonormal polynomials are He_k(x) / sqrt(k!) (docs/errata.md, entries 2 to 7).

A function f maps a float array of one axis to an array of its shape, element by element (or to one number: a
constant), and is finite everywhere. It may have kinks and jumps, whose places are found. What it does within less
than 0.025 and undoes there may go unseen, and f(x)^2 exp(-x^2 / 2) must be negligible beyond |x| = 16. A function of
more than 512 smooth pieces (by kinks, jumps, fast waves, or rounding noise above 1e-10 of f) raises ValueError naming
f. Time grows with the square of the pieces: about 10 ms for each rho with a few, 1 s with 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import real, whole

Array = NDArray[np.float64]
Function = Callable[[Array], ArrayLike]

_REACH = 16.0
"""Standard deviations that are integrated over: the Gaussian density outside is below 1e-56."""
_GRID_E = np.linspace(-_REACH, _REACH, 17)
"""Ends of panels on which the Gaussian density itself is smooth enough for the rule below."""
_NODES_Q, _WEIGHTS_Q = leggauss(32)
_SAMPLES_S = chebyshev.chebpts2(33) * (1.0 - 1e-11)
"""Where a panel is sampled, in [-1, 1]: its ends too, else a jump beside one would go unseen."""
_TO_SERIES_SS = np.linalg.inv(chebyshev.chebvander(_SAMPLES_S, 32))
_UNRESOLVED = 1e-10
"""Size, relative to f, of the last Chebyshev coefficients on a panel above which f is not smooth there."""
_FIRST_WIDTH = 0.5
_MOST_PIECES = 512
_AT_ONCE = 200_000
"""Numbers that the largest arrays hold at once: few enough for the processor's cache."""


def hermite_coefficients(f: Function, degree: int) -> Array:
    """E[f(X) He_k(X) / sqrt(k!)] for k = 0 to `degree`, shape (degree + 1,); X ~ N(0, 1), He_k probabilists'.

    The sum of their squares over all k is E[f(X)^2], and of rho^k times them the noise stability.

    f: as in this module's first lines. degree: whole, at least 0.
    Raises ValueError naming f or degree. Source: Equation 3, Appendix C.1 (docs/errata.md, entries 2 and 7).
    """
    degree = whole("degree", degree, 0)
    # He_k has about sqrt(k) waves in 2 pi: panels narrow with it.
    n_panels = math.ceil(2.0 * _REACH / min(2.0, 16.0 / math.sqrt(degree + 1.0)))
    x_N, mass_N = _rule(_union(_breaks(f, 0.0, 0.0, _REACH)[0], np.linspace(-_REACH, _REACH, n_panels + 1)))
    weighted_N = mass_N * _values(f, x_N)
    found = np.empty(degree + 1)
    # He_k / sqrt(k!) by its recurrence: He_k and k! apart overflow from k of about 270 on.
    before_N, this_N = np.zeros_like(x_N), np.ones_like(x_N)
    for k in range(degree + 1):
        found[k] = weighted_N @ this_N
        before_N, this_N = this_N, (x_N * this_N - math.sqrt(k) * before_N) / math.sqrt(k + 1.0)
    return found


def gaussian_noise_stability(f: Function, rho: ArrayLike) -> Array | np.float64:
    """E[f(X) f(Y)], X and Y ~ N(0, 1) of correlation rho.

    f: as in this module's first lines. rho: in [-1, 1], any shape; the result has its shape. The error is that of
    rounding, about 1e-13 of E[f(X)^2]. Raises ValueError naming f or rho. Source: Definition 4.1, Equation 2.
    """
    rhos = real("rho", rho, -1.0, 1.0)
    breaks_B, rough_R = _breaks(f, 0.0, 0.0, math.sqrt(2.0) * _REACH)
    return np.array([_stability(f, r, breaks_B, rough_R) for r in rhos.ravel().tolist()]).reshape(rhos.shape)[()]


def ou_operator(f: Function, rho: float) -> Callable[[ArrayLike], Array | np.float64]:
    """The function T_rho f of the Ornstein-Uhlenbeck operator: g(x) = E[f(rho x + sqrt(1 - rho^2) Z)], Z ~ N(0, 1).

    T_1 f = f, T_0 f = E[f(Z)], T_r T_s = T_(r s), T_rho He_k = rho^k He_k, and E[f(X) g(X)] is the noise stability.

    f: as in this module's first lines, finite wherever rho x + 16 sqrt(1 - rho^2) falls. rho: one number in [-1, 1].
    g takes x in [-1e9, 1e9], of any shape, and returns that shape. Raises ValueError naming rho, f or x.
    Source: Mehler's formula, Appendix C.3, with Z ~ N(0, 1) (docs/errata.md, entry 3).
    """
    if real("rho", rho, -1.0, 1.0).ndim:
        raise ValueError(f"rho = {rho!r} is not allowed; allowed: one number")
    correlation = float(rho)
    spread, cell = _spread(correlation), 8.0
    breaks_of: dict[float, Array] = {}

    def smoothed(x: ArrayLike) -> Array | np.float64:
        xs = real("x", x, -1e9, 1e9)
        x_N = xs.ravel()
        if spread == 0.0:
            return _values(f, correlation * x_N).reshape(xs.shape)[()]
        # f's pieces are sought where they matter only, cell by cell, so that a value depends on its own x alone.
        cells_N = np.floor(correlation * x_N / cell)
        found_N = np.empty_like(x_N)
        for c in np.unique(cells_N).tolist():
            if c not in breaks_of:
                breaks_of[c] = _breaks(f, c * cell, (c + 1.0) * cell, _REACH * spread)[0]
            found_N[cells_N == c] = _smoothed(f, correlation, breaks_of[c], x_N[cells_N == c])
        return found_N.reshape(xs.shape)[()]

    return smoothed


def _stability(f: Function, rho: float, breaks_B: Array, rough_R: Array) -> float:
    """E[f(X) f(Y)], by panels in x on which both f(x) and E[f(Y) | X = x] are smooth."""
    spread = _spread(rho)
    edges = [_GRID_E, breaks_B]
    if abs(rho) > _REACH**-2:
        edges.append(breaks_B / rho)
    if abs(rho) > _REACH**-2 and spread > 0.0:
        # Where Y's mean passes a kink or jump of f, E[f(Y) | X = x] turns within some `spread` of it.
        near_R = np.unique(np.round(rough_R / spread)) * spread
        edges.append((near_R[:, None] + spread * np.linspace(-8.0, 8.0, 9)).ravel() / rho)
    x_N, mass_N = _rule(_union(*edges))
    other_N = _values(f, rho * x_N) if spread == 0.0 else _smoothed(f, rho, breaks_B, x_N)
    return float(mass_N @ (_values(f, x_N) * other_N))


def _smoothed(f: Function, rho: float, breaks_B: Array, x_N: Array) -> Array:
    """E[f(rho x + sqrt(1 - rho^2) Z)] for each x, by panels in z that end at f's breaks."""
    spread = _spread(rho)
    found_N = np.empty_like(x_N)
    rows = max(1, _AT_ONCE // (len(_NODES_Q) * (len(_GRID_E) + len(breaks_B))))
    for start in range(0, len(x_N), rows):
        x_M1 = x_N[start : start + rows, None]
        at_breaks_MB = np.clip((breaks_B - rho * x_M1) / spread, -_REACH, _REACH)
        grid_ME = np.broadcast_to(_GRID_E, (len(x_M1), len(_GRID_E)))
        z_MK, mass_MK = _rule(np.sort(np.concatenate([grid_ME, at_breaks_MB], axis=1), axis=1))
        found_N[start : start + rows] = (mass_MK * _values(f, rho * x_M1 + spread * z_MK)).sum(1)
    return found_N


def _spread(rho: float) -> float:
    """sqrt(1 - rho^2), without the cancellation at rho near 1."""
    return math.sqrt((1.0 - rho) * (1.0 + rho))


def _rule(edges: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes on the panels between sorted edges (..., E), and their weights under N(0, 1)."""
    half = np.diff(edges)[..., None] / 2.0
    nodes = (edges[..., :-1, None] + half) + half * _NODES_Q
    weights = half * _WEIGHTS_Q * (np.exp(-(nodes**2) / 2.0) / math.sqrt(2.0 * math.pi))
    shape = (*edges.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


def _union(*edges: Array) -> Array:
    """All edges within the reach, sorted, each once."""
    return np.unique(np.clip(np.concatenate(edges), -_REACH, _REACH))


def _breaks(f: Function, low: float, high: float, reach: float) -> tuple[Array, Array]:
    """Ends of the pieces on which f is smooth, and those of them where f itself is not: shapes (B,) and (R,).

    They cover low - reach to high + reach, for Gaussians whose means are between low and high.
    Panels on which f is no short Chebyshev series are halved until a kink or jump is known to a few units of
    rounding; then neighbours that are one series together are joined. (Adaptive rules without nodes at the ends of
    a panel would not do: they overlook a jump beside an end, and an odd one in the middle.)
    """
    first = np.linspace(low - reach, high + reach, math.ceil((high - low + 2.0 * reach) / _FIRST_WIDTH) + 1)
    left_P, right_P = first[:-1], first[1:]
    points_PS = _points(left_P, right_P)
    values_PS = _values(f, points_PS)
    beyond_PS = points_PS - np.clip(points_PS, low, high)
    scale = float((np.abs(values_PS) * np.exp(-(beyond_PS**2) / 4.0)).max())
    lefts, rights = [], []
    n_done = 0
    while len(left_P):
        smooth_P = _smooth(values_PS, scale)
        lefts.append(left_P[smooth_P])
        rights.append(right_P[smooth_P])
        middle_P = (left_P + right_P) / 2.0
        tiny_P = right_P - left_P < 1e-14 * np.maximum(1.0, np.abs(middle_P))
        split_P = ~smooth_P & ~tiny_P
        n_done += int((~split_P).sum())
        if n_done + 2 * int(split_P.sum()) > len(first) + 64 * _MOST_PIECES:
            raise ValueError(_too_rough(first))
        left_P, middle_P, right_P = left_P[split_P], middle_P[split_P], right_P[split_P]
        left_P, right_P = np.concatenate([left_P, middle_P]), np.concatenate([middle_P, right_P])
        values_PS = _values(f, _points(left_P, right_P))
    edges_B = _joined(f, np.unique(np.concatenate([first[[0, -1]], *lefts, *rights])), scale)
    if len(edges_B) > _MOST_PIECES + 1:
        raise ValueError(_too_rough(first))
    # A kink may be left inside a narrow piece: an edge is judged by what is around it at the wider neighbour's scale.
    inner_B, left_B, right_B = edges_B[1:-1], np.diff(edges_B)[:-1], np.diff(edges_B)[1:]
    around_B = np.maximum(np.minimum(left_B, right_B) / 4.0, np.minimum(np.maximum(left_B, right_B) / 4.0, 0.01))
    return edges_B, inner_B[~_smooth(_values(f, _points(inner_B - around_B, inner_B + around_B)), scale)]


def _joined(f: Function, edges_B: Array, scale: float) -> Array:
    """The edges that are left when neighbouring pieces that are one short series together are joined."""
    n_unchanged, first = 0, 0
    while n_unchanged < 2:
        left_J, middle_J, right_J = edges_B[first:-2:2], edges_B[first + 1 : -1 : 2], edges_B[first + 2 :: 2]
        joins_J = _smooth(_values(f, _points(left_J, right_J)), scale)
        edges_B = np.setdiff1d(edges_B, middle_J[joins_J])
        n_unchanged, first = (0 if joins_J.any() else n_unchanged + 1), 1 - first
    return edges_B


def _smooth(values_PS: Array, scale: float) -> NDArray[np.bool_]:
    """Whether the samples of each panel are those of a Chebyshev series of degree 26."""
    rest_PS = (values_PS @ _TO_SERIES_SS.T)[:, 27:]
    return np.abs(rest_PS).max(1) <= _UNRESOLVED * np.maximum(scale, np.abs(values_PS).max(1))


def _points(left_P: Array, right_P: Array) -> Array:
    """Samples (P, 33) of each panel, its ends among them."""
    return ((left_P + right_P)[:, None] + (right_P - left_P)[:, None] * _SAMPLES_S) / 2.0


def _values(f: Function, points: Array) -> Array:
    """f at points of any shape, finite, in an array of its own."""
    if not points.size:
        return np.empty(points.shape)
    values = np.asarray(f(points.ravel()), dtype=np.float64)
    if values.shape not in ((), (points.size,)):
        raise ValueError(f"f maps shape {(points.size,)} to {values.shape}; allowed: functions element by element")
    values = np.array(np.broadcast_to(values, points.size))
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"f is {values[bad][0]} at {points.ravel()[bad][0]:g}; allowed: functions finite everywhere")
    return values.reshape(points.shape)


def _too_rough(points: Array) -> str:
    ends = f"[{points[0]:g}, {points[-1]:g}]"
    return f"f has more than {_MOST_PIECES} smooth pieces in {ends}: too many kinks, jumps or waves, or noise"
