"""An estimate with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over inputs; `standard_error` is that of independent inputs, NaN for a single one."""

    measure: str
    reduction: str
    rho: float
    value: float
    standard_error: float


def estimate(measure: str, reduction: str, rho: float, per_input_N: Tensor) -> Estimate:
    """Mean and standard error of one number per input; draws of one input are averaged before."""
    values = per_input_N.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(measure, reduction, rho, values.mean().item(), error)
