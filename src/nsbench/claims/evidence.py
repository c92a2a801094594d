"""What the ledger looks at: the tables and records that are there, and what was found in one setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from nsbench.schemas.analysis import TABLES
from nsbench.schemas.pretrained import TABLES as PRETRAINED
from nsbench.schemas.theory import THEORY
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, HISTORY
from nsbench.storage.parquet import read_table

COMMANDS = {
    "training": "snakemake --cores all --resources gpu=1",
    "theory": "snakemake --cores all results/tables/theory.csv",
    "pretrained": "snakemake --cores all results/tables/table_1.csv",
}
"""Where a number comes from -> the command that makes it."""
_COLLECTED = {"history": HISTORY, "runs": COLLECTED_RUNS, "evaluation": EVALUATION}

COUNTS, ASIDE, BESIDE, STAND_IN, MISSING = "counts", "aside", "beside", "stand-in", "missing"
"""What a setting is to its claim: it counts; it was run and does not count; it is another reading, judged and shown
beside those that decide; it stands in for what the claim is about, which could not be had; it was not run."""


class Missing(Exception):
    """What a claim needs was not made; the message names it and the command that makes it."""

    def __init__(self, what: str, source: str) -> None:
        super().__init__(f"{what}; to make it: {COMMANDS[source]}")


@dataclass(frozen=True)
class Finding:
    """What was found in one setting.

    value, low, high: a number in the claim's unit and the ends of its interval; NaN where there is none.
    extras: further numbers that conditions may name. status: COUNTS, ASIDE, BESIDE, STAND_IN or MISSING, and `why`
    where it does not count or is missing. text: the text that data were cut from. task, variant: of the runs that it
    was found in; empty without.
    """

    setting: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int | None = None
    n_unit: str = ""
    extras: dict[str, float] = field(default_factory=dict)
    status: str = COUNTS
    why: str = ""
    text: str = ""
    note: str = ""
    task: str = ""
    variant: str = ""


@dataclass
class Evidence:
    """The tables and records of one configuration, read when they are asked for.

    tables: folder of the tables of `analyse`; collected: folder of `collect`; theory: theory.parquet; pretrained:
    folder of the tables of pretrained models; None: that part was left out. cells: the grid. scale: paper or demo.
    confidence: of intervals that the ledger makes itself; margin: the largest effect that counts as none;
    primary: the comparison (variant / arm) that decides about a task, where one is named. Partial work
    alone has `partial`, how much of the grid `cells` are, and `outdated`: `theory` or `pretrained`, whose files are of
    other settings or code.

    All methods raise Missing for a table that is not there, RecordError for one that is broken.
    """

    tables: Path | None
    collected: Path | None
    cells: list[dict[str, Any]]
    scale: str
    theory: Path | None = None
    pretrained: Path | None = None
    confidence: float = 0.95
    margin: float = 0.1
    primary: Mapping[str, str] = field(default_factory=dict)
    outdated: Collection[str] = ()
    partial: str = ""
    _read: dict[Path, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """A table of `analyse` by name."""
        return self._table(self.tables, name, TABLES[name], "training")

    def records(self, name: str) -> pd.DataFrame:
        """history, runs or evaluation of all runs."""
        return self._table(self.collected, name, _COLLECTED[name], "training")

    def theory_table(self) -> pd.DataFrame:
        """Formulas beside simulated points."""
        if self.theory is None:
            raise Missing("`theory: null` leaves the theory out", "theory")
        return self._table(self.theory.parent, self.theory.stem, THEORY, "theory")

    def pretrained_table(self, name: str) -> pd.DataFrame:
        """A table of pretrained models by name."""
        if self.pretrained is None:
            raise Missing("`pretrained: null` leaves pretrained models out", "pretrained")
        return self._table(self.pretrained, name, PRETRAINED[name], "pretrained")

    def _table(self, folder: Path | None, name: str, schema: pa.Schema, source: str) -> pd.DataFrame:
        if source in self.outdated:
            raise Missing(f"{name}.parquet was made with other settings or code", source)
        path = None if folder is None else folder / f"{name}.parquet"
        if path is None or not path.exists():
            raise Missing(f"{name}.parquet was not made", source)
        if path not in self._read:
            self._read[path] = read_table(path, schema)
        return self._read[path]
