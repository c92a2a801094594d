"""Geometric influence against closed forms under N(0, I), and on a transformer by finite differences."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nsbench.measures import influence as influence_module
from nsbench.measures.batches import batches
from nsbench.measures.gradients import Gradients, each_gradients, submodules
from nsbench.measures.influence import NORMS, Influence, Mean, geometric_influence, geometric_influences
from nsbench.theory import hermite_coefficients

N_INPUTS, LENGTH, WIDTH = 4000, 3, 4
SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return draw(N_INPUTS, LENGTH, WIDTH, seed=0).to(device)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_near(found: Mean, exact: Tensor) -> None:
    exact = exact.cpu()
    assert found.value.shape == found.standard_error.shape == exact.shape
    assert (found.standard_error > 0).all()
    assert ((found.value - exact).abs() <= SURE * found.standard_error).all()
    # An error so large that all would pass is none.
    assert (found.standard_error <= 0.1 * exact).all()


def test_influence_of_a_linear_function_is_its_weights(x: Tensor) -> None:
    w = draw(LENGTH, WIDTH, seed=1).to(x)
    found = geometric_influence(lambda x: (w * x).sum((1, 2)), x).inputs
    w = w.cpu()
    exact = {"l1": w.abs().sum(-1), "l2": w.norm(dim=-1), "squared_l2": w.square().sum(-1)}
    torch.testing.assert_close(found.coordinates.value, w.abs())
    assert found.coordinates.standard_error.max() < 1e-15
    for norm in NORMS:
        torch.testing.assert_close(found.positions(norm).value, exact[norm])
        torch.testing.assert_close(found.total(norm).value, exact[norm].sum())
        assert found.positions(norm).standard_error.max() < 1e-15


def test_influence_of_a_quadratic_function_is_its_closed_form(x: Tensor) -> None:
    """f = x^T A x: df/dx_i = 2 (A x)_i ~ N(0, 4 |A_i|^2)."""
    a = draw(LENGTH * WIDTH, LENGTH * WIDTH, seed=2).to(x)
    a = a + a.T
    found = geometric_influence(lambda x: torch.einsum("ni,ij,nj->n", x.flatten(1), a, x.flatten(1)), x).inputs
    length2 = a.square().sum(1).view(LENGTH, WIDTH)
    mean = 2 * length2.sqrt() * math.sqrt(2 / math.pi)
    assert_near(found.coordinates, mean)
    assert_near(found.positions("l1"), mean.sum(-1))
    assert_near(found.total("l1"), mean.sum())
    assert_near(found.positions("squared_l2"), 4 * length2.sum(-1))
    assert_near(found.total("squared_l2"), 4 * length2.sum())
    # |g| of variance 4 |A_i|^2 - mean^2.
    spread = (4 * length2 - mean.square()).sqrt().cpu() / math.sqrt(N_INPUTS)
    torch.testing.assert_close(found.coordinates.standard_error, spread, rtol=0.05, atol=0)


def test_l2_influence_of_a_sum_of_squares_is_the_mean_of_a_chi(x: Tensor) -> None:
    """f = |x|^2 / 2 has gradient x: at a position of four coordinates a chi of 4 degrees, mean 3 sqrt(2 pi) / 4."""
    found = geometric_influence(lambda x: x.square().sum((1, 2)) / 2, x).inputs
    exact = torch.full((LENGTH,), 3 * math.sqrt(2 * math.pi) / 4, dtype=torch.float64)
    assert_near(found.positions("l2"), exact)
    assert_near(found.total("l2"), exact.sum())


def test_influence_of_a_relu_ridge_is_half_its_weights(x: Tensor) -> None:
    w = draw(LENGTH, WIDTH, seed=3).to(x)
    found = geometric_influence(lambda x: (w * x).sum((1, 2)).relu(), x).inputs
    w = w.cpu()
    assert_near(found.coordinates, w.abs() / 2)
    assert_near(found.positions("l1"), w.abs().sum(-1) / 2)
    assert_near(found.positions("l2"), w.norm(dim=-1) / 2)
    assert_near(found.positions("squared_l2"), w.square().sum(-1) / 2)
    # Positions rise and fall together: the error of their sum is the sum of their errors, not its root of squares.
    error = found.positions("l2").standard_error
    torch.testing.assert_close(error, w.norm(dim=-1) / (2 * math.sqrt(N_INPUTS)), rtol=0.01, atol=0)
    torch.testing.assert_close(found.total("l2").standard_error, error.sum())


def test_squared_influence_under_gaussian_inputs_is_the_mean_degree(x: Tensor) -> None:
    """sum_k k W_k of the weights W_k of Hermite degrees: for x^3 = He_3 + 3 He_1, 3 x 6 + 1 x 9."""
    weights = hermite_coefficients(lambda x: x**3, 5) ** 2
    degrees = torch.arange(6, dtype=torch.float64).numpy()
    assert weights @ degrees == pytest.approx(27.0)
    found = geometric_influence(lambda x: x[:, 1, 2] ** 3, draw(40_000, 2, 3, seed=4).to(x)).inputs
    assert_near(found.total("squared_l2"), torch.tensor(weights @ degrees))
    assert found.positions("squared_l2").value[0] == 0.0


def test_readouts_measured_together_have_their_closed_forms(x: Tensor) -> None:
    w, calls = draw(LENGTH, WIDTH, seed=1).to(x), []

    def f(x: Tensor) -> Tensor:
        calls.append(len(x))
        ridge = (w * x).sum((1, 2))
        return torch.stack([ridge, ridge.relu(), x.square().sum((1, 2)) / 2], 1)

    linear, relu, squares = (found.inputs for found in geometric_influences(f, x, batch_size=N_INPUTS // 2))
    assert calls == [N_INPUTS // 2] * 2
    w = w.cpu()
    torch.testing.assert_close(linear.positions("l2").value, w.norm(dim=-1))
    torch.testing.assert_close(linear.coordinates.value, w.abs())
    assert_near(relu.positions("l1"), w.abs().sum(-1) / 2)
    assert_near(relu.coordinates, w.abs() / 2)
    assert_near(squares.positions("squared_l2"), torch.full((LENGTH,), float(WIDTH), dtype=torch.float64))
    assert_near(squares.coordinates, torch.full((LENGTH, WIDTH), math.sqrt(2 / math.pi), dtype=torch.float64))


# --- batches, layers and heads -------------------------------------------------------------------------


class Block(nn.Module):
    """Mixes positions, through a projection of three concatenated heads of two."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.projection = nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH)

    def forward(self, hidden_states: Tensor) -> Tensor:
        weights = (hidden_states @ hidden_states.mT).softmax(-1)
        return hidden_states + self.projection((weights @ self.into(hidden_states)).tanh())


