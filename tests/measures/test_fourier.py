"""Fourier weight of functions whose weight is known, exactly and from samples, and of a run's data."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nsbench.config.variant import Noise
from nsbench.data.datasets import read_dataset
from nsbench.measures import MEASURES, Estimate, MeasureSettings, fourier
from tests.conftest import make_dataset

CORRELATIONS = {0.0: 0.5, 0.5: 0.75}


def measured(f: Callable[[Tensor], Any], n_tokens: int, n_symbols: int = 2, seed: int = 0) -> dict[Any, Estimate]:
    generator = torch.Generator().manual_seed(seed)
    found = fourier.fourier_weight(f, n_tokens, n_symbols, CORRELATIONS, generator)
    return {(one.reduction, *([] if math.isnan(one.rho) else [one.rho])): one for one in found}


def signs(bits: Tensor) -> np.ndarray:
    return 1.0 - 2.0 * bits.numpy()


def mixed(bits: Tensor) -> np.ndarray:
    """0.6 chi_{0, 1} - 0.3 chi_{2} + 0.2 chi_{0, 2, 3}, and a second output 0.1 chi_{1}."""
    x = signs(bits)
    first = 0.6 * x[:, 0] * x[:, 1] - 0.3 * x[:, 2] + 0.2 * x[:, 0] * x[:, 2] * x[:, 3]
    return np.stack([first, 0.1 * x[:, 1]], 1)


WEIGHTS = [0.0, 0.1, 0.36, 0.04]
NORM2 = 0.5


@pytest.mark.parametrize(("n", "exact"), [(6, True), (20, False), (50, False)])
def test_weights_tails_and_bounds_are_those_of_the_closed_form(n: int, exact: bool) -> None:
    found = measured(mixed, n)
    last = max(int(name.removeprefix("degree_")) for name, *_ in found if name.startswith("degree_"))
    assert last == (4 if n == 50 else n)
    weights = np.zeros(n + 1)
    weights[:4] = WEIGHTS
    expected = {(f"degree_{j}",): weights[j] for j in range(last + 1)}
    degrees = np.arange(n + 1)
    tails = range(1, min(last + 1, n, 5) + 1)
    for j in tails:
        expected[f"tail_{j}",] = weights[j:].sum() / NORM2
        expected[f"influence_bound_{j}",] = (degrees * weights).sum() / NORM2 / j
        for rho, kappa in CORRELATIONS.items():
            expected[f"stability_bound_{j}", rho] = (1 - (kappa**degrees * weights).sum() / NORM2) / (1 - kappa**j)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        one = found[key]
        assert one.n_inputs == (2**n if exact else fourier.SAMPLES)
        assert (one.standard_error == 0) == exact
        if len(key) > 1:
            assert one.correlation == CORRELATIONS[key[1]]
        assert one.value == pytest.approx(value, abs=max(1e-12, 4.5 * one.standard_error)), key
    for j in tails:
        assert (
            found[f"tail_{j}",].value <= found[f"influence_bound_{j}",].value + 4.5 * found[f"tail_{j}",].standard_error
        )
    if not exact:
        assert found["degree_2",].standard_error < 0.02
        assert found["influence_bound_1",].standard_error < 0.1


def test_a_parity_has_all_weight_at_its_degree_in_every_way_to_see_it() -> None:
    for n in (16, 17):
        found = measured(lambda bits: signs(bits)[:, :3].prod(1, keepdims=True), n)
        for j in range(n + 1):
            one = found[f"degree_{j}",]
            assert one.value == pytest.approx(float(j == 3), abs=max(1e-12, 4.5 * one.standard_error))
        assert (found["degree_3",].standard_error == 0) == (n == 16)


def test_standard_errors_are_the_spread_of_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or up to a root of 2 more, where there is no weight."""
    monkeypatch.setattr(fourier, "MOST_INPUTS", 4)
    monkeypatch.setattr(fourier, "SAMPLES", 400)
    runs = [measured(mixed, 6, seed=seed) for seed in range(60)]
    for key in runs[0]:
        spread = np.std([run[key].value for run in runs], ddof=1)
        told = np.sqrt(np.mean([run[key].standard_error ** 2 for run in runs]))
        assert 0.75 < told / spread < 1.9, key


class Known:
    """The true function of a task as a model: certain of its answer."""

    device, causal = torch.device("cpu"), False

    def __init__(self, answer: Callable[[Tensor], Tensor], n_classes: int) -> None:
        self.answer, self.n_classes = answer, n_classes

    def __call__(self, tokens: Tensor) -> Tensor:
        return 60.0 * torch.eye(self.n_classes)[self.answer(tokens)]


def of_data(task: str, root: Path, **noise: Any) -> dict[str, Estimate]:
    data = read_dataset(make_dataset(root, task), 3)
    answers = {
        "modular_addition": lambda tokens: (tokens[:, 0] + tokens[:, 1]) % 7,
        "sparse_parity": lambda tokens: tokens[:, data["secret"]].sum(1) % 2 if "secret" in data.tensors else None,
        "next_token": lambda tokens: tokens % data.n_classes,
    }
    settings = MeasureSettings(measures=["fourier_weight", "test_scores"], rho=[0.5, 1.0], noise=Noise(**noise))
    model = Known(answers[task], data.n_classes)
    found = list(MEASURES["fourier_weight"](model, data, torch.Generator().manual_seed(0), settings))
    return {one.reduction: one for one in found}


def test_of_a_run_s_data_it_is_the_weight_of_the_outputs_on_uniform_symbols(tmp_path: Path) -> None:
    addition = of_data("modular_addition", tmp_path)
    assert [addition[f"degree_{j}"].value for j in range(3)] == pytest.approx([1 / 7, 0, 6 / 7])
    parity = of_data("sparse_parity", tmp_path, same_symbol=False)
    assert [parity[f"degree_{j}"].value for j in range(7)] == pytest.approx([0, 0, 1, 0, 0, 0, 0])
    # With flips the correlation is rho; noise that changes nothing bounds nothing.
    assert (parity["stability_bound_2"].rho, parity["stability_bound_2"].correlation) == (0.5, 0.5)
    assert parity["stability_bound_2"].value == pytest.approx(1)
    assert addition["stability_bound_2"].correlation == 0.75
    assert of_data("next_token", tmp_path) == {}
