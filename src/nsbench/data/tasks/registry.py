"""The registry of all tasks. What a task makes is in its class; nothing here changes a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nsbench.config.registry import Registry, settings_class
from nsbench.data.tasks.base import Task

CHANGES_NO_RESULT = True

TASKS: Registry[type[Task]] = Registry("task")
"""All tasks that are known in this process, by name."""
T = TypeVar("T", bound=type[Task])


def task(name: str) -> Callable[[T], T]:
    """Register a class of task under the name that `tasks` of a configuration gives it.

    Raises ConfigError for a name that is taken or no name, and for a class that is no Task or lacks a method.
    """

    register = settings_class(TASKS, name, Task, ("make", "sequence_length", "symbol_count"), kinds=False)

    def titled(cls: T) -> T:
        made = register(cls)
        made.title = cls.title or name.replace("_", " ")
        return made

    return titled
