"""The stage `analyse`: from one set of records to tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.lead_lag import early_rank, lead_lag, onsets
from nsbench.analysis.measures import measures
from nsbench.analysis.scores import run_scores, score_effects, scores, text_labels
from nsbench.analysis.selection import selections
from nsbench.analysis.specification_curves import specification_shares, specifications
from nsbench.analysis.statistics import paired_effects, summarise_cells, time_to_target
from nsbench.analysis.statistics.power import power
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import read_table, write_table
from nsbench.storage.provenance import stamp

BOOTSTRAP_SEED = 0


def analyse(
    collected_folder: Path | str,
    cells: list[dict[str, Any]],
    settings: Analysis,
    out_folder: Path | str,
    spec: str,
    digest: str,
    partial: str = "",
) -> None:
    """Write the tables of TABLES, each as Parquet and as CSV.

    The bootstrap's seed is fixed and every table starts from it, so the same records give the same
    tables. Raises RecordError naming a run of the grid that is missing. partial: how much of the grid `cells` are, for
    the tables' stamp.
    """
    folder = Path(collected_folder)
    history = read_table(folder / "history.parquet", HISTORY)
    runs = read_table(folder / "runs.parquet", COLLECTED_RUNS)
    evaluation = read_table(folder / "evaluation.parquet", EVALUATION)
    floors = read_table(folder / "floors.parquet", FLOORS)
    times = time_to_target(history, runs, cells)
    onset = onsets(history, runs, cells, settings.onset_share)

    def bootstrap() -> tuple[float, int, np.random.Generator]:
        return settings.confidence, settings.n_resamples, np.random.default_rng(BOOTSTRAP_SEED)

    effects = paired_effects(times, runs, *bootstrap(), cells=cells)
    specified = specifications(effects, cells)
    made: dict[str, pd.DataFrame] = {
        "time_to_target": times,
        "cells": summarise_cells(times, settings.confidence),
        "paired_effect": effects,
        "kaplan_meier": kaplan_meier(times, settings.confidence),
        "power": power(times, settings.confidence),
        "score": scores(history, runs, evaluation, floors, cells),
        "score_effect": score_effects(run_scores(history, runs, evaluation, cells), runs, cells, *bootstrap()),
        "measure": measures(evaluation, runs, cells),
        "selection": selections(times, history, runs, evaluation, cells, *bootstrap()),
        "onset": onset,
        "lead_lag": lead_lag(onset, runs, cells, *bootstrap()),
        "early_rank": early_rank(history, runs, cells, settings.early_share, *bootstrap()),
        "specification": specified,
        "specification_share": specification_shares(specified),
    }
    provenance = stamp(spec, digest, partial=partial)
    labels = {
        "text": text_labels(runs, cells),
        "leaks": {(cell["task"], cell["variant"]): "; ".join(cell["leaks"]) for cell in cells},
    }
    for name, table in made.items():
        for label in [label for label in labels if label not in table]:
            variants = zip(table["task"], table["variant"], strict=True)
            table[label] = [labels[label][variant] for variant in variants]
        write_table(Path(out_folder) / f"{name}.parquet", table, TABLES[name], provenance)
        write_text(Path(out_folder) / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
