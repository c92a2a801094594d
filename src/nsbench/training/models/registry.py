"""The registry of all kinds of model. What a run computes is in the classes; nothing here changes a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

from nsbench.config.base import parse
from nsbench.config.registry import Registry, any_of, settings_class
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

    return settings_class(MODELS, kind, Model, ("build", "n_weights", "activations"))


def read_model(text: str) -> Model:
    """A model's settings from JSON, as a checkpoint has them. Raises ConfigError for what this code has no model of."""
    values = json.loads(text)
    return parse(MODELS.find(values.get("kind", DEFAULT), "model"), values, "model")


AnyModel = Annotated[Model, any_of(MODELS, default=DEFAULT)]
"""The type of a field that has the settings of a model of any registered kind."""
