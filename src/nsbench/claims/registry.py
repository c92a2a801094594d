"""The registry of numbers that a claim can ask for. Nothing here changes a number."""

from __future__ import annotations

import functools
from collections.abc import Callable

from nsbench.claims.evidence import Finding
from nsbench.config.base import Closed, ConfigError
from nsbench.config.registry import Registry

CHANGES_NO_RESULT = True


class Parameters(Closed):
    """What claims.yaml may say of a quantity: nothing, or the fields of a subclass."""


class Quantity:
    """A number that a claim can ask for.

    measure: (Evidence, parameters) -> one Finding per setting; raises Missing where nothing can be said. The others are
    described in `claim_quantity`.
    """

    def __init__(
        self,
        measure: Callable[..., list[Finding]],
        parameters: type[Parameters],
        extras: tuple[str, ...],
        source: str,
        all_needed: bool,
    ) -> None:
        functools.update_wrapper(self, measure)
        self.measure, self.parameters, self.extras = measure, parameters, extras
        self.source, self.all_needed = source, all_needed


QUANTITIES: Registry[Quantity] = Registry("claim quantity")
"""All that a claim can ask for, by name."""


def claim_quantity(
    name: str,
    parameters: type[Parameters] = Parameters,
    *extras: str,
    source: str = "training",
    all_needed: bool = False,
) -> Callable[[Callable[..., list[Finding]]], Quantity]:
    """Register a function (Evidence, parameters) -> list[Finding] under the name that claims.yaml gives it.

    extras: the names of every Finding's extras, which conditions may use. source: where the number comes from,
    `training`, `theory` or `pretrained`; empty: computed from formulas, at no scale. all_needed: its settings are named
    things (tasks, models) that must all be there; without one the claim is reproduced partly at most.

    Raises ConfigError for a name that is taken or no name, and for parameters that are no Parameters.
    """

    def register(measure: Callable[..., list[Finding]]) -> Quantity:
        if not (isinstance(parameters, type) and issubclass(parameters, Parameters)):
            raise ConfigError(
                f"'{name}' has the parameters {parameters!r}; a subclass of nsbench.Parameters is allowed"
            )
        quantity = Quantity(measure, parameters, extras, source, all_needed)
        QUANTITIES.add(name, quantity)
        return quantity

    return register
