"""Definition 6.1 against exhaustive enumeration, and the public API in a loop of one's own."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nsbench.regularizer.module import NoiseStabilityRegularizer
from nsbench.regularizer.stability import agreement
from nsbench.regularizer.term import LossTerm

U, LENGTH, CLASSES = 3, 2, 4


class Table(nn.Module):
    """A model that is a table: one row of logits for each of the U^2 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(U**LENGTH, CLASSES, generator=torch.Generator().manual_seed(1)))
        self.calls = 0
        self.seen: list[tuple[int, bool]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append((len(tokens), torch.is_grad_enabled()))
        return self.logits[tokens[:, 0] * U + tokens[:, 1]]


def exact(model: Table, x: tuple[int, int], rho: float, same_symbol: bool) -> float:
    """E <M(x), M(Y)> by summing over all Y with their chances."""
    keep = (1 + rho) / 2
    probabilities = model.logits.detach().double().softmax(-1)
    total = 0.0
    for y in itertools.product(range(U), repeat=LENGTH):
        chance = 1.0
        for a, b in zip(x, y, strict=True):
            if same_symbol:
                chance *= keep * (a == b) + (1 - keep) / U
            else:
                chance *= keep if a == b else (1 - keep) / (U - 1)
        total += chance * float(probabilities[x[0] * U + x[1]] @ probabilities[y[0] * U + y[1]])
    return total


@pytest.mark.parametrize("orientation", [0, 1])
@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("same_symbol", [True, False])
def test_mean_over_draws_agrees_with_enumeration(rho: float, orientation: int, same_symbol: bool) -> None:
    model, gamma, repeats = Table(), 0.75, 4000
    inputs = list(itertools.product(range(U), repeat=LENGTH))
    tokens = torch.tensor(inputs).repeat(repeats, 1)
    regularizer = NoiseStabilityRegularizer(rho, gamma, orientation, symbols=U, same_symbol=same_symbol)
    value = regularizer(model, tokens, generator=torch.Generator().manual_seed(2)).item()
    expected = sum(exact(model, x, rho, same_symbol) for x in inputs) / len(inputs)
    # A dot product of probabilities lies in [0, 1], so one draw has a standard deviation of at most 1/2.
    assert value == pytest.approx((-1) ** orientation * gamma * expected, abs=4 * gamma * 0.5 / math.sqrt(len(tokens)))
    assert value * (-1) ** orientation > 0


def test_logits_in_hand_save_the_clean_pass() -> None:
    model, tokens = Table(), torch.tensor([[0, 1], [2, 2]])
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=U, n_draws=3)
    with_pass = regularizer(model, tokens, generator=torch.Generator().manual_seed(3))
    assert model.calls == 4
    clean = model(tokens)
    model.calls = 0
    without = regularizer(model, tokens, generator=torch.Generator().manual_seed(3), clean_logits=clean)
    assert model.calls == 3
    assert torch.equal(with_pass, without)


@pytest.mark.parametrize("setting", ["gradient", "branch"])
@pytest.mark.parametrize(("through", "graded"), [("both", [1, 1]), ("clean", [1, 0]), ("noisy", [0, 1])])
def test_gradient_flows_through_the_branches_asked_for(setting: str, through: str, graded: list[int]) -> None:
    clean, noisy = (torch.randn(5, CLASSES, requires_grad=True) for _ in range(2))
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=U, **{setting: through})
    regularizer.penalty(clean, noisy).sum().backward()
    assert [logits.grad is not None and bool(logits.grad.any()) for logits in (clean, noisy)] == graded
    # A pass that needs no gradient is run without.
    model = Table()
    regularizer(model, torch.tensor([[0, 1], [2, 2]])).backward()
    assert [grad for _, grad in model.seen] == graded


