"""Token noise and single replacements against the Efron-Stein decomposition, by enumeration, and hand-made outputs."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.measures import resampling
from nsbench.measures.estimate import Estimate
from nsbench.measures.resampling import OUTPUT, Found, Outputs, single_replacements, token_noise_stability
from nsbench.measures.stability import noise_stability
from nsbench.theory import resampling_correlation

SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""
CERTAIN = 100.0
"""Logit of a certain answer: its probability is 1 in float32."""
RHOS = [-1.0, -0.4, 0.0, 0.5, 0.9, 1.0]


def generator(seed: int = 1, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def named(found: list[Found]) -> dict[tuple[int, str, float | None], Estimate]:
    """By readout, reduction and rho; None for NaN."""
    keys = [(readout, one.reduction, None if math.isnan(one.rho) else one.rho) for readout, one in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, (one for _, one in found), strict=True))


def all_inputs(symbols: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


def table_of(symbols: int, length: int, seed: int = 0) -> Tensor:
    """A function of all inputs, of mean 1, with weight in every degree."""
    return 1 + torch.randn((symbols,) * length, dtype=torch.float64, generator=generator(seed)) ** 3 / 3


def weights(table: Tensor) -> list[float]:
    """W_j of the Efron-Stein decomposition under uniform inputs: the square of the part in each degree j."""
    found = [0.0] * (table.ndim + 1)
    for among in itertools.product([False, True], repeat=table.ndim):
        part = table
        for axis, inside in enumerate(among):
            mean = part.mean(axis, keepdim=True).expand_as(part)
            part = part - mean if inside else mean
        found[sum(among)] += part.square().mean().item()
    assert sum(found) == pytest.approx(table.square().mean().item())
    return found


def readouts(*tables: Tensor) -> Callable[[Tensor], Outputs]:
    """A model without classes whose readouts are these functions."""
    return lambda tokens: Outputs(torch.stack([table.to(tokens.device)[*tokens.T] for table in tables], 1), None)


def additive(symbols: int, length: int) -> Tensor:
    """A sum of functions of one token each."""
    parts = torch.arange(1.0, symbols * length + 1, dtype=torch.float64).view(length, symbols).sin()
    return sum(part.reshape([-1 if axis == t else 1 for axis in range(length)]) for t, part in enumerate(parts))


def product(symbols: int, length: int) -> Tensor:
    """A product of functions of mean zero and mean square one of each token: all of degree `length`."""
    part = torch.arange(symbols, dtype=torch.float64) ** 2
    part = (part - part.mean()) / part.std(correction=0)
    found = torch.ones((), dtype=torch.float64)
    for _ in range(length):
        found = found[..., None] * part
    return found


# --- token noise -----------------------------------------------------------------------------------------


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

    repetitions = [once(seed) for seed in range(150)]
    assert len(repetitions[0]) == 10
    for key in repetitions[0]:
        values = torch.tensor([repetition[key].value for repetition in repetitions])
        errors = torch.tensor([repetition[key].standard_error for repetition in repetitions])
        # The spread of 150 is known to 1 / sqrt(300), 6%; the delta method is of first order.
        assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.25), key


def softmax_of(*probabilities: list[float]) -> Callable[[Tensor], Outputs]:
    """A model whose one position has the probabilities of its only token."""
    logits_UC = torch.tensor(probabilities).log()
    return lambda tokens: Outputs(tokens.double(), logits_UC[tokens] + 7.0)


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


def test_the_share_of_decisions_is_told_apart_from_their_product() -> None:
    def logits(tokens: Tensor) -> Tensor:
        """The parity of the first two bits, read after each bit, is changed by one bit of two."""
        return F.one_hot(tokens.cumsum(1) % 2, 2).float()

    tokens = all_inputs(2, 3)
    found = named(
        token_noise_stability(
            lambda tokens: Outputs(tokens[:, :1].double(), logits(tokens)),
            tokens,
            [-1.0],
            2,
            generator(),
            same_symbol=False,
        )
    )
    share = found[OUTPUT, "decision", -1.0].value
    # All bits change: the sums of one and of three of them do, that of two does not.
    assert share == pytest.approx(1 / 3)
    signs = {e.reduction: e.value for e in noise_stability(logits, tokens, [-1.0], 2, generator(), same_symbol=False)}
    assert signs["decision"] == pytest.approx(2 * share - 1)


def test_logits_of_few_bits_get_probabilities_of_float32() -> None:
    logits_UC = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 1.5]])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
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


# --- single replacements ---------------------------------------------------------------------------------


@pytest.mark.parametrize("same_symbol", [True, False])
@pytest.mark.parametrize(("symbols", "length"), [(2, 4), (3, 3)])
@pytest.mark.parametrize("n_positions", [1, 2, 9])
def test_half_square_is_the_total_influence(symbols: int, length: int, same_symbol: bool, n_positions: int) -> None:
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


@pytest.mark.parametrize("n_positions", [1, 3, 4])
def test_a_part_of_the_positions_is_a_sample_without_replacement(n_positions: int) -> None:
    """Of effects a_t^2 / 2: mean and variance are those of such samples, T^2 (1 - n / T) S^2 / n."""
    a = torch.tensor([1.0, -2.0, 0.0, 3.0, 1.5], dtype=torch.float64)
    effects, n = a.square() / 2, 6000
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


# --- batches, memory and chance --------------------------------------------------------------------------


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
        storage_N = (tokens.to(self._weights) @ self._weights.to(tokens.device)).sin()
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
@pytest.mark.parametrize("batch_size", [1, 4])
def test_results_do_not_depend_on_the_batches(
    measure: Callable[..., list[Found]], batch_size: int, device: torch.device
) -> None:
    answer, tokens = Answer(), TOKENS.to(device)
    found, whole = (
        named(measure(answer, tokens, batch_size=batch_size)),
        named(measure(Answer(), tokens, batch_size=10)),
    )
    assert found.keys() == whole.keys()
    assert {readout for readout, _, _ in found} == {0, 1, OUTPUT}
    for key, one in whole.items():
        assert found[key].value == pytest.approx(one.value, rel=1e-6)
        assert found[key].standard_error == pytest.approx(one.standard_error, rel=1e-5)
    assert max(answer.sizes) == batch_size


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("block", [1, 25])
def test_results_do_not_depend_on_the_blocks_of_probabilities(
    measure: Callable[..., list[Found]], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four positions of eleven classes, one or two at a time."""
    whole = named(measure(Answer(), TOKENS))
    monkeypatch.setattr(resampling, "BLOCK", block)
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_are_let_go_before_the_next_are_computed(
    measure: Callable[..., list[Found]], dtype: torch.dtype
) -> None:
    answer = Answer(dtype)
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


