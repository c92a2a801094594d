"""All numbers that a claim can ask for, by name.

To add one: a function, its parameters and a line in the QUANTITIES of its module.
"""

from __future__ import annotations

from nsbench.claims.computed import QUANTITIES as COMPUTED
from nsbench.claims.computed_layers import QUANTITIES as OF_LAYERS
from nsbench.claims.curves import QUANTITIES as OF_CURVES
from nsbench.claims.evidence import Quantity
from nsbench.claims.pretrained_models import QUANTITIES as PRETRAINED
from nsbench.claims.simulations import QUANTITIES as SIMULATED
from nsbench.claims.specification_curves import QUANTITIES as OF_SPECIFICATIONS
from nsbench.claims.training import QUANTITIES as TRAINED

QUANTITIES: dict[str, Quantity] = {
    **COMPUTED,
    **OF_LAYERS,
    **TRAINED,
    **OF_CURVES,
    **OF_SPECIFICATIONS,
    **SIMULATED,
    **PRETRAINED,
}
