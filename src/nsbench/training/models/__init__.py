"""Models that may stand in `config.yaml`. Each class is its settings and builds its stack.

Built-in ones are registered as a user's own are (`nsbench.plugins`).
"""

from __future__ import annotations

from nsbench.training.models.base import Model
from nsbench.training.models.baselines import CNN, LSTM, MLP, ConvMixer, ResNet
from nsbench.training.models.registry import MODELS, AnyModel, model, read_model
from nsbench.training.models.transformer import Transformer

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "MODELS",
    "AnyModel",
    "ConvMixer",
    "Model",
    "ResNet",
    "Transformer",
    "model",
    "read_model",
]
