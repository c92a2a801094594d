"""What regularises a run: the arms that may stand in `config.yaml`.

Each class says all about its arm: its settings, how it reads in figures, what it costs, and what it adds to a training
step. The built-in kinds are registered as a user's own are (`nsbench.plugins`).
"""

from __future__ import annotations

from nsbench.arms import controls, grokfast, noise_stability, sensitivity
from nsbench.arms.base import Arm, Gamma, GradientFilter, LossTerm, Orientation, Rho
from nsbench.arms.registry import ARMS, AnyArm, arm, check, describe
from nsbench.config.base import Real

__all__ = ["ARMS", "AnyArm", "Arm", "Gamma", "GradientFilter", "LossTerm", "Orientation", "Real", "Rho", "arm", "check"]
__all__ += ["controls", "describe", "grokfast", "noise_stability", "sensitivity"]
