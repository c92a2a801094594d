"""Import of finished runs into MLflow: a view of the Parquet files, which stay the source.

`importer` is the stage; `content` reads what MLflow gets of a run; `stores` reaches a store and says what is wrong
with one; `clones` keeps the runs of results folders apart. Which store is meant is `nsbench.config.tracking_uri`'s.
"""

from nsbench.tracking.importer import TrackSummary, track
from nsbench.tracking.stores import TrackingError

__all__ = ["TrackSummary", "TrackingError", "track"]
