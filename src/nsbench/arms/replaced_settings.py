"""Controls that replace one setting of the variant: more dropout, more weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nsbench.arms.base import Arm
from nsbench.arms.registry import arm
from nsbench.config.base import Real

if TYPE_CHECKING:
    from nsbench.config.variant import Model, Optimizer


@arm("dropout")
class Dropout(Arm):
    """The variant's `model.dropout` is replaced."""

    family = "control"

    rate: Annotated[Real, Field(ge=0.0, le=0.99, title="dropout")]

    def replaced(self, model: Model, optimizer: Optimizer) -> tuple[Model, Optimizer]:
        return model.model_copy(update={"dropout": self.rate}), optimizer


@arm("weight_decay")
class WeightDecay(Arm):
    """The variant's `optimizer.weight_decay` is replaced, its convention kept."""

    family = "control"

    value: Annotated[Real, Field(ge=0.0, le=1000.0, title="weight decay")]

    def check(self, variant: Any) -> None:
        if variant.optimizer.weight_decay_convention == "per_step" and self.value >= 1:
            raise ValueError(
                f"value = {self.value:g} per step would erase the weights; below 1 is allowed with the variant's "
                "weight_decay_convention = 'per_step'"
            )

    def replaced(self, model: Model, optimizer: Optimizer) -> tuple[Model, Optimizer]:
        return model, optimizer.model_copy(update={"weight_decay": self.value})
