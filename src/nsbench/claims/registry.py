"""The registry of numbers that a claim can ask for. Nothing here changes a number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from pydantic import create_model

from nsbench.claims.evidence import Evidence, Finding
from nsbench.config.base import Closed, ConfigError
from nsbench.config.registry import Registry

CHANGES_NO_RESULT = True


class Parameters(Closed):
    """What claims.yaml may say of several quantities alike: the fields of a subclass."""


class Quantity:
    """A number that a claim can ask for; `claim_quantity` describes what it is made of.

    parameters: the model of what claims.yaml may say of it. root: where its code is, as `module:function`.
    """

    def __init__(
        self, function: Callable[..., list[Finding]], extras: tuple[str, ...], source: str, all_needed: bool
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.extras, self.source, self.all_needed = function, extras, source, all_needed
        self.root = f"{function.__module__}:{function.__name__}"
        fields = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        types = [field.annotation for field in fields]
        self.takes_model = len(types) == 1 and isinstance(types[0], type) and issubclass(types[0], Parameters)
        self.parameters: type[Closed] = types[0] if self.takes_model else _model(function, fields)

    def measure(self, evidence: Evidence, parameters: Closed) -> list[Finding]:
        """One Finding per setting. Raises Missing where nothing can be said."""
        if self.takes_model:
            return self.function(evidence, parameters)
        return self.function(evidence, **dict(parameters))


def _model(function: Callable[..., list[Finding]], fields: list[inspect.Parameter]) -> type[Closed]:
    """A model of a function's parameters. Raises ConfigError for one without a type."""
    for field in fields:
        if field.annotation is field.empty:
            raise ConfigError(f"'{field.name}' of {function.__name__} has no type; one, as `rho: float`, is needed")
    types = {field.name: (field.annotation, ... if field.default is field.empty else field.default) for field in fields}
    return create_model(function.__name__, __base__=Parameters, __module__=function.__module__, **types)


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