def test_per_position_targets_apply_equation_6_at_each_place() -> None:
    clean, noisy = torch.randn(2, 3, CLASSES), torch.randn(2, 3, CLASSES)
    found = agreement(clean, noisy)
    assert found.shape == (2, 3)
    assert torch.allclose(found[1, 2], clean[1, 2].softmax(0) @ noisy[1, 2].softmax(0))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"rho": 1.5}, "rho = 1.5"),
        ({"gamma": -1.0}, "gamma = -1.0"),
        ({"orientation": 2}, "orientation = 2"),
        ({"gradient": "none"}, "gradient = 'none'"),
        ({"output": "odds"}, "output = 'odds'"),
        ({"n_draws": 0}, "n_draws = 0"),
        ({"n_draws": 1.5}, "n_draws = 1.5"),
        ({"every": 2.0}, "every = 2.0"),
        ({"share": math.nan}, "share = nan"),
        ({"branch": "none"}, "branch = 'none'"),
        ({"branch": "noisy", "gradient": "clean"}, "branch = 'noisy' does not go with gradient = 'clean'"),
    ],
)
def test_bad_settings_are_named(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        NoiseStabilityRegularizer(**{"rho": 0.25, "gamma": 0.75, "symbols": 3, **arguments})


# --- in a stranger's loop ---------------------------------------------------------------------------


def of_positions(tokens: Tensor) -> Tensor:
    """Logits (batch, position, class) of tokens below 9."""
    return TABLE[tokens]


TABLE = torch.randn(9, 9, generator=torch.Generator().manual_seed(0))
BATCH = torch.randint(0, 9, (4, 5), generator=torch.Generator().manual_seed(1))
CLEAN = of_positions(BATCH)


@pytest.mark.parametrize(
    ("clean_logits", "shape"),
    [
        (CLEAN[:1], r"\(1, 5, 9\)"),
        (CLEAN[:, -1], r"\(4, 9\)"),
        (CLEAN[:, -1:], r"\(4, 1, 9\)"),
        (CLEAN.flatten(0, 1), r"\(20, 9\)"),
        (CLEAN[..., :1], r"\(4, 5, 1\)"),
        (CLEAN.repeat(2, 1, 1), r"\(8, 5, 9\)"),
        (CLEAN[0, 0, 0], r"\(\)"),
        (CLEAN.long(), "torch.int64"),
        ((CLEAN,), "tuple"),
    ],
)
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_clean_logits_of_another_shape_are_refused_with_both(clean_logits: Any, shape: str, share: float) -> None:
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=9, share=share)
    message = rf"clean_logits has the shape {shape}; \(4, 5, 9\), that of the model's logits, is allowed"
    with pytest.raises(ValueError, match=message):
        regularizer(of_positions, BATCH, clean_logits=clean_logits)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda tokens: (None, of_positions(tokens)), "gives a tuple; logits are allowed, a tuple that begins with"),
        (lambda tokens: {"output": of_positions(tokens)}, "the model gives a dict; logits are allowed"),
        (lambda tokens: SimpleNamespace(logits=None), "the model gives a SimpleNamespace"),
        (lambda tokens: of_positions(tokens).flatten(0, 1), r"the shape \(20, 9\) for tokens of the shape \(4, 5\)"),
        (lambda tokens: of_positions(tokens).transpose(1, 2), r"shape \(4, 9, 5\) for tokens of the shape \(4, 5\)"),
        (lambda tokens: of_positions(tokens).transpose(0, 1), r"shape \(5, 4, 9\) for tokens of the shape \(4, 5\)"),
        (lambda tokens: of_positions(tokens)[:, 0, 0], r"torch.float32 of the shape \(4,\) for"),
        (lambda tokens: of_positions(tokens).argmax(-1), r"torch.int64 of the shape \(4, 5\) for"),
        (lambda tokens: of_positions(tokens)[:, 0, :1], r"shape \(4, 1\), \(..., class\); 2 classes or more"),
    ],
)
def test_a_model_s_output_that_are_no_logits_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=9)(model, BATCH)


