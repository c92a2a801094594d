"""The ledger of the paper's claims: `claims.yaml` says what is claimed and how it is judged, tables say what came out.

`ledger` is the stage; `definitions` reads the file; `conditions` turns a number into a verdict by a rule; `verdicts`
makes one verdict of several settings; `quantities` lists what a claim can ask for; `shown` is the ledger as text.
"""

from nsbench.claims.ledger import verdict_table, write_claims

__all__ = ["verdict_table", "write_claims"]
