"""The noisy copy of Equation 7 and the correlation that it really has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from nsbench.perturbations.tokens import StackNoise, resample_tokens
from nsbench.storage.philox import Stream, random_words, run_keys

RHOS = [-1.0, -0.5, 0.0, 0.25, 0.5, 0.9, 1.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near(share: float, probability: float, n: int) -> bool:
    """Within four standard errors, exactly where there is no chance."""
    return abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / n)


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("n_symbols", [2, 3, 7])
def test_a_token_stays_with_the_probability_of_definition_6_1(rho: float, n_symbols: int) -> None:
    """(1 + rho) / 2 for not being redrawn, and 1 / U of the redraws return the same symbol."""
    n = 200_000
    tokens = torch.randint(0, n_symbols, (n,), generator=generator(1))
    keep = (1 + rho) / 2
    drawn = resample_tokens(tokens, rho, n_symbols, generator(2))
    assert near((drawn == tokens).double().mean().item(), keep + (1 - keep) / n_symbols, n)
    other = resample_tokens(tokens, rho, n_symbols, generator(3), same_symbol=False)
    assert near((other == tokens).double().mean().item(), keep, n)


@pytest.mark.parametrize("n_symbols", [2, 3, 7])
@pytest.mark.parametrize("same_symbol", [True, False])
def test_redraws_are_uniform_over_the_symbols_allowed(n_symbols: int, same_symbol: bool) -> None:
    n = 100_000
    for symbol in range(n_symbols):
        tokens = torch.full((n,), symbol)
        drawn = resample_tokens(tokens, -1.0, n_symbols, generator(symbol), same_symbol=same_symbol)
        allowed = [other for other in range(n_symbols) if same_symbol or other != symbol]
        assert drawn.unique().tolist() == allowed
        for other in allowed:
            assert near((drawn == other).double().mean().item(), 1 / len(allowed), n)


@pytest.mark.parametrize("same_symbol", [True, False])
def test_rho_one_changes_nothing_and_the_input_is_never_written_to(same_symbol: bool) -> None:
    tokens = torch.randint(0, 5, (40, 6), generator=generator(1))
    kept = tokens.clone()
    assert torch.equal(resample_tokens(tokens, 1.0, 5, generator(2), same_symbol=same_symbol), tokens)
    resample_tokens(tokens, -1.0, 5, generator(2), same_symbol=same_symbol)
    assert torch.equal(tokens, kept)


def test_positions_are_redrawn_independently() -> None:
    n = 100_000
    tokens = torch.zeros((n, 2), dtype=torch.int64)
    changed = (resample_tokens(tokens, 0.0, 2, generator(1)) == 1).double()
    assert near(changed.prod(dim=1).mean().item(), 0.25**2, n)


@pytest.mark.parametrize("same_symbol", [True, False])
def test_symbols_may_be_a_tensor_of_ids_in_any_order(same_symbol: bool) -> None:
    ids = torch.tensor([9, 2, 5, 2])
    tokens = torch.tensor([2, 5, 9]).repeat(2000)
    drawn = resample_tokens(tokens, -1.0, ids, generator(1), same_symbol=same_symbol)
    assert drawn.unique().tolist() == [2, 5, 9]
    assert same_symbol or not (drawn == tokens).any()
    # An id that stands twice in the list is not drawn twice as often.
    assert near((drawn == 2).double().mean().item(), 1 / 3, 6000)


@pytest.mark.parametrize("token", [0, 3, 12])
def test_a_token_that_is_no_symbol_may_become_any_symbol(token: int) -> None:
    tokens = torch.full((40_000,), token)
    drawn = resample_tokens(tokens, -1.0, torch.tensor([2, 5, 9]), generator(1), same_symbol=False)
    for symbol in (2, 5, 9):
        assert near((drawn == symbol).double().mean().item(), 1 / 3, 40_000)


def test_fixed_ids_are_never_redrawn_and_change_nothing_for_the_others() -> None:
    tokens = torch.randint(0, 6, (300, 8), generator=generator(1))
    fixed = torch.tensor([4, 5])
    free = resample_tokens(tokens, -1.0, 4, generator(2))
    held = resample_tokens(tokens, -1.0, 4, generator(2), fixed_ids=fixed)
    special = torch.isin(tokens, fixed)
    assert torch.equal(held[special], tokens[special])
    assert torch.equal(held[~special], free[~special])
    assert not torch.isin(free, fixed).any()


@pytest.mark.parametrize("symbols", [torch.tensor(7), np.int64(7), list(range(7)), range(7), np.arange(7)], ids=repr)
def test_symbols_of_every_form_are_those_of_the_integer(symbols: Any) -> None:
    tokens = torch.randint(0, 7, (300, 8), generator=generator(1))
    for same_symbol in (True, False):
        drawn, right = (
            resample_tokens(tokens, -1.0, given, generator(2), same_symbol=same_symbol, fixed_ids=fixed)
            for given, fixed in ((symbols, [3]), (7, torch.tensor([3])))
        )
        assert torch.equal(drawn, right)
        assert len(drawn.unique()) == 7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32])
def test_tokens_of_narrow_integers_are_drawn_as_wide_ones_or_refused(dtype: torch.dtype) -> None:
    wide, most = torch.randint(0, 100, (300, 8), generator=generator(1)), torch.iinfo(dtype).max
    for same_symbol in (True, False):
        options = {"same_symbol": same_symbol, "fixed_ids": [4]}
        drawn = resample_tokens(wide.to(dtype), 0.0, 100, generator(2), **options)
        assert drawn.dtype == dtype
        assert torch.equal(drawn.long(), resample_tokens(wide, 0.0, 100, generator(2), **options))
    with pytest.raises(ValueError, match=rf"symbols has ids 0 ... {most + 1}; tokens of {dtype} allow 0 ... {most}"):
        resample_tokens(wide.to(dtype), 0.0, torch.tensor([0, most + 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": 7.0}, r"symbols is 7.0 \(float\); an integer, or a list or tensor of these, is allowed"),
        ({"symbols": True}, r"symbols is True \(bool\)"),
        ({"symbols": "abc"}, r"symbols is 'abc' \(str\)"),
        ({"symbols": None}, r"symbols is None \(NoneType\)"),
        ({"symbols": {1, 2}}, r"symbols is \{1, 2\} \(set\)"),
        ({"symbols": [-1, 2]}, r"symbols has ids -1 ... 2; tokens of torch.int64 allow 0 ..."),
        ({"symbols": []}, "symbols has 0 ids"),
        ({"fixed_ids": torch.tensor([True, False])}, r"fixed_ids is tensor.* \(torch.bool\)"),
        ({"tokens": torch.zeros(3)}, "tokens is a tensor of torch.float32; a tensor of integers is allowed"),
        ({"tokens": torch.zeros(3, dtype=torch.bool)}, "tokens is a tensor of torch.bool"),
        ({"tokens": [1, 2]}, "tokens is a list; a tensor of integers"),
    ],
)
def test_what_are_no_ids_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resample_tokens(**{"tokens": torch.tensor([0, 1]), "rho": 0.0, "symbols": 2, **arguments})


class WithoutFloat64(TorchFunctionMode):
    """A device without float64, as Apple's."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("dtype") is torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return function(*args, **(kwargs or {}))


