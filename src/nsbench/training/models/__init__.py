"""Models that may stand in `config.yaml`, one module per architecture. Each class is its settings and builds its stack.

The built-in one is registered as a user's own are (`nsbench.plugins`).
"""

from __future__ import annotations

from nsbench.training.models.base import Model
from nsbench.training.models.registry import MODELS, AnyModel, model, read_model
from nsbench.training.models.transformer import Transformer

__all__ = ["MODELS", "AnyModel", "Model", "Transformer", "model", "read_model"]
