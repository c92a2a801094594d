"""nsbench: does noise-stability regularisation work, and how would we know?

`nsbench.NoiseStabilityRegularizer` is the regulariser of Definition 6.1 for your own training loop (torch alone);
`nsbench.measure(model, tokenizer, texts)` measures a language model; `nsbench.arm`, `nsbench.task`, `nsbench.model`,
`nsbench.measure` (with a name alone) and `nsbench.figure` register what is your own (`nsbench new`),
`nsbench.claim_quantity` what a claim asks for (docs/claims.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbench.arms import Arm, LossTerm, Real, arm
    from nsbench.claims import Evidence, Finding, claim_quantity
    from nsbench.config.shape import Shape
    from nsbench.data.tasks import Task, task
    from nsbench.figures import figure
    from nsbench.measures import Estimate
    from nsbench.perturbations.tokens import resample_tokens
    from nsbench.regularizer.module import NoiseStabilityRegularizer
    from nsbench.report.measure import measure
    from nsbench.training.models import Model, model
    from nsbench.training.models.stack import Stack

__version__ = "0.1.0"

_PUBLIC = {
    "NoiseStabilityRegularizer": "nsbench.regularizer.module",
    "resample_tokens": "nsbench.perturbations.tokens",
    **dict.fromkeys(("Arm", "LossTerm", "Real", "arm"), "nsbench.arms"),
    **dict.fromkeys(("Task", "task"), "nsbench.data.tasks"),
    **dict.fromkeys(("Model", "model"), "nsbench.training.models"),
    "Stack": "nsbench.training.models.stack",
    "Shape": "nsbench.config.shape",
    **dict.fromkeys(("Evidence", "Finding", "claim_quantity"), "nsbench.claims"),
    "Estimate": "nsbench.measures",
    "measure": "nsbench.report.measure",
    "figure": "nsbench.figures",
}

__all__ = [
    "Arm",
    "Estimate",
    "Evidence",
    "Finding",
    "LossTerm",
    "Model",
    "NoiseStabilityRegularizer",
    "Real",
    "Shape",
    "Stack",
    "Task",
    "arm",
    "claim_quantity",
    "figure",
    "measure",
    "model",
    "resample_tokens",
    "task",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for, so that `import nsbench` stays light."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'nsbench' has no attribute {name!r}")