def test_a_device_without_float64_draws_in_float32() -> None:
    tokens = torch.zeros(100_000, dtype=torch.int64)
    with WithoutFloat64():
        drawn = resample_tokens(tokens, 0.0, 4, generator(2))
    for token, chance in enumerate([0.625, 0.125, 0.125, 0.125]):
        assert near((drawn == token).double().mean().item(), chance, len(tokens))


@pytest.mark.parametrize("rho", [1.0001, -7.0, math.nan])
def test_rho_outside_its_range_is_refused(rho: float) -> None:
    with pytest.raises(ValueError, match=rf"rho = {rho} is outside \[-1, 1\]"):
        resample_tokens(torch.zeros(3, dtype=torch.int64), rho, 2)


@pytest.mark.parametrize(
    ("symbols", "same_symbol", "needed"), [(0, True, 1), (1, False, 2), (torch.tensor([3, 3]), False, 2)]
)
def test_too_few_symbols_are_refused(symbols: int | torch.Tensor, same_symbol: bool, needed: int) -> None:
    with pytest.raises(ValueError, match=rf"symbols has \d ids; a redraw needs at least {needed}"):
        resample_tokens(torch.zeros(3, dtype=torch.int64), 0.0, symbols, same_symbol=same_symbol)


def test_the_generator_alone_decides() -> None:
    tokens = torch.randint(0, 7, (100, 5), generator=generator(1))
    first = resample_tokens(tokens, 0.0, 7, generator(5))
    torch.manual_seed(99)
    assert torch.equal(resample_tokens(tokens, 0.0, 7, generator(5)), first)
    assert not torch.equal(resample_tokens(tokens, 0.0, 7, generator(6)), first)
    state = torch.random.get_rng_state()
    resample_tokens(tokens, 0.0, 7, generator(5))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_equal_draws_redraw_more_where_rho_is_smaller() -> None:
    """The same stream at two strengths: what the weaker noise changes, the stronger changes too."""
    tokens = torch.randint(0, 7, (2000,), generator=generator(1))
    weak, strong = (resample_tokens(tokens, rho, 7, generator(2)) for rho in (0.8, -0.2))
    moved = weak != tokens
    assert moved.any()
    assert torch.equal(strong[moved], weak[moved])


