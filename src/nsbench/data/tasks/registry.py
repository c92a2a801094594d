"""The registry of all tasks. What a task makes is in its class; nothing here changes a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nsbench.config.base import ConfigError
from nsbench.config.registry import Registry
from nsbench.data.tasks.base import Task

CHANGES_NO_RESULT = True

TASKS: Registry[type[Task]] = Registry("task")
"""All tasks that are known in this process, by name."""
T = TypeVar("T", bound=type[Task])


def task(name: str) -> Callable[[T], T]:
    """Register a class of task under the name that `tasks` of a configuration gives it.

    Raises ConfigError for a name that is taken or no name, and for a class that is no Task or lacks a method.
    """

    def register(cls: T) -> T:
        TASKS.check_free(name)
        if not (isinstance(cls, type) and issubclass(cls, Task)):
            raise ConfigError(f"'{name}' registers {cls!r}; a subclass of nsbench.Task is allowed")
        for method in ("make", "sequence_length", "symbol_count"):
            if getattr(cls, method) is getattr(Task, method):
                raise ConfigError(f"'{name}' has no {method}; a task needs this method")
        # Types that are not defined are an error here, not where settings are read.
        cls.model_rebuild()
        cls.title = cls.title or name.replace("_", " ")
        TASKS.add(name, cls)
        return cls

    return register
