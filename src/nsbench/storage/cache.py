"""Where files are kept that runs of several folders share."""

from __future__ import annotations

import os
from pathlib import Path

CHANGES_NO_RESULT = True


def cache_folder() -> Path:
    """$NSBENCH_CACHE, $XDG_CACHE_HOME/nsbench or ~/.cache/nsbench: for what was fetched or converted once."""
    if given := os.environ.get("NSBENCH_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsbench"