def test_tokens_that_are_not_contiguous_are_served() -> None:
    tokens = torch.randint(0, 5, (30, 40), generator=generator(1), dtype=torch.int32)
    drawn = resample_tokens(tokens.T, -1.0, 5, generator(2), same_symbol=False)
    assert not (drawn == tokens.T).any()
    assert (drawn.shape, drawn.dtype) == ((40, 30), tokens.dtype)


# --- of a stack ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_symbol", [True, False])
def test_each_run_of_a_stack_keeps_and_redraws_by_its_own_rho(same_symbol: bool, device: torch.device) -> None:
    """Of ids 1, 3, 4, 6 are symbols, 2 is fixed and 0 and 5 are neither."""
    rhos, symbols, n = [-1.0, 0.25, 1.0], torch.tensor([6, 3, 1, 4]), 60_000
    fixed = torch.tensor([2])
    noise = StackNoise(rhos, symbols, 7, device, same_symbol=same_symbol, fixed_ids=fixed)
    words = random_words(run_keys([1, 2, 3], device), 2 * n, 0, Stream.NOISE).view(3, 2, n, 1)
    for token in range(7):
        tokens = torch.full((3, n, 1), token, device=device)
        kept = tokens.clone()
        drawn = noise(tokens, words).cpu()
        assert torch.equal(tokens, kept)
        for run, rho in enumerate(rhos):
            stays = 1.0 if token == 2 else (1 + rho) / 2
            allowed = [other for other in (1, 3, 4, 6) if same_symbol or other != token]
            counts = torch.bincount(drawn[run].flatten(), minlength=7)
            for other in range(7):
                chance = stays * (other == token) + (1 - stays) * (other in allowed) / len(allowed)
                assert near(counts[other].item() / n, chance, n), (token, rho, other)


def test_a_stack_s_noise_refuses_too_few_symbols() -> None:
    with pytest.raises(ValueError, match="symbols has 1 ids; a redraw needs at least 2"):
        StackNoise([0.0], torch.tensor([3, 3]), 5, torch.device("cpu"), same_symbol=False)
