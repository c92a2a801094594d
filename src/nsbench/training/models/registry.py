"""The registry of all kinds of model. What a run computes is in the classes; nothing here changes a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

from nsbench.config.base import ConfigError, parse
from nsbench.config.registry import Registry, any_of, with_kind
from nsbench.training.models.base import Model

CHANGES_NO_RESULT = True

MODELS: Registry[type[Model]] = Registry("kind of model")
"""All kinds of model that are known in this process, by name."""
DEFAULT = "transformer"
"""The kind of settings that name none."""
M = TypeVar("M", bound=type[Model])


def model(kind: str) -> Callable[[M], M]:
    """Register a class of model under the name that `kind` of a model's settings gives it.

    Raises ConfigError for a name that is taken or no name, and for a class that is no Model or lacks a method.
    """

    def register(cls: M) -> M:
        MODELS.check_free(kind)
        if not (isinstance(cls, type) and issubclass(cls, Model)):
            raise ConfigError(f"'{kind}' registers {cls!r}; a subclass of nsbench.Model is allowed")
        for method in ("build", "n_weights", "activations"):
            if getattr(cls, method) is getattr(Model, method):
                raise ConfigError(f"'{kind}' has no {method}; a model needs this method")
        MODELS.add(kind, with_kind(cls, kind))
        return MODELS[kind]

    return register


def read_model(text: str) -> Model:
    """A model's settings from JSON, as a checkpoint has them. Raises ConfigError for what this code has no model of."""
    values = json.loads(text)
    return parse(MODELS.find(values.get("kind", DEFAULT), "model"), values, "model")


AnyModel = Annotated[Model, any_of(MODELS, default=DEFAULT)]
"""The type of a field that has the settings of a model of any registered kind."""
