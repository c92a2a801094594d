"""Label smoothing as an arm. Change it to yours; each method below may be left out, or given more to do.

An arm adds a term to the loss (`loss_term`), replaces settings of the variant (`replaced`), or changes gradients
(`gradient_filter`). `nsbench.arms.base` documents all that an arm may say; the arms in its folder are examples.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nsbench import Arm, LossTerm, Real, arm


@arm("my_kind")
class MyKindArm(Arm):
    """strength x (the mean of -log p over all classes - that of the label) is added to the loss.

    So the loss becomes the cross entropy with smoothed labels (arXiv 1512.00567, section 7).
    """

    # Set this where the term looks at noisy copies of the examples, and add a field `rho: nsbench.arms.Rho`.
    draws_noise = False

    strength: Annotated[Real, Field(ge=0.0, le=1.0, title="ε")] = 0.1
    """A setting, with its range, its sign in figures (`title`) and its default; config.yaml sets it."""

    def describe(self) -> str:
        """The settings as figures show them. Left out: each field with its sign, as here."""
        return f"ε = {self.strength:g}"

    def check(self, variant: Any) -> None:
        """Whether the arm goes with a variant's settings (`variant.model`, `.optimizer`, `.training`, `.noise`).

        Raise ValueError with the setting, its value and what is allowed where it does not.
        """

    def passes(self, n_draws: int) -> float:
        """A step's cost in passes of the batch, forward and backward, for a job's limits of time. 1: no pass more."""
        return 1.0

    def loss_term(self, noise: Any) -> LossTerm:
        """What is added to the loss; None: nothing.

        `LossTerm(penalty, every=1, share=1.0, gradient="both", strength=1.0)`; noise: the variant's `noise`.
        """
        return LossTerm(self.penalty)

    def penalty(self, clean_logits: Any, noisy_logits: Any, labels: Any) -> Any:
        """The term of each example, in nats; its mean is added to the loss.

        clean_logits: (..., class). noisy_logits: those of the noisy copy, of the same shape; None without noise.
        labels: (...), whole numbers. Returns (...).
        """
        # Where you need torch itself, import it in the method: planning reads this file too, and should stay fast.
        logs = clean_logits.log_softmax(-1)
        of_label = logs.gather(-1, labels[..., None]).squeeze(-1)
        return self.strength * (of_label - logs.mean(-1))
