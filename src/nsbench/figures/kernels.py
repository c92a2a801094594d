"""Kernels of wide networks on the Boolean cube: spectra by degree, and sensitivity and stability of random networks."""

from __future__ import annotations

import math

import numpy as np

import nsbench.figures.footers as footers
import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import KernelsExperiment
from nsbench.figures.annotations import Axes, Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

FLOOR = 1e-7
"""Lower end of the axes of masses; smaller ones are not told from rounding where there are many variables."""
PARITIES = (("even degree", "o"), ("odd degree", "^"))
"""Of degrees 0, 2, ... and of 1, 3, ...: what it is called, and its marker."""
PANELS = {
    **{
        labels.spectrum_of(network, kernel): f"{network},\n{labels.KERNELS[kernel]}"
        for network in labels.NETWORKS.values()
        for kernel in labels.KERNELS
    },
    **{
        labels.spectrum_of(name): f"{name},\n{labels.KERNELS['conjugate']}"
        for name in list(labels.LINEAR_ATTENTION)[:2]
    },
}
"""Readings with a spectrum that are shown, and their titles."""
_WHAT = (
    "Weights of variance 2 / fan-in, no biases. Linear attention has infinitely many heads, mean pooling and a vector "
    "of its own for each position and symbol, without which parities are no eigenfunctions. Masses below the axis, "
    "or 0, are left out."
)
_WHAT_SIGN = (
    "Weights of variance 2 / fan-in, no biases. Linear attention has infinitely many heads, no residual stream and "
    "mean pooling, with a vector of its own for each position and symbol, or x_i e_i."
)


@figure(
    "kernel_spectrum",
    tables=["curves"],
    experiment="kernels",
    title="Spectra of wide networks' kernels on Boolean inputs",
    caption="Parities of k variables are eigenfunctions, with one eigenvalue μ_k for all C(n, k) of them. Shown is the "
    "share of the kernel's mass in each degree, C(n, k) μ_k: the expected Fourier weight of a random network. Within "
    "even and within odd degrees μ_k falls, as Yang and Salman (2019) prove; across them it need not: each panel says "
    "how often. The order bounds no degree: deep erf networks and deep attention have most of their mass at high "
    "degrees. Formulas of infinite width; nothing is simulated.",
)
def draw_spectrum(curves: Table, settings: KernelsExperiment, scale: str) -> Figure:
    """A panel for each kernel; a colour for each number of layers, a line through the even and one through the odd
    degrees. Above it, how many degrees k have mu_k < mu_(k + 1), with the fewest and with the most layers."""
    from matplotlib.ticker import MaxNLocator

    names = panels.ordered("reading", [curves[curves["reading"].isin(list(PANELS))]], PANELS)
    known = [labels.n_layers(count) for count in range(1, settings.depth + 1)]
    looks = panels.looks(panels.ordered("series", [curves[curves["reading"].isin(names)]], known))
    figure, columns = style.columns(len(names), 1, 3.4, 2.9, below=1.5)
    for name, (axes,) in zip(names, columns, strict=True):
        here, rises = curves[curves["reading"] == name].sort_values("x"), {}
        for series, look in looks.items():
            rows = here[here["series"] == series]
            degrees, mass = rows["x"].to_numpy(int), rows["value"].to_numpy(float)
            _by_parity(axes, degrees, mass, look.colour, series)
            counts = np.array([float(math.comb(settings.n_variables, degree)) for degree in degrees])
            rises[series] = int((np.diff(mass / counts) * counts[1:] > FLOOR).sum())
        style.log_axis(axes, FLOOR, 2.0)
        axes.set_xlim(-0.04 * settings.n_variables, 1.04 * settings.n_variables)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("degree k")
        axes.tick_params(labelleft=style.is_first(axes))
        style.header(axes, PANELS[name], [], [style.sign(_rises_text(rises), ls="")], handlelength=0, handletextpad=0)
        if style.is_first(axes):
            axes.set_ylabel("share of the mass, C(n, k) μ_k")
    key = [style.sign(series, color=look.colour, lw=1.7) for series, look in looks.items()]
    key += [style.sign(text, marker=marker, ms=4) for text, marker in PARITIES]
    style.footer(figure, [_WHAT, footers.sizes_text([f"n = {settings.n_variables} variables"], scale)], key)
    return figure


def _by_parity(axes: Axes, degrees: np.ndarray, mass: np.ndarray, colour: str, label: str) -> None:
    """A line through the masses at even degrees and one through those at odd ones, where they are above the floor."""
    for parity, (_, marker) in enumerate(PARITIES):
        shown = (degrees % 2 == parity) & (mass > FLOOR)
        if shown.any():
            look = {"marker": marker, "ms": 3.2, "lw": 1.3, "color": colour, "label": label}
            axes.plot(degrees[shown], mass[shown], gid="mass", **look)


def _rises_text(rises: dict[str, int]) -> str:
    """How often an eigenvalue is below the next one, for the fewest and for the most layers."""
    ends = list(dict.fromkeys([*list(rises)[:1], *list(rises)[-1:]]))
    return "μ_k < μ_(k+1): " + ", ".join(f"{rises[name]} times ({name})" for name in ends)


@figure(
    "kernel_sensitivity",
    tables=panels.TABLES,
    experiment="kernels",
    title="Sensitivity and stability of wide random networks, by depth",
    caption="Of the sign of a random network: how many of the n variables change it alone, on average, and its "
    "stability when variables are redrawn. ReLU networks grow simpler with depth, erf networks less simple. Linear "
    "attention alone has no stability left after a few layers; with ReLU layers in between it is the simplest where it "
    "is shallow, and less simple than a ReLU network where it is deep. So architectures differ before any training."
    + panels.READING,
)
def draw_sensitivity(curves: Table, points: Table, settings: KernelsExperiment, scale: str) -> Figure:
    """Left average sensitivity, right noise stability, by hidden layers; a colour for each kind of network."""
    names = list(labels.SIGN_READINGS.values())
    curves, points = (table[table["reading"].isin(names)] for table in (curves, points))
    known = [*labels.NETWORKS.values(), *labels.LINEAR_ATTENTION]
    looks = panels.looks(panels.ordered("series", [curves, points], known), panels.CATEGORY_COLOURS)
    figure, columns = style.columns(len(names), 1, 4.6, 3.7, below=1.6)
    row = [axes for (axes,) in columns]
    found = [panels.draw_panel(axes, curves, points, name, looks) for axes, name in zip(row, names, strict=True)]
    for axes in row:
        panels.layer_axis(axes, settings.depth)
        axes.set(xlabel="hidden layers", xlim=(0.8, settings.depth + 0.2))
    row[0].set_ylim(0, settings.n_variables / 2 * 1.04)
    row[0].set_ylabel(f"of n = {settings.n_variables} variables")
    row[1].set_ylim(-0.03, 1.0)
    row[1].set_ylabel(f"with {100 * settings.kept:g}% of the variables kept")
    panels.heads(row, names, found)
    sizes = [f"n = {settings.n_variables} variables", f"width {settings.width}", panels.replicates(settings)]
    panels.foot(figure, _WHAT_SIGN, sizes, scale, panels.series_signs(looks, row))
    return figure
