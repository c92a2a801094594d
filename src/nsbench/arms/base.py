"""What an arm is: the settings and methods that each kind of arm has.

    @arm("logit_decay")
    class LogitDecay(Arm):
        strength: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.1

        def loss_term(self, noise: Noise) -> LossTerm:
            return LossTerm(self.penalty)

M(X) and M(Y) are a model's outputs for an example and for its noisy copy (Definition 6.1); what that definition leaves
open is the variant's `noise`, the same for all arms. Planning imports this module, so torch is imported by the methods
that need it, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field

from nsbench.config.base import Closed, Real
from nsbench.regularizer.term import LossTerm

if TYPE_CHECKING:
    from torch import Tensor

    from nsbench.config.variant import Noise, Optimizer

Rho = Annotated[Real, Field(ge=-1.0, le=1.0, title="ρ")]
OneOrRho = Annotated[Rho | None, Field(title="ρ")]
"""A rho, or null: then the noisy copy differs in one token."""
Gamma = Annotated[Real, Field(ge=0.0, le=1e6, title="γ")]
Orientation = Annotated[int, Field(ge=0, le=1, title="S")]
Family = Literal["paper", "cheaper", "control", "own"]
M = TypeVar("M", bound=Closed)


class GradientFilter(Protocol):
    """What an arm does to the gradients of a stack of runs, after the backward pass and before the optimiser.

    On a GPU `__call__` is captured as part of a CUDA graph: it works on tensors in place, and reads no value of them.
    """

    state: list[Tensor]
    """What the next step depends on: tensors with the runs along their first axis, zeros at the start. They are saved
    with a run's progress."""

    def __call__(self, step: Tensor) -> None:
        """Change `weight.grad` of each weight in place. step: its number (from 0), a tensor without axes."""


WORK = {"loss_term", "penalty", "replaced", "gradient_filter"}
"""The methods of an arm that training calls."""


class Arm(Closed):
    """An arm's settings, and all that the arm does. Every method has a default: an arm that does nothing.

    Of a run's random numbers, data, batches and initial weights none depends on the arm.
    """

    family: ClassVar[Family] = "own"
    """Where figures put the arm: the paper's own, the paper's at less cost, a control, or one of yours."""
    draws_noise: ClassVar[bool] = False
    """Whether the arm looks at noisy copies Y of the examples X. Such an arm has a field or constant `rho` (Definition
    6.1), and `noise.n_draws` copies of each example are drawn at every step that has its term."""
    per_run: ClassVar[frozenset[str]] = frozenset()
    """Fields in which runs that a GPU trains as one stack may differ: `rho`, and what goes into `LossTerm.strength`, or
    into the learning rate and the weight decay that `replaced` gives, alone."""

    kind: str
    """The name under which the class is registered."""

    def describe(self) -> str:
        """The settings as figures show them, each under its field's title or name: `ρ = 0.25, γ = 0.75`; a rho of null
        as `one token`."""
        fields = {name: field.title or name for name, field in type(self).model_fields.items() if name != "kind"}
        values = {name: getattr(self, name) for name in fields}
        one = {"rho": "one token"} if values.get("rho", 0.0) is None else {}
        return ", ".join(one.get(name, f"{sign} = {_short(values[name])}") for name, sign in fields.items())

    def stacked(self) -> dict[str, Any]:
        """The settings in which the runs of a stack agree: all but `per_run`.

        A class does not inherit it together with a method of WORK of its own: that may use these fields otherwise.
        """
        classes = type(self).__mro__
        derived = classes[: next(place for place, one in enumerate(classes) if "per_run" in vars(one))]
        changed = any(vars(one).keys() & WORK for one in derived)
        return self.model_dump(mode="json", exclude=set() if changed else set(self.per_run))

    def check(self, variant: Any) -> None:
        """Refuse settings of a variant that the arm cannot be trained with.

        variant: has `model`, `optimizer`, `training` and `noise`. Raises ValueError, its message naming the setting,
        its value and what is allowed.
        """

    def passes(self, n_draws: int) -> float:
        """A rough cost of a step in passes (forward and backward) of the whole batch, for limits of time and memory.

        n_draws: noisy copies of each example, of the variant's noise.
        """
        return 1.0 + n_draws * self.draws_noise

    def replaced(self, model: M, optimizer: Optimizer) -> tuple[M, Optimizer]:
        """The variant's settings with what the arm replaces of them."""
        return model, optimizer

    def loss_term(self, noise: Noise) -> LossTerm | None:
        """What the arm adds to the loss with a variant's noise; None: nothing."""
        return None

    def gradient_filter(self, weights: list[Tensor]) -> GradientFilter | None:
        """What the arm does to the gradients of a stack's weights, each (run, ...); None: nothing."""
        return None


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
