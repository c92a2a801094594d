"""Splits of tasks whose examples are published ones: a pool of `train` and, where its authors made such a part, `test`.

Training and validation examples are cut from `train`, and test examples from `test`; without that part all are from
`train`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nsbench.data.tasks.base import SPLITS, Task


def _cuts(sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Part of the pool -> the splits that are cut from it."""
    return {"train": ("train", "val"), "test": ("test",)} if "test" in sizes else {"train": SPLITS}


def shortage(task: Task, sizes: Mapping[str, int], what: str, where: str = "") -> str:
    """Where a task wants more examples than there are, a sentence that says so, else nothing.

    sizes: of the pool's parts. what: the examples, as "images of MNIST". where: what stands before a setting's name.
    """
    for part, names in _cuts(sizes).items():
        wanted = sum(getattr(task, f"n_{name}") for name in names)
        if wanted > sizes[part]:
            listed = " + ".join(f"{where}n_{name}" for name in names)
            kind = {"train": "training ", "test": "test "}[part] if "test" in sizes else ""
            return f"{listed} = {wanted} is more than the {sizes[part]} {kind}{what}; at most {sizes[part]} is allowed"
    return ""


def drawn(task: Task, sizes: Mapping[str, int], random: np.random.Generator) -> dict[str, tuple[str, np.ndarray]]:
    """Split -> the part of the pool that it is cut from, and which of its examples: no example is in two splits."""
    found = {}
    for part, names in _cuts(sizes).items():
        order = random.permutation(sizes[part])
        for name in names:
            rows, order = np.split(order, [getattr(task, f"n_{name}")])
            found[name] = (part, rows)
    return found
