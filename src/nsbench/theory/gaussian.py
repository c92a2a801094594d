"""Hermite analysis of functions of one standard Gaussian variable, N(0, 1).

The paper's Appendix C mixes N(0, 1) with the Gaussian measure of variance 1/2 and its physicists' polynomials;
here all is under N(0, 1), whose orthonormal polynomials are He_k(x) / sqrt(k!) (docs/errata.md, entries 2 to 7).

A function f maps a float array of one axis to an array of its shape, element by element (or to one number: a
constant), and is finite everywhere. It may have kinks and jumps, whose places are found, but for those fainter than
1e-9 of f and for what is undone within 0.025. Refused with a ValueError naming f are poles; functions of more than
512 smooth pieces (by kinks, jumps, fast waves, or rounding noise above 1e-10 of f); and those whose
f(x)^2 exp(-x^2 / 2) is not negligible by |x| = 36: exp(12 x), exp(x^2 / 4.5) and the orthonormal He_220 are allowed,
exp(13 x), exp(x^2 / 4.2) and He_230 are not. Time grows with the square of the pieces: about 10 ms for each rho with
a few, some seconds with 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

from nsbench.theory.domain import CORRELATION, COUNT_FROM_0, checked

Array = NDArray[np.float64]
Function = Callable[[Array], ArrayLike]

_REACHES = (16.0, 20.0, 24.0, 28.0, 32.0, 36.0)
"""Standard deviations that may be integrated over: the first will do for all f but those that grow fast."""
_PANEL = 2.0
"""Width of panels on which the Gaussian density itself is smooth enough for the rule below."""
_NEGLIGIBLE = 1e-13
_NODES_Q, _WEIGHTS_Q = leggauss(32)
_SAMPLES_S = chebyshev.chebpts2(33) * (1.0 - 1e-11)
"""Where a panel is sampled, in [-1, 1], its ends included: a jump beside an end must be seen."""
_TO_SERIES_SS = np.linalg.inv(chebyshev.chebvander(_SAMPLES_S, 32))
_UNRESOLVED = 1e-10
"""Size, relative to f, of the last Chebyshev coefficients on a panel above which f is not smooth there."""
_FIRST_WIDTH = 0.5
_LAST_WIDTH = 1e-14
_MOST_PIECES = 512
_AT_ONCE = 200_000
"""Numbers in the largest arrays: few enough for the processor's cache."""


@checked(degree=COUNT_FROM_0)
def hermite_coefficients(f: Function, degree: int) -> Array:
    """E[f(X) He_k(X) / sqrt(k!)] for k = 0 to `degree`, shape (degree + 1,); X ~ N(0, 1), He_k probabilists'.

    The sum of their squares over all k is E[f(X)^2], and of rho^k times them the noise stability.

    f: as in this module's first lines. degree: whole, at least 0.
    Raises ValueError naming f or degree. Source: Equation 3, Appendix C.1 (docs/errata.md, entries 2 and 7).
    """
    reach = _reach(f)
    # He_k has about sqrt(k) waves in 2 pi: panels narrow with it.
    n_panels = math.ceil(2.0 * reach / min(_PANEL, 16.0 / math.sqrt(degree + 1.0)))
    x_N, mass_N = _rule(np.union1d(_breaks(f, reach)[0], np.linspace(-reach, reach, n_panels + 1)))
    weighted_N = mass_N * _values(f, x_N)
    found = np.empty(degree + 1)
    # He_k / sqrt(k!) by its recurrence: He_k and k! apart overflow from k of about 270 on.
    before_N, this_N = np.zeros_like(x_N), np.ones_like(x_N)
    for k in range(degree + 1):
        found[k] = weighted_N @ this_N
        before_N, this_N = this_N, (x_N * this_N - math.sqrt(k) * before_N) / math.sqrt(k + 1.0)
    return found


@checked(rho=CORRELATION)
def gaussian_noise_stability(f: Function, rho: ArrayLike) -> Array | np.float64:
    """E[f(X) f(Y)], X and Y ~ N(0, 1) of correlation rho.

    f: as in this module's first lines. rho: in [-1, 1], any shape; the result has its shape. The error is that of
    rounding, about 1e-13 of E[f(X)^2]. Raises ValueError naming f or rho. Source: Definition 4.1, Equation 2.
    """
    reach = _reach(f)
    breaks_B, rough_R = _breaks(f, math.sqrt(2.0) * reach)
    return np.array([_stability(f, r, reach, breaks_B, rough_R) for r in rho.ravel().tolist()]).reshape(rho.shape)[()]


