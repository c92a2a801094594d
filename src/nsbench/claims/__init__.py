"""The ledger of the paper's claims: `claims.yaml` says what is claimed and how it is judged, tables say what came out.

`ledger` is the stage; `definitions` reads the file; `conditions` turns a number into a verdict by a rule; `verdicts`
makes one verdict of several settings; `registry` has what a claim can ask for; `shown` is the ledger as text.
"""

from nsbench.claims import computed, curves, pretrained_models, simulations, specification_curves, training
from nsbench.claims.evidence import Evidence, Finding
from nsbench.claims.ledger import write_claims
from nsbench.claims.registry import claim_quantity

BUILT_IN = (computed, training, curves, specification_curves, simulations, pretrained_models)
"""The modules of the quantities of nsbench; a plug-in's are registered in the same way."""

__all__ = ["BUILT_IN", "Evidence", "Finding", "claim_quantity", "write_claims"]
