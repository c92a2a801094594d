"""Geometric influence against closed forms under N(0, I), and on a transformer by finite differences."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nsbench.measures import influence as influence_module
from nsbench.measures.gradients import Gradients, each_gradients
from nsbench.measures.influence import NORMS, Influences, PerInput, geometric_influences
from nsbench.theory import hermite_coefficients

N_INPUTS, LENGTH, WIDTH = 4000, 3, 4
SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return draw(N_INPUTS, LENGTH, WIDTH, seed=0).to(device)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def influences(f: Callable[..., Tensor], x: Tensor, *others: Tensor, batch_size: int = 500, **sites: Any) -> Influences:
    """Of a single readout."""
    (found,) = geometric_influences(lambda *given: [f(*given)], x, *others, batch_size=batch_size, **sites)
    return found


def assert_near(per_input_N: Tensor, exact: Tensor) -> None:
    """The mean over inputs, by its standard error."""
    exact, error = exact.cpu(), per_input_N.std(0) / math.sqrt(len(per_input_N))
    assert ((per_input_N.mean(0) - exact).abs() <= SURE * error).all()
    # An error so large that all would pass is none.
    assert (error <= 0.1 * exact).all()


def test_influence_of_a_linear_function_is_its_weights(x: Tensor) -> None:
    w = draw(LENGTH, WIDTH, seed=1).to(x)
    found = influences(lambda x: (w * x).sum((1, 2)), x).inputs
    w = w.cpu()
    for norm, exact in (("l1", w.abs().sum(-1)), ("l2", w.norm(dim=-1)), ("squared_l2", w.square().sum(-1))):
        torch.testing.assert_close(found[norm], exact.expand(N_INPUTS, -1))


def test_influence_of_a_quadratic_function_is_its_closed_form(x: Tensor) -> None:
    """f = x^T A x: df/dx_i = 2 (A x)_i ~ N(0, 4 |A_i|^2)."""
    a = draw(LENGTH * WIDTH, LENGTH * WIDTH, seed=2).to(x)
    a = a + a.T
    found = influences(lambda x: torch.einsum("ni,ij,nj->n", x.flatten(1), a, x.flatten(1)), x).inputs
    length2 = a.square().sum(1).view(LENGTH, WIDTH)
    mean = 2 * length2.sqrt() * math.sqrt(2 / math.pi)
    assert_near(found["l1"], mean.sum(-1))
    assert_near(found["l1"].sum(1), mean.sum())
    assert_near(found["squared_l2"], 4 * length2.sum(-1))
    assert_near(found["squared_l2"].sum(1), 4 * length2.sum())


def test_l2_influence_of_a_sum_of_squares_is_the_mean_of_a_chi(x: Tensor) -> None:
    """f = |x|^2 / 2 has gradient x: at a position of four coordinates a chi of 4 degrees, mean 3 sqrt(2 pi) / 4."""
    found = influences(lambda x: x.square().sum((1, 2)) / 2, x).inputs
    assert_near(found["l2"], torch.full((LENGTH,), 3 * math.sqrt(2 * math.pi) / 4, dtype=torch.float64))


def test_influence_of_a_relu_ridge_is_half_its_weights(x: Tensor) -> None:
    w = draw(LENGTH, WIDTH, seed=3).to(x)
    found = influences(lambda x: (w * x).sum((1, 2)).relu(), x).inputs
    w = w.cpu()
    assert_near(found["l1"], w.abs().sum(-1) / 2)
    assert_near(found["l2"], w.norm(dim=-1) / 2)
    assert_near(found["squared_l2"], w.square().sum(-1) / 2)


def test_squared_influence_under_gaussian_inputs_is_the_mean_degree(x: Tensor) -> None:
    """sum_k k W_k of the weights W_k of Hermite degrees: for x^3 = He_3 + 3 He_1, 3 x 6 + 1 x 9."""
    weights = hermite_coefficients(lambda x: x**3, 5) ** 2
    degrees = torch.arange(6, dtype=torch.float64).numpy()
    assert weights @ degrees == pytest.approx(27.0)
    found = influences(lambda x: x[:, 1, 2] ** 3, draw(40_000, 2, 3, seed=4).to(x), batch_size=5000).inputs
    assert_near(found["squared_l2"].sum(1), torch.tensor(weights @ degrees))
    assert not found["squared_l2"][:, 0].any()


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


def assert_same(found: Influences, other: Influences) -> None:
    def sites(all_of: Influences) -> dict[tuple[str, str], PerInput]:
        parts = {"inputs": {"": all_of.inputs}, "layers": all_of.layers, "heads": all_of.heads}
        return {(part, name): site for part, named in parts.items() for name, site in named.items()}

    assert sites(found).keys() == sites(other).keys()
    for name, site in sites(found).items():
        for norm in NORMS:
            torch.testing.assert_close(site[norm], sites(other)[name][norm], rtol=1e-12, atol=1e-14)


def test_influences_of_layers_and_heads_are_norms_of_their_gradients(x: Tensor, blocks: nn.Sequential) -> None:
    """By finite differences of a block's second half; the heads' norms are over their own two coordinates."""
    x, step = x[:6], 1e-6
    second = blocks[1]
    sites = {"layers": {"second": second}, "heads": {"second": (second.projection, 3)}}
    found = influences(lambda x: blocks(x).sum((1, 2)), x, **sites)
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
        torch.testing.assert_close(influence["l1"], gradient.abs().sum(-1), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(influence["l2"], gradient.norm(dim=-1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("batch_size", [1, 7, 20])
def test_readouts_measured_together_and_in_batches_have_the_influences_that_each_has_alone(
    x: Tensor, blocks: nn.Sequential, batch_size: int
) -> None:
    x, sizes = x[:20], []
    signs = torch.tensor([1.0, -2.0] * 10, dtype=x.dtype, device=x.device)
    sites = {"layers": dict(blocks.named_children()), "heads": {"1": (blocks[1].projection, 3)}}

    def f(x: Tensor, signs: Tensor) -> list[Tensor]:
        sizes.append(len(x))
        hidden = blocks(x)
        return [signs * hidden[:, -1, 0], hidden.norm(dim=(1, 2)), hidden.sum((1, 2))]

    together = geometric_influences(f, x, signs, **sites, batch_size=batch_size)
    assert sizes == {1: [1] * 20, 7: [7, 7, 6], 20: [20]}[batch_size]
    for index, found in enumerate(together):
        alone = influences(lambda x, signs, index=index: f(x, signs)[index], x, signs, **sites, batch_size=20)
        assert_same(found, alone)
        assert (found.inputs["l1"].shape, found.heads["1"]["l1"].shape) == ((20, LENGTH), (20, LENGTH, 3))
        assert found.inputs["l1"].sum() > 0.1


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
    geometric_influences(lambda x: x.square().sum(1).unbind(1), x[:6], batch_size=3)
    assert alive == [0] * 2 * WIDTH


@pytest.mark.parametrize("slope", [1e-30, 1e30])
def test_squares_that_float32_does_not_hold_are_right(slope: float) -> None:
    found = influences(lambda x: (torch.tensor(slope) * x).sum((1, 2)), torch.zeros(2, 3, 5)).inputs
    exact = torch.tensor(slope).item()
    assert found["squared_l2"][0].sum().item() == pytest.approx(15 * exact**2, rel=1e-12, abs=0.0)
    assert found["l2"][0].sum().item() == pytest.approx(3 * math.sqrt(5) * exact, rel=1e-12, abs=0.0)


def test_float32_gradients_are_added_up_in_float64() -> None:
    """100,000 coordinates of slope 0.1, which float32 adds up to six digits or so."""
    slope = torch.tensor(0.1)
    found = influences(lambda x: (slope * x).sum((1, 2)), torch.zeros(2, 1, 100_000)).inputs
    assert found["l1"].dtype == torch.float64
    assert found["l1"][0].item() == pytest.approx(100_000 * slope.item(), rel=1e-12)
