"""The regulariser in Lightning, in two processes and compiled: run by tests/wheel, as it takes long.

pytest tests/wheel/loops.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.test_integrations import (
    PAD,
    causal_model,
    expected_of_trainer,
    gradient_of,
    losses,
    of_trainer,
    recipe,
    regularizer,
)


def whole_sequences() -> dict[str, Tensor]:
    """Eight sequences without pads: all batches have as many targets."""
    tokens = torch.randint(PAD, (8, 8), generator=torch.Generator().manual_seed(2))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


def expected_of_lightning() -> Tensor:
    model = causal_model()
    sum(losses(whole_sequences(), model)).backward()
    return gradient_of(model)


def of_lightning(processes: int = 1, **settings: Any) -> Tensor:
    """The gradient of Lightning's first optimiser step over eight sequences, two at a time."""
    import lightning

    class Watch(lightning.Callback):
        def on_before_optimizer_step(self, trainer: Any, module: nn.Module, optimizer: Any) -> None:
            found.append(gradient_of(module.model))

    found: list[Tensor] = []
    of_all = whole_sequences()
    rows = [{key: value[row] for key, value in of_all.items()} for row in range(8)]
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    names = {
        "trainer": lightning.Trainer(
            max_steps=1,
            accelerator="cpu",
            devices=processes,
            accumulate_grad_batches=4 // processes,
            callbacks=[Watch()],
            **dict.fromkeys(quiet, False),
            **settings,
        ),
        "model": causal_model(),
        "regularizer": regularizer(),
        "loader": torch.utils.data.DataLoader(rows, batch_size=2),
        "lightning": lightning,
        "torch": torch,
    }
    exec(recipe("Lightning"), names)
    return found[0]


def test_lightning_accumulates_the_gradient_of_one_large_batch() -> None:
    whole = expected_of_lightning()
    assert torch.allclose(of_lightning(), whole, atol=1e-6)
    half = of_lightning(precision="bf16-mixed")
    assert 0 < (half - whole).norm() < 0.02 * whole.norm()


def test_a_compiled_model_has_the_same_gradient_in_trainer(tmp_path: Path) -> None:
    found = of_trainer(tmp_path, 2, torch_compile_backend="aot_eager")
    assert torch.allclose(found, expected_of_trainer(), atol=1e-6)


def test_two_processes_have_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    call = [sys.executable, "-W", "ignore", "-m", "tests.wheel.two_processes", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("rank")) == [
        "rank 0: as one large batch",
        "rank 1: as one large batch",
    ]
