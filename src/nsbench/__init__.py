"""nsbench: does noise-stability regularisation work, and how would we know?

`nsbench.NoiseStabilityRegularizer` is the regulariser of Definition 6.1 for your own training loop.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {"NoiseStabilityRegularizer": "nsbench.regularizers", "resample_tokens": "nsbench.noise"}

__all__ = ["NoiseStabilityRegularizer", "resample_tokens"]


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for, so that `import nsbench` stays light."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'nsbench' has no attribute {name!r}")
