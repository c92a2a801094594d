"""The regulariser in the loops of other libraries: gradients are those of one large batch.

What takes long, or libraries that `make install` does not bring, is in tests/wheel/loops.py.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from nsbench import NoiseStabilityRegularizer, integrations
from nsbench.regularizer.module import _shifts_labels

VOCABULARY, PAD = 13, 12
GAMMA = 100.0


def causal_model() -> nn.Module:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=PAD, **sizes
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def padded() -> dict[str, Tensor]:
    """Eight sequences of 2 to 8 tokens, filled with pads; the first begins with a prompt that is no target."""
    tokens = torch.randint(PAD, (8, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(8) < torch.tensor([8, 2, 5, 8, 3, 4, 7, 6])[:, None]
    tokens = tokens.where(mask, PAD)
    labels = tokens.masked_fill(~mask, -100)
    labels[0, :5] = -100
    return {"input_ids": tokens, "attention_mask": mask.long(), "labels": labels}


def rows(of: slice) -> dict[str, Tensor]:
    return {key: value[of] for key, value in padded().items()}


def regularizer() -> NoiseStabilityRegularizer:
    """With rho = 1, Y = X, so that the term is known."""
    return NoiseStabilityRegularizer(1.0, GAMMA, symbols=VOCABULARY, special_ids=[PAD])


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def losses(batch: dict[str, Tensor], model: nn.Module) -> tuple[Tensor, Tensor]:
    """Cross entropy and -gamma <p, p>, both over the targets of a batch."""
    batch = dict(batch)
    labels = batch.pop("labels")[:, 1:]
    logits = model(**batch).logits[:, :-1][labels != -100]
    return F.cross_entropy(logits, labels[labels != -100]), -GAMMA * logits.softmax(-1).square().sum(-1).mean()


def expected() -> Tensor:
    """The gradient over the targets of all eight sequences at once."""
    model = causal_model()
    sum(losses(padded(), model)).backward()
    return gradient_of(model)


def expected_of_trainer() -> Tensor:
    """Trainers of before 5.10 divide by the first tokens too."""
    labels = padded()["labels"]
    counted = labels if int(transformers.__version__.split(".")[0]) < 5 else labels[:, 1:]
    return expected() * ((labels[:, 1:] != -100).sum() / (counted != -100).sum())


def recipe(library: str) -> str:
    """The lines that the module's text has for a library."""
    text = integrations.__doc__.split(f"\nWith {library}", 1)[1].split("\n\n", 1)[1]
    return textwrap.dedent(re.split(r"\n(?=\S)", text)[0])


def of_trainer(folder: Path, batch_size: int, processes: int = 1, **settings: Any) -> Tensor:
    """The gradient of Trainer's first optimiser step over eight sequences."""
    AcceleratorState._reset_state(reset_partial_state=True)
    settings = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no", **settings}
    names = {
        "arguments": transformers.TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=8 // batch_size // processes,
            max_steps=1,
            learning_rate=0.0,
            max_grad_norm=0,
            **settings,
        ),
        "model": causal_model(),
        "texts": [{key: value[0] for key, value in rows(slice(row, row + 1)).items()} for row in range(8)],
        "regularizer": regularizer(),
    }
    found = []

    class Trainer(transformers.Trainer):
        def create_optimizer(self, *given: Any) -> Any:
            made = super().create_optimizer(*given)
            made.register_step_pre_hook(lambda *_: found.append(gradient_of(names["model"])))
            return made

    exec(recipe("Trainer"), names | {"Trainer": Trainer, "NoiseStabilityMixin": integrations.NoiseStabilityMixin})
    return found[0]


def test_trainer_accumulates_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    whole, model = expected_of_trainer(), causal_model()
    losses(padded(), model)[0].backward()
    assert (whole - gradient_of(model)).norm() > 0.1 * whole.norm()
    for batch_size in (8, 2):
        assert torch.allclose(of_trainer(tmp_path, batch_size), whole, atol=1e-6), batch_size
    half = of_trainer(tmp_path, 2, bf16=True)
    assert 0 < (half - whole).norm() < 0.02 * whole.norm()


def test_trainer_evaluates_the_plain_loss(tmp_path: Path) -> None:
    class StableTrainer(integrations.NoiseStabilityMixin, transformers.Trainer):
        pass

    model = causal_model()
    arguments = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    trainer = StableTrainer(model, arguments, regularizer=regularizer())
    parts = [loss.item() for loss in losses(padded(), model)]
    assert trainer.compute_loss(model.train(), padded()).item() == pytest.approx(sum(parts))
    assert trainer.compute_loss(model.eval(), padded()).item() == pytest.approx(parts[0])


def test_accelerate_accumulates_the_gradient_of_one_large_batch() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, model, found = (
        Accelerator(cpu=True, mixed_precision="no", gradient_accumulation_steps=4),
        causal_model(),
        [],
    )
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.0))
    optimizer.optimizer.register_step_pre_hook(lambda *_: found.append(gradient_of(model)))
    batches = [rows(slice(start, start + 2)) for start in range(0, 8, 2)]
    names = {"accelerator": accelerator, "model": model, "optimizer": optimizer, "regularizer": regularizer()}
    exec(recipe("accelerate"), {**names, "optimizer_steps": [batches, batches]})
    assert len(found) == 2
    for gradient in found:
        assert torch.allclose(gradient, expected(), atol=1e-6)


def test_the_causal_models_of_transformers_are_known() -> None:
    known = {name: _shifts_labels(type(name, (), {})()) for name in ("GPT2LMHeadModel", "PeftModelForCausalLM")}
    assert all(known.values())
    assert _shifts_labels(causal_model())
    assert _shifts_labels(torch.compile(nn.DataParallel(causal_model()), backend="eager"))
    assert not _shifts_labels(type("BertForMaskedLM", (), {"loss_type": "ForMaskedLM"})())
    assert not _shifts_labels(type("XLNetLMHeadModel", (), {"loss_type": None})())
