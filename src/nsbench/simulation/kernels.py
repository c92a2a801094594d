"""Sensitivity and stability of the signs of wide random networks on {-1, 1}^n, by hidden layers passed.

Inputs are uniform. Sensitivity: n times how often a sign changes with one variable, a uniform one. Stability: 1 less
twice how often it changes when each variable is redrawn unless it is kept. Weights are N(0, 2 / fan-in), without
biases; both kinds of network share them, and each readout is one function.
"""

# Shapes: P pair, V variable, C unit, R readout.

from __future__ import annotations

import math

import torch
from torch import Tensor

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo


def simulate(run: MonteCarlo) -> None:
    """Points of each quantity and each kind of network, x being the hidden layers passed, from 1."""
    for draw in range(run.settings.n_draws):
        names, shape = ("X", "place", "noise"), (run.settings.n_variables,)
        inputs = _inputs(run, *(run.inputs(name, draw, shape=shape) for name in names))
        for activation in labels.NETWORKS:
            _add_network(run, draw, activation, inputs)


def _inputs(run: MonteCarlo, bits_PV: Tensor, place_PV: Tensor, noise_PV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform x, x with one variable changed, and x with each changed with probability (1 - kept) / 2, (P, V) each."""
    x_PV = torch.where(bits_PV < 0, -1.0, 1.0)
    one_PV = x_PV.scatter(1, place_PV.argmax(1, keepdim=True), 0.0).mul_(2).sub_(x_PV)
    change = torch.tensor((1 - run.settings.kept) / 2, dtype=torch.float64)
    many_PV = torch.where(noise_PV < torch.special.ndtri(change).item(), -x_PV, x_PV)
    return x_PV, one_PV, many_PV


def _add_network(run: MonteCarlo, draw: int, activation: str, hidden: tuple[Tensor, ...]) -> None:
    settings, name = run.settings, labels.NETWORKS[activation]
    for layer in range(1, settings.depth + 1):
        fan_in = hidden[0].shape[1]
        w_CC = run.weights("W", draw, layer, shape=(fan_in, settings.width)).mul_(math.sqrt(2 / fan_in))
        hidden = tuple((h_PC @ w_CC).relu_() if activation == "relu" else (h_PC @ w_CC).erf_() for h_PC in hidden)
        readout_CR = run.weights("readout", draw, layer, shape=(settings.width, settings.n_readouts))
        x_PR, one_PR, many_PR = (h_PC @ readout_CR > 0 for h_PC in hidden)
        for quantity, other_PR in (("sensitivity", one_PR), ("stability", many_PR)):
            changed_P = (x_PR != other_PR).double().mean(-1)
            value_P = settings.n_variables * changed_P if quantity == "sensitivity" else 1 - 2 * changed_P
            run.add(draw, labels.SIGN_READINGS[quantity], name, layer, value_P)
