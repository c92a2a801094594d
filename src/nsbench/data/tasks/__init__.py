"""The tasks that may stand in `config.yaml`, one module each: settings, data, and what is known of the true function.

The built-in ones are registered as a user's own are (`nsbench.workflow.plugins`).
"""

from __future__ import annotations

from nsbench.data.tasks import (
    cifar10,
    digits,
    fashion_mnist,
    glue,
    mnist,
    modular_addition,
    movie_snippets,
    next_token,
    sparse_parity,
    token_mixture,
)
from nsbench.data.tasks.base import Task, split
from nsbench.data.tasks.registry import TASKS, task

__all__ = [
    "TASKS",
    "Task",
    "cifar10",
    "digits",
    "fashion_mnist",
    "glue",
    "mnist",
    "modular_addition",
    "movie_snippets",
    "next_token",
    "sparse_parity",
    "split",
    "task",
    "token_mixture",
]
