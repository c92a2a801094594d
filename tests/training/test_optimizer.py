"""The flat optimiser against torch's own, run by run, and its schedule against torch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nsbench.config.shape import Shape
from nsbench.config.variant import Optimizer
from nsbench.training.models import Transformer
from nsbench.training.models.stack import Stack
from nsbench.training.optimizer import FlatOptimizer

RATES, DECAYS = [0.003, 0.01, 0.02], [0.3, 0.0, 0.05]


def stack_of(n_runs: int = 3) -> Stack:
    return Transformer(d_model=6, n_heads=2, n_layers=1).build(Shape(3, 5, 4), list(range(n_runs)))


def settings(convention: str) -> list[Optimizer]:
    pairs = zip(RATES, DECAYS, strict=True)
    return [Optimizer(learning_rate=lr, weight_decay=wd, weight_decay_convention=convention) for lr, wd in pairs]


def torch_s(weights: list[Tensor], chosen: Optimizer) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if chosen.weight_decay_convention == "l2" else torch.optim.AdamW
    decay, rate = chosen.weight_decay, chosen.learning_rate
    # "per step" is torch's convention with the decay divided by the learning rate.
    return kind(weights, lr=rate, weight_decay=decay / rate if chosen.weight_decay_convention == "per_step" else decay)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("convention", ["times_lr", "per_step", "l2"])
def test_each_run_steps_as_torch_s_adam_with_its_own_rate_and_decay(
    convention: str, on_cpu: bool, device: torch.device
) -> None:
    stack, plain = stack_of().to(device), stack_of()
    flat = FlatOptimizer(stack, settings(convention))
    if on_cpu and device.type != "cpu":
        pytest.skip("the kernel of a CPU")
    flat.on_cpu = on_cpu  # a CPU can do the operations of a GPU too
    weights = [[value.clone() for value in plain.run_weights(run).values()] for run in range(3)]
    others = [torch_s(values, chosen) for values, chosen in zip(weights, settings(convention), strict=True)]
    generator = torch.Generator().manual_seed(1)
    for number in range(6):
        for run, values in enumerate(weights):
            for value, gradient in zip(values, stack.unflattened(flat.gradients_RP[run]).values(), strict=True):
                value.grad = torch.randn(value.shape, generator=generator) * 10.0 ** -(number % 3)
                gradient.copy_(value.grad)
        flat.step(torch.tensor(number, device=device))
        for other in others:
            other.step()
    for run, values in enumerate(weights):
        for found, expected in zip(stack.run_weights(run).values(), values, strict=True):
            torch.testing.assert_close(found.cpu(), expected, rtol=3e-6, atol=3e-7)


@pytest.mark.parametrize("patience", [0, 2])
def test_the_plateau_of_each_run_is_torch_s_to_the_bit(patience: int, device: torch.device) -> None:
    chosen = [
        Optimizer(learning_rate=rate, scheduler="plateau", scheduler_factor=0.7, scheduler_patience=patience)
        for rate in (0.1, 3e-8, 1e-3)
    ]
    flat = FlatOptimizer(stack_of().to(device), chosen)
    others = [torch.optim.SGD([torch.zeros(1)], lr=run.learning_rate) for run in chosen]
    plateaus = [torch.optim.lr_scheduler.ReduceLROnPlateau(other, factor=0.7, patience=patience) for other in others]
    generator, rates = torch.Generator().manual_seed(2), []
    for number in range(40):
        losses = (1 + torch.rand(3, generator=generator, dtype=torch.float64)) * 0.95**number
        losses[1] = losses[1] if number % 3 else math.nan
        losses[2] = 1 - 9e-5 * number  # each time better by less than counts
        flat.schedule(losses.to(device))
        for plateau, loss in zip(plateaus, losses.tolist(), strict=True):
            plateau.step(loss)
        rates.append(flat.learning_rate_R.tolist())
        assert rates[-1] == [other.param_groups[0]["lr"] for other in others]
    assert len({tuple(rate) for rate in rates}) > 5


def test_a_silenced_run_is_finite_and_touches_no_neighbour() -> None:
    stacks = [stack_of(), stack_of()]
    flats = [FlatOptimizer(stack, settings("times_lr")) for stack in stacks]
    flats[1].weights_RP[1], flats[1].gradients_RP[1] = math.nan, math.inf
    for number in range(4):
        for flat in flats:
            flat.gradients_RP[0], flat.gradients_RP[2] = 0.3, -0.1
            flat.step(torch.tensor(number))
        if number == 1:
            flats[1].silence(1)
            flats[1].gradients_RP[1] = 0.5
    assert flats[1].weights_RP.isfinite().all()
    for run in (0, 2):
        assert torch.equal(flats[0].weights_RP[run], flats[1].weights_RP[run])


def test_flat_weights_are_the_stack_s_and_rows_come_apart_again() -> None:
    stack, other = stack_of(), stack_of()
    weights_RP, gradients_RP = stack.flatten()
    assert torch.equal(stack(torch.zeros(3, 2, 4, dtype=torch.int64)), other(torch.zeros(3, 2, 4, dtype=torch.int64)))
    stack.weights["head_bias"].grad[2] = 2.0
    assert stack.unflattened(gradients_RP[2])["head.bias"].tolist() == [2.0] * 4
    for name, value in stack.unflattened(weights_RP[2].clone()).items():
        assert torch.equal(value, other.run_weights(2)[name])
