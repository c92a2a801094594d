"""The registry of numbers that a claim can ask for. Nothing here changes a number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import create_model

from nsbench.claims.evidence import Evidence, Finding
from nsbench.config.base import Closed, ConfigError
from nsbench.config.registry import Registry

CHANGES_NO_RESULT = True


class Parameters(Closed):
    """What claims.yaml may say of several quantities alike: the fields of a subclass."""


class Quantity:
    """A number that a claim can ask for; `claim_quantity` describes what it is made of.

    parameters: the model of what claims.yaml may say of it.
    """

    def __init__(
        self, function: Callable[..., list[Finding]], extras: tuple[str, ...], source: str, all_needed: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.extras, self.source, self.all_needed = function, extras, source, all_needed
        fields = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        for field in fields:
            if field.annotation is field.empty:
                raise ConfigError(f"'{field.name}' of {function.__name__} has no type; one, as `rho: float`, is needed")
        self.takes_model = len(fields) == 1 and _is_model(fields[0].annotation)
        self.parameters: type[Closed] = (
            fields[0].annotation
            if self.takes_model
            else create_model(
                function.__name__,
                __base__=Parameters,
                __module__=function.__module__,
                **{
                    field.name: (field.annotation, ... if field.default is field.empty else field.default)
                    for field in fields
                },
            )
        )

    @property
    def root(self) -> str:
        """Where its code is, as `module:function`."""
        return f"{self.function.__module__}:{self.function.__name__}"

    def measure(self, evidence: Evidence, parameters: Closed) -> list[Finding]:
        """One Finding per setting. Raises Missing where nothing can be said."""
        if self.takes_model:
            return self.function(evidence, parameters)
        return self.function(evidence, **dict(parameters))


QUANTITIES: Registry[Quantity] = Registry("claim quantity")
"""All that a claim can ask for, by name."""


def claim_quantity(
    name: str, *extras: str, source: str = "training", all_needed: bool = False
) -> Callable[[Callable[..., list[Finding]]], Quantity]:
    """Register a function of the evidence that finds a number in one or more settings, as `name` in claims.yaml.

    Its further parameters, with their types, are what claims.yaml may say of it; or the fields of its one parameter
    that is a Parameters. It returns one Finding per setting and raises Missing where nothing can be said.

    extras: the names of every Finding's extras, which conditions may use. source: where the number comes from,
    `training`, `theory` or `pretrained`; empty: computed from formulas, at no scale. all_needed: its settings are named
    things (tasks, models) that must all be there; without one the claim is reproduced partly at most.

    Raises ConfigError for a name that is taken or no name, and for a parameter without a type.
    """

    def register(function: Callable[..., list[Finding]]) -> Quantity:
        QUANTITIES.add(name, Quantity(function, extras, source, all_needed))
        return QUANTITIES[name]

    return register


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Parameters)
