"""The ledger of the papers' claims: `claims.yaml` says what is claimed and how it is judged, tables say what came out.

`ledger` is the stage; `definitions` reads the file; `conditions` applies a rule to numbers; `verdicts` makes one
verdict of several settings; `registry` has what a claim can ask for, the other modules register it.
"""

from nsbench.claims import (  # noqa: F401
    architectures,
    computed,
    curves,
    low_sensitivity,
    pretrained_models,
    progress,
    rankings,
    simulations,
    sweeps,
    training,
)
from nsbench.claims.evidence import Evidence, Finding
from nsbench.claims.ledger import write_claims
from nsbench.claims.registry import QUANTITIES, claim_quantity

__all__ = ["QUANTITIES", "Evidence", "Finding", "claim_quantity", "write_claims"]
