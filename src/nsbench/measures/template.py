"""The logit margin as a measure. Change it to yours; `nsbench.measures.base` documents all that a measure may give."""

from __future__ import annotations

from typing import Any

from nsbench import measure


@measure("my_kind")
def my_kind(model: Any, data: Any, generator: Any, settings: Any) -> Any:
    """The largest logit less the second largest: how sure a model is of its answer, for each input.

    model: token ids (N, T) to logits (N, C), or (N, T, C) for a task with a target at each position; without
    gradients. data: the run's data set: data["test_tokens"] (N, T), data["test_labels"], data["symbols"] ...
    generator: for random numbers, as torch.rand(..., generator=generator); the same at each checkpoint.
    settings: n_inputs, n_draws and rho of config.yaml's `evaluation`, and the variant's noise.

    Returns one number for each input, (N) or (N, T): nsbench takes the mean and its standard error. Or a list of
    nsbench.Estimate, for several numbers or another error.
    """
    # Where you need torch itself, import it here: planning reads this file too, and should stay fast.
    logits = model(data["test_tokens"][: settings.n_inputs])
    best_two = logits.topk(2, -1).values
    return best_two[..., 0] - best_two[..., 1]
