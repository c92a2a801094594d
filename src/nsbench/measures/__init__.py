"""Measures of a model: functions of any callable from tokens to logits, and of inputs.

Those on checkpoints are registered by name; a user's own are added as the built-in ones are (`nsbench.plugins`).
"""

from nsbench.measures import built_in
from nsbench.measures.base import Estimate, Measure, MeasureSettings
from nsbench.measures.registry import MEASURES, measure

__all__ = ["MEASURES", "Estimate", "Measure", "MeasureSettings", "built_in", "measure"]
