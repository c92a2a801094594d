"""How many cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CHANGES_NO_RESULT = True

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Those that the process may run on, or fewer where its container has a quota of processor time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """The cores' worth of time that its control groups and those above allow, of version 1 and 2."""
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []:
        _, controllers, path = line.split(":", 2)
        if "cpu" not in (controllers or "cpu").split(","):
            continue
        top = GROUPS / "cpu" if controllers else GROUPS
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        # In a container the path may be that outside, and the top its own group.
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):
                quota, period = " ".join((top / group / file).read_text() for file in files).split()
                if quota.isdigit():  # no limit: max, or -1
                    yield int(quota) / int(period)
