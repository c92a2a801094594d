"""The report's section on pretrained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nsbench.report.pretrained_rows as pretrained_rows
import nsbench.report.table_1_rows as table_1_rows
from nsbench.figures import of_kind
from nsbench.report.pictures import Pictures
from nsbench.schemas.pretrained import TABLES
from nsbench.storage.parquet import read_table


def section(folder: Path | str | None, pictures: Pictures) -> dict[str, Any]:
    """The rows of pretrained models, and their figures; empty where there are none.

    `folder` has the tables of pretrained_records.TABLES. Raises records.RecordError for a missing one.
    """
    if folder is None:
        return {}
    # The influences are for the figures alone.
    tables = {
        name: read_table(Path(folder) / f"{name}.parquet", schema)
        for name, schema in TABLES.items()
        if name != "pretrained_influence"
    }
    rows = pretrained_rows.Rows(tables["pretrained_models"], tables["pretrained_measured"])
    return {
        **pretrained_rows.section(rows, tables),
        **table_1_rows.section(rows, tables["table_1"]),
        "elsewhere": pictures.elsewhere(*of_kind("pretrained")),
        "figures": pictures.take(*of_kind("pretrained")),
    }
