"""Single replacements against the Efron-Stein decomposition, by enumeration, and hand-made outputs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.measures.resampling import OUTPUT, Outputs, single_replacements, token_noise_stability
from tests.measures.resampled_functions import (
    CERTAIN,
    SURE,
    additive,
    all_inputs,
    generator,
    named,
    product,
    readouts,
    table_of,
    weights,
)


@pytest.mark.parametrize(
    ("n_positions", "symbols", "length", "same_symbol"),
    [(9, 2, 4, False), (2, 2, 4, True), (2, 3, 3, False), (9, 3, 3, True)],
)
def test_half_square_is_the_total_influence(n_positions: int, symbols: int, length: int, same_symbol: bool) -> None:
    """sum_j j W_j; where the same symbol is not drawn, by U / (U - 1) more."""
    tables = [table_of(symbols, length), additive(symbols, length), product(symbols, length)]
    tokens = all_inputs(symbols, length).repeat(150, 1)
    found = named(
        single_replacements(
            readouts(*tables),
            tokens,
            symbols,
            generator(),
            n_positions=n_positions,
            same_symbol=same_symbol,
            batch_size=len(tokens),
        )
    )
    assert {one.measure for one in found.values()} == {"average_sensitivity"}
    assert list(found) == [(0, "half_square", None), (1, "half_square", None), (2, "half_square", None)]
    for readout, table in enumerate(tables):
        exact = sum(degree * weight for degree, weight in enumerate(weights(table)))
        exact *= 1 if same_symbol else symbols / (symbols - 1)
        one = found[readout, "half_square", None]
        assert one.standard_error < 0.1 * exact
        assert abs(one.value - exact) < SURE * one.standard_error + 1e-12
        if n_positions >= length and symbols == 2 and not same_symbol:
            # Nothing is left to chance.
            assert one.value == pytest.approx(exact)


def test_a_function_of_one_token_has_its_influence_there_alone() -> None:
    tokens = all_inputs(2, 5)
    outputs = lambda tokens: Outputs(3 * tokens[:, 2:3].double(), F.one_hot(tokens[:, 2], 2) * CERTAIN)  # noqa: E731
    found = named(single_replacements(outputs, tokens, 2, generator(), n_positions=5, same_symbol=False))
    assert found[0, "half_square", None].value == pytest.approx(4.5)
    assert found[OUTPUT, "decision", None].value == pytest.approx(1.0)
    assert found[OUTPUT, "probability_distance", None].value == pytest.approx(1.0)


def test_a_part_of_the_positions_is_a_sample_without_replacement() -> None:
    """Of effects a_t^2 / 2: mean and variance are those of such samples, T^2 (1 - n / T) S^2 / n."""
    a = torch.tensor([1.0, -2.0, 0.0, 3.0, 1.5], dtype=torch.float64)
    effects, n, n_positions = a.square() / 2, 6000, 4
    tokens = torch.tensor([1, 0, 0, 1, 1]).repeat(n, 1)
    (found,) = single_replacements(
        lambda tokens: Outputs((tokens * a).sum(1, keepdim=True), None),
        tokens,
        2,
        generator(),
        n_positions=n_positions,
        same_symbol=False,
        batch_size=n,
    )
    one = found.estimate
    exact = 5 * math.sqrt((1 - n_positions / 5) * effects.var().item() / n_positions / n)
    assert one.standard_error == pytest.approx(exact, rel=0.05)
    assert abs(one.value - effects.sum().item()) < SURE * exact


def test_one_token_is_replaced_at_a_time_and_fixed_ids_never() -> None:
    seen: list[Tensor] = []

    def outputs(tokens: Tensor) -> Outputs:
        seen.append(tokens)
        return Outputs(tokens.double().square().sum(1, keepdim=True), None)

    fixed = torch.tensor([7, 8])
    tokens = torch.tensor([[7, 1, 2, 8, 0], [7, 7, 7, 8, 3], [7, 8, 8, 7, 8], [0, 1, 2, 3, 0]])
    symbols = torch.arange(5)
    keywords = {"fixed_ids": fixed, "same_symbol": False, "batch_size": 4}
    found = single_replacements(outputs, tokens, symbols, generator(), n_positions=4, **keywords)
    clean, *replaced = seen
    assert torch.equal(clean, tokens)
    # Three, one, none, and four of the five positions: an input with no more is left out.
    assert [len(one_NT) for one_NT in replaced] == [3, 2, 2, 1]
    rows = [[0, 1, 3], [0, 3], [0, 3], [3]]
    at: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for one_NT, among in zip(replaced, rows, strict=True):
        for row, one_T in zip(among, one_NT, strict=True):
            (position,) = (one_T != tokens[row]).nonzero().flatten().tolist()
            at[row].append(position)
            assert one_T[position] in symbols
    assert sorted(at[0]) == [1, 2, 4]
    assert at[1] == [4]
    assert at[2] == []
    assert len(set(at[3])) == 4
    by_row = [
        sum(
            (outputs(one_T[None])[0] - outputs(tokens[row : row + 1])[0]).square().item() / 2
            for one_NT, among in zip(replaced, rows, strict=True)
            for other, one_T in zip(among, one_NT, strict=True)
            if other == row
        )
        for row in range(4)
    ]
    exact = (by_row[0] + by_row[1] + by_row[2] + by_row[3] * 5 / 4) / 4
    assert found[0].estimate.value == pytest.approx(exact)

    seen.clear()
    token_noise_stability(outputs, tokens, [-1.0], symbols, generator(), n_draws=20, **keywords)
    for noisy_NT in seen[1:]:
        held = torch.isin(tokens, fixed)
        assert torch.equal(noisy_NT[held], tokens[held])
        assert (noisy_NT != tokens)[~held].all()