def test_other_arguments_that_cannot_be_used_are_named() -> None:
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=9)
    with pytest.raises(ValueError, match=r"clean_logits has the shape \(4, 9\); \(1, 9\), that of noisy_logits"):
        regularizer.penalty(CLEAN[:, 0], CLEAN[:1, 0])
    for shape, tokens in ((r"\(0, 5\)", BATCH[:0]), (r"\(\)", BATCH[0, 0])):
        with pytest.raises(ValueError, match=rf"tokens has the shape {shape}; \(batch, position\) is needed"):
            regularizer(of_positions, tokens)
    for kind, logits in (("tuple", (CLEAN,)), ("torch.int64", BATCH)):
        with pytest.raises(ValueError, match=f"the logits are of {kind}; tensors of floating-point numbers"):
            regularizer.penalty(logits, logits)
    with pytest.raises(ValueError, match=r"symbols is 9.5 \(float\)"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=9.5)
    with pytest.raises(ValueError, match="the batch has tokens; input_ids are needed"):
        regularizer(of_positions, {"tokens": BATCH})
    with pytest.raises(ValueError, match=r"mask has the shape \(4, 4\); \(4, 5\), that of tokens, is allowed"):
        regularizer(of_positions, BATCH, mask=BATCH[:, :4] > 0)
    with pytest.raises(ValueError, match=r"labels has the shape \(4, 4\); \(4, 5\), that of the logits' places"):
        regularizer(of_positions, BATCH, labels=BATCH[:, :4])
    with pytest.raises(ValueError, match=r"special_ids is \['pad'\]"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=9, special_ids=["pad"])
    with pytest.raises(ValueError, match="symbols has 1 ids to draw; a redraw needs at least 2"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=3, special_ids=(0, 2), same_symbol=False)
    with pytest.raises(ValueError, match="symbols has the id -1; 0 or more is allowed"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=[-1, 2])
    with pytest.raises(ValueError, match=r"symbols has the id 300; tokens of torch\.uint8 allow 255"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=[2, 300]).resample(BATCH.to(torch.uint8))
    embedding = nn.Embedding(9, 9)
    embedding.get_input_embeddings = lambda: embedding
    with pytest.raises(ValueError, match=r"symbols has the id 9; the model has embeddings of 0 ... 8"):
        NoiseStabilityRegularizer(0.25, 0.75, symbols=10)(embedding, BATCH)


def test_one_output_is_allowed_where_it_is_the_logit_itself() -> None:
    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=9, output="logits")
    value = regularizer(lambda tokens: of_positions(tokens)[:, 0, :1], BATCH)
    assert value.item() == pytest.approx(-0.75 * CLEAN[:, 0, 0].square().mean().item())