def _stability(f: Function, rho: float, reach: float, breaks_B: Array, rough_R: Array) -> float:
    """E[f(X) f(Y)], by panels in x on which both f(x) and E[f(Y) | X = x] are smooth."""
    spread = _spread(rho)
    edges = [_grid(reach), breaks_B]
    if abs(rho) > reach**-2:
        edges.append(breaks_B / rho)
    if abs(rho) > reach**-2 and spread > 0.0:
        # Where Y's mean passes a kink or jump of f, E[f(Y) | X = x] turns within some `spread` of it.
        near_R = np.unique(np.round(rough_R / spread)) * spread
        edges.append((near_R[:, None] + spread * np.linspace(-8.0, 8.0, 9)).ravel() / rho)
    x_N, mass_N = _rule(np.unique(np.clip(np.concatenate(edges), -reach, reach)))
    other_N = _values(f, rho * x_N) if spread == 0.0 else _smoothed(f, rho, reach, breaks_B, x_N)
    return float((mass_N * _values(f, x_N)) @ other_N)


def _smoothed(f: Function, rho: float, reach: float, breaks_B: Array, x_N: Array) -> Array:
    """E[f(rho x + sqrt(1 - rho^2) Z)] for each x, by panels in z that end at f's breaks."""
    spread, grid_E = _spread(rho), _grid(reach)
    found_N = np.empty_like(x_N)
    rows = max(1, _AT_ONCE // (len(_NODES_Q) * (len(grid_E) + len(breaks_B))))
    for start in range(0, len(x_N), rows):
        x_M1 = x_N[start : start + rows, None]
        at_breaks_MB = np.clip((breaks_B - rho * x_M1) / spread, -reach, reach)
        grid_ME = np.broadcast_to(grid_E, (len(x_M1), len(grid_E)))
        z_MK, mass_MK = _rule(np.sort(np.concatenate([grid_ME, at_breaks_MB], axis=1), axis=1))
        found_N[start : start + rows] = (mass_MK * _values(f, rho * x_M1 + spread * z_MK)).sum(1)
    return found_N


def _spread(rho: float) -> float:
    """sqrt(1 - rho^2), without the cancellation at rho near 1."""
    return math.sqrt((1.0 - rho) * (1.0 + rho))


def _grid(reach: float) -> Array:
    return np.linspace(-reach, reach, round(2.0 * reach / _PANEL) + 1)


def _rule(edges: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes on the panels between sorted edges (..., E), and their weights under N(0, 1)."""
    half = np.diff(edges)[..., None] / 2.0
    nodes = (edges[..., :-1, None] + half) + half * _NODES_Q
    weights = half * _WEIGHTS_Q * (np.exp(-(nodes**2) / 2.0) / math.sqrt(2.0 * math.pi))
    shape = (*edges.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


def _reach(f: Function) -> float:
    """The |x| beyond which f(x)^2 exp(-x^2 / 2) is negligible."""
    most = _REACHES[-1]
    edges = np.linspace(-most, most, round(2.0 * most) + 1)
    x_PS = _points(edges[:-1], edges[1:])
    values_PS = _values(f, x_PS)
    with np.errstate(divide="ignore"):
        sizes_P = (np.log(np.abs(values_PS)) - x_PS**2 / 4.0).max(1)
    counts_P = sizes_P > sizes_P.max() + math.log(_NEGLIGIBLE)
    last, before = sizes_P[[0, -1]].max(), sizes_P[[1, -2]].max()
    if last == -math.inf or (last < before and not counts_P[[0, -1]].any()):
        needed = np.abs(x_PS[counts_P]).max(initial=0.0)
        return next(reach for reach in _REACHES if reach > needed)
    raise ValueError(f"f grows too fast: it still matters {most:g} standard deviations from 0")


def _breaks(f: Function, reach: float) -> tuple[Array, Array]:
    """Ends of the pieces on which f is smooth, and those of them where f itself is not: shapes (B,) and (R,).

    They cover -reach to reach. Panels on which f is no short Chebyshev series are halved until a kink or jump is known
    to a few units of rounding; then neighbours that are one series together are joined. (Adaptive rules without nodes
    at the ends of a panel would not do: they overlook a jump beside an end, and an odd one in the middle.)
    """
    first = np.linspace(-reach, reach, math.ceil(2.0 * reach / _FIRST_WIDTH) + 1)
    left_P, right_P = first[:-1], first[1:]
    ends = f"[{first[0]:g}, {first[-1]:g}]"
    too_rough = f"f has more than {_MOST_PIECES} smooth pieces in {ends}: too many kinks, jumps or waves, or noise"
    lefts, rights = [], []
    n_done, scale = 0, 0.0
    while len(left_P):
        points_PS = _points(left_P, right_P)
        values_PS, leeway_PS = _values(f, points_PS), _leeway(points_PS)
        sizes_P = (np.abs(values_PS) / leeway_PS).max(1)
        # f's size on the first panels, but no smaller than floats are precise.
        scale = scale or max(float(sizes_P.max()), np.finfo(np.float64).tiny)
        smooth_P = _smooth(values_PS, scale, leeway_PS)
        lefts.append(left_P[smooth_P])
        rights.append(right_P[smooth_P])
        middle_P = (left_P + right_P) / 2.0
        tiny_P = right_P - left_P < _LAST_WIDTH * np.maximum(1.0, np.abs(middle_P))
        # What a jump leaves unresolved is negligible in the square of f; of a pole it is most.
        for pole in middle_P[~smooth_P & tiny_P & (sizes_P * math.sqrt(_LAST_WIDTH) > 1e-5 * scale)]:
            raise ValueError(f"f has a pole at {pole:.6g}; allowed: functions finite everywhere")
        split_P = ~smooth_P & ~tiny_P
        n_done += int((~split_P).sum())
        if n_done + 2 * int(split_P.sum()) > len(first) + 64 * _MOST_PIECES:
            raise ValueError(too_rough)
        left_P, middle_P, right_P = left_P[split_P], middle_P[split_P], right_P[split_P]
        left_P, right_P = np.concatenate([left_P, middle_P]), np.concatenate([middle_P, right_P])

    def smooth(left_P: Array, right_P: Array) -> NDArray[np.bool_]:
        points_PS = _points(left_P, right_P)
        return _smooth(_values(f, points_PS), scale, _leeway(points_PS))

    edges_B = _joined(smooth, np.unique(np.concatenate([first[[0, -1]], *lefts, *rights])))
    if len(edges_B) > _MOST_PIECES + 1:
        raise ValueError(too_rough)
    # A kink may be left inside a narrow piece: an edge is judged by what is around it at the wider neighbour's scale.
    inner_B, left_B, right_B = edges_B[1:-1], np.diff(edges_B)[:-1], np.diff(edges_B)[1:]
    around_B = np.maximum(np.minimum(left_B, right_B) / 4.0, np.minimum(np.maximum(left_B, right_B) / 4.0, 0.01))
    return edges_B, inner_B[~smooth(inner_B - around_B, inner_B + around_B)]


def _leeway(points: Array) -> Array:
    """By how much f may be larger at points."""
    return np.exp(points**2 / 4.0)


def _joined(smooth: Callable[[Array, Array], NDArray[np.bool_]], edges_B: Array) -> Array:
    """The edges that are left when neighbouring pieces that are one short series together are joined."""
    n_unchanged, first = 0, 0
    while n_unchanged < 2:
        left_J, middle_J, right_J = edges_B[first:-2:2], edges_B[first + 1 : -1 : 2], edges_B[first + 2 :: 2]
        joins_J = smooth(left_J, right_J)
        edges_B = np.setdiff1d(edges_B, middle_J[joins_J])
        n_unchanged, first = (0 if joins_J.any() else n_unchanged + 1), 1 - first
    return edges_B


def _smooth(values_PS: Array, scale: float, leeway_PS: Array) -> NDArray[np.bool_]:
    """Whether the samples of each panel are those of a Chebyshev series of degree 26, where it matters most too."""
    rest_PS = (values_PS @ _TO_SERIES_SS.T)[:, 27:]
    with np.errstate(over="ignore"):
        size_P = np.minimum(np.abs(values_PS).max(1), scale * leeway_PS.min(1))
    return np.abs(rest_PS).max(1) <= _UNRESOLVED * np.maximum(scale, size_P)


def _points(left_P: Array, right_P: Array) -> Array:
    """Samples (P, 33) of each panel, its ends among them."""
    return ((left_P + right_P)[:, None] + (right_P - left_P)[:, None] * _SAMPLES_S) / 2.0


def _values(f: Function, points: Array) -> Array:
    """f at points of any shape, finite, in an array of its own."""
    if not points.size:
        return np.empty(points.shape)
    with np.errstate(all="ignore"):  # what is not finite is refused below
        try:
            values = np.asarray(f(points.ravel()))
            if np.iscomplexobj(values):
                raise TypeError("complex numbers are not allowed")
            values = values.astype(np.float64)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"f raises {type(error).__name__} for an array of floats: {error}") from error
    if values.shape not in ((), (points.size,)):
        raise ValueError(f"f maps shape {(points.size,)} to {values.shape}; allowed: functions element by element")
    values = np.array(np.broadcast_to(values, points.size))
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"f is {values[bad][0]} at {points.ravel()[bad][0]:g}; allowed: functions finite everywhere")
    return values.reshape(points.shape)
