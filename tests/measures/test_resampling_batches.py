"""Measures under token noise: batches, memory and chance."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nsbench.measures import outputs
from nsbench.measures.resampling import OUTPUT, Found, Outputs, single_replacements, token_noise_stability
from tests.measures.resampled_functions import (
    generator,
    named,
)


class Answer:
    """Readouts and logits that mix all tokens; it counts what it is asked, and that it is alone with its logits."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.sizes: list[int] = []
        self.alive: list[weakref.ref] = []
        self.most_alive = 0
        self._weights = torch.randn(6, 4 * 11, dtype=dtype, generator=generator(5))

    def __call__(self, tokens: Tensor) -> Outputs:
        assert not torch.is_grad_enabled()
        self.sizes.append(len(tokens))
        self.most_alive = max(self.most_alive, sum(one() is not None for one in self.alive))
        weights = self._weights.to(tokens.device)
        storage_N = (tokens.to(weights) @ weights).sin()
        logits = 3 * storage_N.view(-1, 4, 11)
        self.alive.append(weakref.ref(logits))
        # A view of the logits, of their dtype.
        return Outputs(logits[:, -1, :2], logits)


def noise(answer: Answer, tokens: Tensor, seed: int = 1, batch_size: int = 1) -> list[Found]:
    keywords = {"n_draws": 2, "fixed_ids": torch.tensor([3, 4]), "batch_size": batch_size}
    return token_noise_stability(answer, tokens, [0.3, 0.8], 5, generator(seed, tokens.device), **keywords)


def replacements(answer: Answer, tokens: Tensor, seed: int = 1, batch_size: int = 1) -> list[Found]:
    keywords = {"n_positions": 3, "fixed_ids": torch.tensor([3, 4]), "batch_size": batch_size}
    return single_replacements(answer, tokens, 5, generator(seed, tokens.device), **keywords)


MEASURES = [noise, replacements]
TOKENS = torch.randint(5, (10, 6), generator=generator(3))


@pytest.mark.parametrize("measure", MEASURES)
def test_results_do_not_depend_on_the_batches(measure: Callable[..., list[Found]], device: torch.device) -> None:
    answer, tokens = Answer(), TOKENS.to(device)
    found, whole = (
        named(measure(answer, tokens, batch_size=4)),
        named(measure(Answer(), tokens, batch_size=10)),
    )
    assert found.keys() == whole.keys()
    assert {readout for readout, _, _ in found} == {0, 1, OUTPUT}
    for key, one in whole.items():
        assert found[key].value == pytest.approx(one.value, rel=1e-6)
        assert found[key].standard_error == pytest.approx(one.standard_error, rel=1e-5)
    assert max(answer.sizes) == 4


@pytest.mark.parametrize("measure", MEASURES)
def test_results_do_not_depend_on_the_blocks_of_probabilities(
    measure: Callable[..., list[Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four positions of eleven classes, two at a time."""
    whole = named(measure(Answer(), TOKENS))
    monkeypatch.setattr(outputs, "has_numba", lambda: False)
    monkeypatch.setattr(outputs, "BLOCK_BYTES", 100)
    found = named(measure(Answer(), TOKENS))
    assert found.keys() == whole.keys()
    for key, one in whole.items():
        assert found[key].value == pytest.approx(one.value, rel=1e-6)


def test_clean_outputs_are_computed_once_for_all_noise() -> None:
    answer = Answer()
    noise(answer, TOKENS, batch_size=4)
    # A batch itself, and 2 rho of 2 draws.
    assert answer.sizes == [4] * 5 + [4] * 5 + [2] * 5


@pytest.mark.parametrize("measure", MEASURES)
def test_logits_are_let_go_before_the_next_are_computed(measure: Callable[..., list[Found]]) -> None:
    answer = Answer(torch.float32)
    measure(answer, TOKENS, batch_size=3)
    assert len(answer.alive) > 10
    assert answer.most_alive == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_the_generator_alone_decides(measure: Callable[..., list[Found]]) -> None:
    first = measure(Answer(), TOKENS)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert repr(measure(Answer(), TOKENS)) == repr(first)
    assert repr(measure(Answer(), TOKENS, seed=2)) != repr(first)
    assert torch.equal(torch.random.get_rng_state(), state)