# torch's own, of any autograd.Function that it compiles.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("symbols", [np.int64(9), torch.tensor([1, 2, 5, 6])])
def test_a_loop_is_compiled_whole(symbols: Any) -> None:
    """With rho = 1, so Y = X, for what is compared; with rho = -1 each redrawn token is a symbol."""
    table = TABLE.clone().requires_grad_()

    def gradient(loop: Any) -> Tensor:
        return torch.autograd.grad(loop(BATCH), table)[0]

    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=symbols, fixed_ids=[3])

    def model(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return table[input_ids] * attention_mask[..., None]

    def loop(tokens: Tensor) -> Tensor:
        batch = {"input_ids": tokens, "attention_mask": (tokens != 4).long(), "labels": tokens}
        return regularizer(model, batch, ignore_index=5, shift_labels=True)

    assert torch.equal(gradient(torch.compile(loop, backend="aot_eager", fullgraph=True)), gradient(loop))
    regularizer.rho = -1.0
    drawn = torch.compile(regularizer.resample, backend="eager", fullgraph=True)(BATCH)
    assert torch.equal(drawn[BATCH == 3], BATCH[BATCH == 3])
    assert not torch.equal(drawn, BATCH)
    assert set(drawn.flatten().tolist()) <= {3, *(range(9) if symbols.ndim == 0 else symbols.tolist())}


OUTPUTS = [
    lambda logits: (logits, None),
    lambda logits: {"loss": None, "logits": logits},
    lambda logits: SimpleNamespace(logits=logits),
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_batch_is_handed_on_without_its_labels(output: Any) -> None:
    """To a model that takes and gives what those of transformers do."""
    seen = []

    def model(input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Any:
        seen.append((len(input_ids), len(attention_mask), len(position_ids)))
        return output(of_positions(input_ids) * attention_mask[..., None] + position_ids[..., None])

    ones, places = torch.ones_like(BATCH), torch.arange(5)[None]
    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=9, share=0.5)
    batch = {"input_ids": BATCH, "attention_mask": ones, "labels": BATCH}
    found = regularizer(model, batch, position_ids=places)
    assert found.item() == pytest.approx(-0.75 * agreement(CLEAN[:2], CLEAN[:2]).mean().item())
    assert seen == [(2, 2, 1)] * 2


def test_the_mean_is_over_real_targets_and_pads_stay() -> None:
    """Two of the sequences end in pads, whose logits are NaN; of one the first tokens are no targets."""
    lengths = torch.tensor([5, 3, 2, 5])
    mask = torch.arange(5) < lengths[:, None]
    labels = BATCH.masked_fill(~mask, -100)
    labels[0, :3] = -100
    poisoned = TABLE.clone().requires_grad_()
    kept = NoiseStabilityRegularizer(-1.0, 0.75, symbols=9, special_ids=[8], same_symbol=False)
    drawn = kept.resample(BATCH, mask=mask)
    assert torch.equal(drawn != BATCH, mask & (BATCH != 8))
    assert not (drawn == 8)[BATCH != 8].any()

    def model(tokens: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.where(attention_mask[..., None], poisoned[tokens], math.nan)

    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=9)
    stable = -0.75 * agreement(CLEAN, CLEAN)
    shifted = torch.cat([labels[:, 1:], torch.full((4, 1), -100)], 1)
    for keywords, targets in (
        ({}, mask),
        ({"labels": labels}, labels != -100),
        ({"labels": labels, "shift_labels": True}, mask & (shifted != -100)),
        ({"labels": labels.where(mask, 7), "ignore_index": 7}, mask & (labels != 7)),
    ):
        found = regularizer(model, BATCH, attention_mask=mask, **keywords)
        assert found.item() == pytest.approx(stable[targets].mean().item())
        halves = [
            regularizer(
                model,
                BATCH[rows],
                attention_mask=mask[rows],
                n_targets=targets.sum(),
                **{key: value[rows] if key == "labels" else value for key, value in keywords.items()},
            )
            for rows in (slice(0, 1), slice(1, 4))
        ]
        assert sum(halves).item() == pytest.approx(found.item())
        (gradient,) = torch.autograd.grad(found, poisoned)
        assert gradient.isfinite().all()
        assert gradient.any()
    assert regularizer(model, BATCH, attention_mask=mask, labels=torch.full_like(BATCH, -100)).item() == 0


def test_a_seed_gives_the_draws_and_ranks_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    regularizer, drawn = NoiseStabilityRegularizer(-1.0, 0.75, symbols=1000), []
    for rank in (0, 1, 2):
        monkeypatch.setattr("nsbench.regularizer.module._rank_and_world", lambda rank=rank: (rank, 3))
        for _ in range(2):
            torch.manual_seed(5)
            drawn.append([regularizer.resample(BATCH) for _ in range(2)])
            assert torch.rand(()).item() == pytest.approx(torch.rand((), generator=after_two_numbers()).item())
    same = [[torch.equal(one[0], other[0]) for other in drawn] for one in drawn]
    assert same == [[i // 2 == j // 2 for j in range(6)] for i in range(6)]
    assert not any(torch.equal(*calls) for calls in drawn)
    torch.manual_seed(5)
    compiled = torch.compile(regularizer.resample, backend="eager", fullgraph=True)(BATCH)
    torch.manual_seed(5)
    everyones = [torch.rand((2, 3, *BATCH.shape), dtype=torch.float64)[1, rank] for rank in (2,)]
    assert torch.equal(compiled, (everyones[0] * 1000).long())


def after_two_numbers() -> torch.Generator:
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        torch.randint(2**62, (), generator=generator)
    return generator


def test_it_is_a_module_that_moves_and_leaves_no_state() -> None:
    model = nn.Module()
    model.regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=range(2, 5), special_ids=(3,))
    assert not model.state_dict()
    assert not list(model.parameters())
    assert model.half().regularizer.ids.tolist() == [2, 4]
    assert model.to("meta").regularizer.ids.is_meta


@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_value_and_gradient_of_float32(dtype: torch.dtype, output: str) -> None:
    """Over GPT-2's 50,257 classes, in a loop that scales its loss as float16 needs it."""
    weights = torch.randn(4, 50_257, generator=torch.Generator().manual_seed(0))
    tokens, regularizer = torch.arange(4)[:, None], NoiseStabilityRegularizer(-1.0, 1.0, symbols=4, output=output)
    values, gradients = [], []
    for kind in (torch.float32, dtype):
        table = weights.to(kind, copy=True).requires_grad_()
        value = regularizer(
            lambda ids, table=table: table[ids[:, 0]], tokens, generator=torch.Generator().manual_seed(1)
        )
        scale = 2.0**16 if output == "probabilities" else 1.0
        (value * scale).backward()
        values.append(value.item())
        gradients.append(table.grad.double())
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert gradients[0].norm() > 0
    assert (gradients[1] - gradients[0]).norm() < 0.02 * gradients[0].norm()


# --- at less cost -----------------------------------------------------------------------------------


def test_every_mth_step_keeps_the_mean_strength() -> None:
    model, tokens = Table(), torch.tensor([[0, 1], [2, 2], [1, 0]])
    plain = NoiseStabilityRegularizer(1.0, 0.75, symbols=U)(model, tokens).item()
    model.calls = 0
    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=U, every=4)
    values = [regularizer(model, tokens, step=step).item() for step in range(12)]
    assert [value != 0 for value in values] == [True, False, False, False] * 3
    assert sum(values) / 12 == pytest.approx(plain)
    assert model.calls == 6
    assert [regularizer.term.steps_due(steps) for steps in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="step is not given; with every = 4 it is needed"):
        regularizer(model, tokens)
    # Of an epoch and a part, say: it would act at no step, or at others than are meant.
    for step in (0.5, -4, math.nan):
        with pytest.raises(ValueError, match=rf"step = {step} is not a whole number of 0 or more"):
            regularizer(model, tokens, step=step)


def test_a_share_is_an_unbiased_estimate_and_runs_on_its_rows_alone() -> None:
    """With rho = 1, so Y = X, the mean over all turns of the batch is the mean over the batch."""
    model, tokens = Table(), torch.tensor([[0, 1], [2, 2], [1, 0], [1, 1], [2, 0]])
    plain = NoiseStabilityRegularizer(1.0, 0.75, symbols=U)(model, tokens)
    regularizer = NoiseStabilityRegularizer(1.0, 0.75, symbols=U, share=0.3)
    model.seen.clear()
    turned = [tokens.roll(turn, 0) for turn in range(5)]
    values = [regularizer(model, rows, clean_logits=model(rows)) for rows in turned]
    assert torch.stack(values).mean().item() == pytest.approx(plain.item())
    assert [size for size, _ in model.seen] == [5, 2] * 5
    assert len({round(value.item(), 6) for value in values}) > 1


@pytest.mark.parametrize(
    ("share", "batch", "size"), [(0.1, 256, 26), (0.1, 10, 1), (0.07, 100, 7), (0.001, 10, 1), (1.0, 7, 7), (0.5, 7, 4)]
)
def test_a_share_of_a_batch_is_rounded_up(share: float, batch: int, size: int) -> None:
    assert LossTerm(agreement, share=share).rows(batch) == size


def test_one_branch_has_the_gradient_of_both_where_the_inputs_are_uniform() -> None:
    """All X and Y with their chances: the exact mean gradient, of all inputs and of some."""
    inputs = list(itertools.product(range(U), repeat=LENGTH))
    keep = (1 + 0.25) / 2

    def gradient(branch: str, chosen: list[tuple[int, int]]) -> Tensor:
        model = Table().double()
        regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=U, branch=branch)
        total = torch.zeros((), dtype=torch.float64)
        for x, y in itertools.product(chosen, inputs):
            chance = math.prod(keep * (a == b) + (1 - keep) / U for a, b in zip(x, y, strict=True))
            logits = [model(torch.tensor([tokens])) for tokens in (x, y)]
            total = total + chance / len(chosen) * regularizer.penalty(*logits).sum()
        total.backward()
        return model.logits.grad

    for chosen, same in ((inputs, True), (inputs[:4], False)):
        both, clean, noisy = (gradient(branch, chosen) for branch in ("both", "clean", "noisy"))
        assert both.abs().max() > 1e-3
        assert torch.allclose(both, clean) == torch.allclose(both, noisy) == same
        assert torch.allclose(both, (clean + noisy) / 2)
