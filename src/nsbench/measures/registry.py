"""The registry of measures on checkpoints. What they compute is in the functions; nothing here changes a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nsbench.config.base import ConfigError
from nsbench.config.registry import Registry
from nsbench.measures.base import Measure

CHANGES_NO_RESULT = True

MEASURES: Registry[Measure] = Registry("measure")
"""All measures that are known in this process, by the name that `evaluation.measures` lists."""
M = TypeVar("M", bound=Measure)


def measure(name: str) -> Callable[[M], M]:
    """Register a function as a measure (`nsbench.measures.base.Measure`) under a name.

    Raises ConfigError for a name that is taken or no name, and for what is no function of a module.
    """

    def register(function: M) -> M:
        if not (callable(function) and hasattr(function, "__name__")):
            raise ConfigError(f"'{name}' registers {function!r}; a function is allowed")
        MEASURES.add(name, function)
        return function

    return register
