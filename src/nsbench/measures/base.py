"""What a measure is: a function of a trained model and test data that gives numbers with their standard errors.

    @measure("logit_margin")
    def logit_margin(model, data, generator, settings):
        best_N2 = model(data["test_tokens"][: settings.n_inputs]).topk(2, -1).values
        return best_N2[..., 0] - best_N2[..., 1]

Planning imports this module, so torch is imported by what needs it, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nsbench.config.sections import Evaluation
from nsbench.config.variant import Noise

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nsbench.data.datasets import Dataset


@dataclass(frozen=True)
class Estimate:
    """A mean over inputs; `standard_error` is that of independent inputs, NaN for a single one."""

    measure: str
    reduction: str
    """Which of a measure's numbers it is."""
    rho: float
    """Of noise as Definition 6.1 has it; NaN for a measure without."""
    value: float
    standard_error: float
    n_inputs: int = 0
    n_draws: int = 1
    """Noisy copies of each input."""
    correlation: float = math.nan
    """Of an input's symbols and those of its noisy copy, for the value of the task's true function; NaN where there is
    no such noise, or where it leaves that function's domain."""


class MeasureSettings(Evaluation):
    """What a configuration says of measures: rho, n_inputs and n_draws; and the variant's noise."""

    noise: Noise


class Model(Protocol):
    """A checkpoint as a function, without gradients."""

    device: torch.device
    """Where it computes."""
    causal: bool
    """Whether an output depends on no later token."""

    def __call__(self, tokens_NT: Tensor) -> Tensor:
        """Logits (N, C), or (N, T, C) for a task with a target at each position, on the device of the token ids."""


Measure = Callable[[Model, "Dataset", "torch.Generator", MeasureSettings], "Tensor | Iterable[Estimate]"]
"""(model, data, generator, settings) -> a number for each input, or estimates.

data: the run's data set, `nsbench.data.datasets.Dataset`: `test_tokens` (N, T), `test_labels`, `symbols` ..., on the
CPU. A measure may work there: then the model's passes alone run on `model.device`.
generator: random numbers of this measure's own, on the CPU; the same at each checkpoint of a run.
Returns (N), or (N, T), of which each input's mean is taken: the one estimate has the measure's name and the reduction
`mean`. Or any number of Estimates. A value that depends on the variant's noise must have its rho.
"""
