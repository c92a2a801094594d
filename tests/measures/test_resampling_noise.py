"""Token noise against the Efron-Stein decomposition, by enumeration, and hand-made outputs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.measures.estimate import Estimate
from nsbench.measures.resampling import OUTPUT, Outputs, single_replacements, token_noise_stability
from nsbench.theory import resampling_correlation
from tests.measures.resampled_functions import (
    CERTAIN,
    RHOS,
    SURE,
    additive,
    all_inputs,
    generator,
    named,
    product,
    readouts,
    softmax_of,
    table_of,
    weights,
)


@pytest.mark.parametrize("same_symbol", [True, False])
@pytest.mark.parametrize(("symbols", "length"), [(2, 4), (3, 3)])
def test_stability_is_the_sum_of_weights_times_powers_of_the_correlation(
    symbols: int, length: int, same_symbol: bool, device: torch.device
) -> None:
    tables = [table_of(symbols, length), additive(symbols, length), product(symbols, length)]
    tokens, n_draws = all_inputs(symbols, length).to(device), 600
    found = named(
        token_noise_stability(
            readouts(*tables),
            tokens,
            RHOS,
            symbols,
            generator(device=device),
            n_draws=n_draws,
            same_symbol=same_symbol,
            batch_size=len(tokens),
        )
    )
    assert {one.measure for one in found.values()} == {"noise_stability"}
    assert len(found) == len(RHOS) * 12
    assert weights(tables[1])[1] == pytest.approx(tables[1].var(correction=0).item())
    assert weights(tables[2])[length] == pytest.approx(1.0)
    for readout, table in enumerate(tables):
        w = weights(table)
        norm2, variance = sum(w), sum(w[1:])
        # E[(f(X) f(Y))^2] is at most E[f^4].
        near = SURE * table.pow(4).mean().sqrt().item() / math.sqrt(len(tokens) * n_draws)
        for rho in RHOS:
            kappa = resampling_correlation(rho, symbols, same_symbol)
            exact = sum(weight * kappa**degree for degree, weight in enumerate(w))
            assert found[readout, "product", rho].value == pytest.approx(exact, abs=near)
            assert found[readout, "normalised", rho].value == pytest.approx(exact / norm2, abs=near / norm2)
            # The mean of the noisy values is another estimate of the mean: the same error once more.
            pearson = (exact - w[0]) / variance
            assert found[readout, "pearson", rho].value == pytest.approx(pearson, abs=2 * near / variance)
            lost = found[readout, "half_square", rho].value
            assert lost == pytest.approx(norm2 - exact, abs=4 * near)
        assert found[readout, "product", 1.0].value == pytest.approx(norm2)
        assert found[readout, "half_square", 1.0].value == 0.0


def test_standard_errors_are_the_spread_of_repetitions() -> None:
    table = table_of(3, 3)

    def once(seed: int) -> dict[tuple[int, str, float | None], Estimate]:
        tokens = torch.randint(3, (60, 3), generator=generator(seed))
        answer = readouts(table)

        def outputs(tokens: Tensor) -> Outputs:
            return Outputs(answer(tokens).values_NR, F.one_hot(tokens, 3).float())

        noisy = token_noise_stability(outputs, tokens, [0.4], 3, generator(1000 + seed), n_draws=2, batch_size=60)
        one = single_replacements(outputs, tokens, 3, generator(2000 + seed), n_positions=2, batch_size=60)
        return named(noisy + one)

    repetitions = [once(seed) for seed in range(80)]
    assert len(repetitions[0]) == 10
    for key in repetitions[0]:
        values = torch.tensor([repetition[key].value for repetition in repetitions])
        errors = torch.tensor([repetition[key].standard_error for repetition in repetitions])
        # The spread of 80 is known to 1 / sqrt(160), 8%; the delta method is of first order.
        assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.25), key


def test_measures_of_the_output_by_hand() -> None:
    """At rho = -1 a bit without the same symbol is the other bit for sure."""
    outputs, tokens = softmax_of([0.5, 0.3, 0.2], [0.2, 0.7, 0.1]), torch.tensor([[0], [1], [0]])
    found = named(token_noise_stability(outputs, tokens, [-1.0, 1.0], 2, generator(), same_symbol=False))
    dot, lengths2 = 0.1 + 0.21 + 0.02, (0.25 + 0.09 + 0.04, 0.04 + 0.49 + 0.01)
    assert found[OUTPUT, "probability_dot", -1.0].value == pytest.approx(dot, rel=1e-6)
    assert found[OUTPUT, "probability_dot", 1.0].value == pytest.approx((2 * lengths2[0] + lengths2[1]) / 3, rel=1e-6)
    cosine = dot / math.sqrt(lengths2[0] * lengths2[1])
    assert found[OUTPUT, "probability_cosine", -1.0].value == pytest.approx(cosine, rel=1e-6)
    assert found[OUTPUT, "probability_cosine", 1.0].value == pytest.approx(1.0, rel=1e-6)
    assert found[OUTPUT, "decision", -1.0].value == 0.0
    assert found[OUTPUT, "decision", 1.0].value == 1.0
    one = named(single_replacements(outputs, tokens, 2, generator(), n_positions=1, same_symbol=False))
    assert one[OUTPUT, "decision", None].value == 1.0
    assert one[OUTPUT, "probability_distance", None].value == pytest.approx(0.5 * (0.09 + 0.16 + 0.01), rel=1e-6)
    assert one[0, "half_square", None].value == 0.5


def test_output_measures_are_means_over_positions() -> None:
    """Each position tells its own token, certainly, and a further one nothing: (1, 0, 0), which stays."""
    symbols, length, n = 3, 5, 400

    def outputs(tokens: Tensor) -> Outputs:
        told = F.one_hot(F.pad(tokens, (0, 1)), symbols)
        return Outputs(tokens[:, :0].float(), CERTAIN * told.float())

    tokens = torch.randint(symbols, (n, length), generator=generator(0))
    found = named(token_noise_stability(outputs, tokens, [0.2, 1.0], symbols, generator(), batch_size=50))
    # Without readouts, the output alone.
    assert len(found) == 6
    stays = (0.6 + 0.4 / symbols) * length / (length + 1) + 1 / (length + 1)
    for reduction in ("probability_dot", "probability_cosine", "decision"):
        one = found[OUTPUT, reduction, 0.2]
        assert abs(one.value - stays) < SURE * one.standard_error
        # Of a mean of five independent tokens, in n inputs.
        exact = math.sqrt((1 - 0.4 * 2 / 3) * 0.4 * 2 / 3 / length / n) * length / (length + 1)
        assert one.standard_error == pytest.approx(exact, rel=0.15)
        assert found[OUTPUT, reduction, 1.0].value == pytest.approx(1.0)
    other = named(single_replacements(outputs, tokens, symbols, generator(), n_positions=2, same_symbol=False))
    for reduction in ("decision", "probability_distance"):
        # A replacement changes one of six positions; two of five are made, and scaled.
        assert other[OUTPUT, reduction, None].value == pytest.approx(length / (length + 1))
        assert other[OUTPUT, reduction, None].standard_error < 1e-12


def test_logits_of_few_bits_get_probabilities_of_float32() -> None:
    logits_UC = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 1.5]])
    for dtype in (torch.bfloat16, torch.float64):
        outputs = lambda tokens, dtype=dtype: Outputs(tokens.half(), logits_UC.to(dtype)[tokens])  # noqa: E731
        (found,) = (
            one.value
            for _, one in token_noise_stability(outputs, torch.tensor([[0]]), [-1.0], 2, generator(), same_symbol=False)
            if one.reduction == "probability_dot"
        )
        p, q = logits_UC.double().softmax(-1)
        assert found == pytest.approx((p @ q).item(), rel=1e-6)


def test_every_rho_has_the_same_draws_and_every_copy_its_own() -> None:
    seen: list[Tensor] = []

    def outputs(tokens: Tensor) -> Outputs:
        seen.append(tokens)
        return Outputs(tokens[:, :1].double(), None)

    tokens = torch.randint(1000, (2, 300), generator=generator(0))
    kept = tokens.clone()
    token_noise_stability(outputs, tokens, [0.6, -0.4], 1000, generator(), n_draws=2, batch_size=2)
    clean, *noisy = seen
    assert torch.equal(clean, tokens)
    assert torch.equal(tokens, kept)
    weak, strong = noisy[:2], noisy[2:]
    for one, other in zip(weak, strong, strict=True):
        moved = one != tokens
        assert 0.1 < moved.double().mean() < 0.3
        assert torch.equal(other[moved], one[moved])
        assert 0.6 < (other != tokens).double().mean() < 0.8
        # Inputs are redrawn at places of their own.
        assert not torch.equal(moved[0], moved[1])
    assert not torch.equal(weak[0] != tokens, weak[1] != tokens)