@pytest.mark.parametrize("measure", MEASURES)
def test_one_input_has_no_standard_error(measure: Callable[..., list[Found]]) -> None:
    found = measure(Answer(), TOKENS[:1])
    assert all(math.isnan(one.standard_error) for _, one in found)
    assert any(one.value > 0 for _, one in found)


def test_misuse_is_told() -> None:
    def fine(tokens: Tensor) -> Outputs:
        return Outputs(tokens.double(), None)

    tokens = torch.zeros(3, 2, dtype=torch.long)
    for shape in ((3,), (0, 2), (3, 0), (1, 2, 3)):
        with pytest.raises(ValueError, match="tokens_NT of shape"):
            token_noise_stability(fine, torch.zeros(shape), [0.5], 2, generator())
        with pytest.raises(ValueError, match="tokens_NT of shape"):
            single_replacements(fine, torch.zeros(shape), 2, generator(), n_positions=1)
    with pytest.raises(ValueError, match=r"rhos = 1\.5 is not allowed"):
        token_noise_stability(fine, tokens, [0.5, 1.5], 2, generator())
    with pytest.raises(ValueError, match="n_draws = 0 is not allowed"):
        token_noise_stability(fine, tokens, [0.5], 2, generator(), n_draws=0)
    with pytest.raises(ValueError, match="n_positions = 0 is not allowed"):
        single_replacements(fine, tokens, 2, generator(), n_positions=0)
    for batch_size in (0, 1.5):
        with pytest.raises(ValueError, match=f"batch_size = {batch_size} is not allowed"):
            token_noise_stability(fine, tokens, [0.5], 2, generator(), batch_size=batch_size)
    with pytest.raises(ValueError, match="symbols has 1 ids"):
        single_replacements(fine, tokens, 1, generator(), n_positions=1, same_symbol=False)
    wrong = [
        (lambda t: Outputs(t[:, 0].double(), None), r"values of shape \(1,\) for 1 inputs"),
        (lambda t: Outputs(t.repeat(2, 1).double(), None), r"values of shape \(2, 2\) for 1 inputs"),
        (lambda t: Outputs(t.double(), torch.zeros(3)), r"logits of shape \(3,\) for 1 inputs"),
        (lambda t: Outputs(t.double(), torch.zeros(2, 2, 3)), r"logits of shape \(2, 2, 3\) for 1 inputs"),
        (lambda t: Outputs(t.double(), torch.zeros(1, 3) if t.any() else None), "logits for some inputs only"),
    ]
    for outputs, told in wrong:
        with pytest.raises(ValueError, match=told):
            token_noise_stability(outputs, tokens, [-1.0], 2, generator(), same_symbol=False)
        with pytest.raises(ValueError, match=told):
            single_replacements(outputs, tokens, 2, generator(), n_positions=2, same_symbol=False)