@pytest.fixture
def blocks(device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block()).double().to(device).eval().requires_grad_(False)


def assert_same(found: Influence, other: Influence, rtol: float = 1e-12) -> None:
    for norm in NORMS:
        torch.testing.assert_close(found.per_input[norm], other.per_input[norm], rtol=rtol, atol=1e-14)
    for one, two in zip(found.coordinates or (), other.coordinates or (), strict=True):
        torch.testing.assert_close(one, two, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("bound", [{"batch_size": 1}, {"batch_size": 7}, {"max_values": 5 * LENGTH * WIDTH}, {}])
def test_results_do_not_depend_on_the_batches(x: Tensor, blocks: nn.Sequential, bound: dict[str, int]) -> None:
    sizes: list[int] = []
    labels = torch.arange(20, device=x.device) % WIDTH

    def f(x: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(x))
        return blocks(x)[:, -1].log_softmax(-1)[torch.arange(len(x)), labels]

    sites = {"layers": submodules(blocks, ["0", "1"]), "heads": {"1": (blocks[1].projection, 3)}}
    found = geometric_influence(f, x[:20], labels, **sites, **bound)
    expected = {1: [1] * 20, 7: [7, 7, 6]}
    assert sizes == expected.get(bound.get("batch_size", 0), [5] * 4 if bound else [20])
    whole = geometric_influence(f, x[:20], labels, **sites, batch_size=20)
    assert_same(found.inputs, whole.inputs)
    assert found.layers.keys() == {"0", "1"}
    for name in found.layers:
        assert_same(found.layers[name], whole.layers[name])
    assert_same(found.heads["1"], whole.heads["1"])
    assert found.inputs.coordinates.value.shape == (LENGTH, WIDTH)
    assert found.layers["0"].coordinates is None


def test_influences_of_layers_and_heads_are_norms_of_their_gradients(x: Tensor, blocks: nn.Sequential) -> None:
    """By finite differences of a block's second half; the heads' norms are over their own two coordinates."""
    x, step = x[:6], 1e-6
    second = blocks[1]
    sites = {"layers": {"second": second}, "heads": {"second": (second.projection, 3)}}
    found = geometric_influence(lambda x: blocks(x).sum((1, 2)), x, **sites)
    hidden = blocks[0](x)
    heads = ((hidden @ hidden.mT).softmax(-1) @ second.into(hidden)).tanh()

    def slopes(f: object, at: Tensor) -> Tensor:
        gradient = torch.empty_like(at)
        for t in range(at.shape[1]):
            for c in range(at.shape[2]):
                moved = torch.zeros_like(at)
                moved[:, t, c] = step
                gradient[:, t, c] = (f(at + moved) - f(at - moved)) / (2 * step)
        return gradient

    by_layer = slopes(lambda h: second(h).sum((1, 2)), hidden).cpu()
    by_head = slopes(lambda a: (hidden + second.projection(a)).sum((1, 2)), heads).unflatten(-1, (3, 2)).cpu()
    for gradient, influence in ((by_layer, found.layers["second"]), (by_head, found.heads["second"])):
        torch.testing.assert_close(influence.per_input["l1"], gradient.abs().sum(-1), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(influence.per_input["l2"], gradient.norm(dim=-1), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(influence.positions("l1").value, gradient.abs().sum(-1).mean(0), rtol=1e-6, atol=0)
    assert found.heads["second"].positions("l2").value.shape == (LENGTH, 3)
    assert found.heads["second"].total("l2").value.shape == (3,)


@pytest.mark.parametrize("batch_size", [3, 20])
def test_readouts_measured_together_have_the_influences_that_each_has_alone(
    x: Tensor, blocks: nn.Sequential, batch_size: int
) -> None:
    x = x[:20]
    signs = torch.tensor([1.0, -2.0] * 10, dtype=x.dtype, device=x.device)
    sites = {"layers": submodules(blocks, ["0", "1"]), "heads": {"1": (blocks[1].projection, 3)}}

    def f(x: Tensor, signs: Tensor) -> tuple[Tensor, ...]:
        hidden = blocks(x)
        return signs * hidden[:, -1, 0], hidden.norm(dim=(1, 2)), hidden.sum((1, 2))

    together = geometric_influences(f, x, signs, **sites, batch_size=batch_size)
    assert len(together) == 3
    for index, found in enumerate(together):
        alone = geometric_influence(lambda x, signs, index=index: f(x, signs)[index], x, signs, **sites, batch_size=20)
        assert_same(found.inputs, alone.inputs)
        assert found.layers.keys() == {"0", "1"}
        for name in found.layers:
            assert_same(found.layers[name], alone.layers[name])
        assert_same(found.heads["1"], alone.heads["1"])
        assert found.inputs.total("l1").value > 0.1


def test_coordinates_may_be_left_out(x: Tensor) -> None:
    found, whole = (
        geometric_influences(lambda x: x.square().sum(-1), x[:9], batch_size=4, coordinates=kept)
        for kept in (False, True)
    )
    for one, other in zip(found, whole, strict=True):
        assert one.inputs.coordinates is None
        assert other.inputs.coordinates.value.shape == (LENGTH, WIDTH)
        for norm in NORMS:
            assert torch.equal(one.inputs.per_input[norm], other.inputs.per_input[norm])


def test_gradients_of_one_readout_are_let_go_before_the_next_are_computed(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[weakref.ref] = []
    alive: list[int] = []

    def noted(found: Gradients) -> Gradients:
        given.append(weakref.ref(found.inputs_NTC))
        return found

    def watched(*args: object, **keywords: object) -> Iterator[Gradients]:
        each = each_gradients(*args, **keywords)
        for _ in range(WIDTH):
            alive.append(sum(one() is not None for one in given))
            yield noted(next(each))

    monkeypatch.setattr(influence_module, "each_gradients", watched)
    geometric_influences(lambda x: x.square().sum(1), x[:6], batch_size=3)
    assert alive == [0] * 2 * WIDTH


@pytest.mark.parametrize("slope", [1e-30, 1e-20, 1e15, 1e30])
def test_squares_that_float32_does_not_hold_are_right(slope: float) -> None:
    found = geometric_influence(lambda x: (torch.tensor(slope) * x).sum((1, 2)), torch.zeros(2, 3, 5)).inputs
    exact = torch.tensor(slope).item()
    assert found.total("squared_l2").value.item() == pytest.approx(15 * exact**2, rel=1e-12, abs=0.0)
    assert found.total("l2").value.item() == pytest.approx(3 * math.sqrt(5) * exact, rel=1e-12, abs=0.0)


def test_float32_gradients_are_added_up_in_float64() -> None:
    """100,000 coordinates of slope 0.1, which float32 adds up to six digits or so."""
    slope = torch.tensor(0.1)
    found = geometric_influence(lambda x: (slope * x).sum((1, 2)), torch.zeros(2, 1, 100_000)).inputs
    assert found.per_input["l1"].dtype == torch.float64
    assert found.total("l1").value.item() == pytest.approx(100_000 * slope.item(), rel=1e-12)
    assert found.total("squared_l2").value.item() == pytest.approx(100_000 * slope.item() ** 2, rel=1e-12)


def test_one_input_has_no_standard_error() -> None:
    found = geometric_influence(lambda x: x.square().sum((1, 2)), torch.ones(1, 2, 3)).inputs
    assert found.total("l1").value.item() == pytest.approx(12.0)
    for mean in (found.coordinates, found.positions("l2"), found.total("squared_l2")):
        assert mean.standard_error.isnan().all()


def test_misuse_is_told() -> None:
    def f(x: Tensor, *others: Tensor) -> Tensor:
        return x.sum((1, 2))

    for shape in ((4, 3), (0, 2, 3)):
        with pytest.raises(ValueError, match="inputs_NTC of shape"):
            geometric_influence(f, torch.zeros(shape))
    with pytest.raises(ValueError, match="others has 3 entries for 4 inputs"):
        geometric_influence(f, torch.zeros(4, 2, 3), torch.zeros(3))
    found = geometric_influence(f, torch.zeros(4, 2, 3)).inputs
    with pytest.raises(ValueError, match="norm = 'l3' is not allowed"):
        found.total("l3")


def test_batches_hold_no_more_than_they_may() -> None:
    assert list(batches(7, 10, max_values=39)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(batches(7, 10, max_values=40)) == [slice(0, 4), slice(4, 7)]
    assert list(batches(6, 10, batch_size=3, max_values=1)) == [slice(0, 3), slice(3, 6)]
    with pytest.raises(ValueError, match="max_values = 9 is too small; one input takes 10 values"):
        batches(7, 10, max_values=9)
    with pytest.raises(ValueError, match="batch_size = 0 is not allowed"):
        batches(7, 10, batch_size=0)
