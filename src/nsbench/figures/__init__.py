"""Figures: tables in, a matplotlib Figure out. A module for each, with its caption; `template.py` starts your own.

Importing this registers all figures, which planning asks for their names: no matplotlib and no pandas until one is
drawn.
"""

from __future__ import annotations

import importlib

from nsbench.figures.registry import FIGURES, caption, figure, find, of_kind

_TRAINING = ("figure_05", "figure_06", "figure_11", "figure_12", "figure_13", "figure_14")
_GRIDS = ("sweep", "time_to_target", "grokking_gap", "arms", "specification_curve", "gradient_share", "fourier_weight")
_MODELS = (
    "sensitivity_by_architecture",
    "sensitivity_by_train_accuracy",
    "sensitivity_laws",
    "sensitivity_by_position",
)
_MODELS += ("sensitivity_robustness", "rank_agreement", "two_by_two", "sensitivity_grokking")
_THEORY = ("figure_02", "figure_03", "figure_04a", "figure_04b", "figure_09", "intervals", "kernels")
_PRETRAINED = ("figure_01", "figure_07")
for _name in (*_TRAINING, *_GRIDS, *_MODELS, *_THEORY, *_PRETRAINED):
    importlib.import_module(f"nsbench.figures.{_name}")

__all__ = ["FIGURES", "caption", "figure", "find", "of_kind"]
