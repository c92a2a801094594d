"""The stage `analyse`: from one set of records to tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.analysis.lead_lag import early_rank, lead_lag, onsets
from nsbench.analysis.matched import matched_measures
from nsbench.analysis.matched_effects import matched_effects
from nsbench.analysis.rank_agreement import rank_agreement
from nsbench.analysis.scores import measures, run_scores, score_effects, scores
from nsbench.analysis.selection import selections
from nsbench.analysis.specification_curves import (
    curve_effects,
    specification_choices,
    specification_curves,
    specifications,
)
from nsbench.analysis.statistics import paired_effects, summarise_cells, time_to_target
from nsbench.analysis.statistics.power import power
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.analysis.statistics.times import grid_runs, of_runs, trails
from nsbench.config.cells import by_variant
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage.parquet import read_table, write_csv, write_table
from nsbench.storage.provenance import stamp


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

    The same records give the same tables. Raises RecordError naming a run of the grid that is missing. partial: how
    much of the grid `cells` are, for the tables' stamp.
    """
    folder = Path(collected_folder)
    history = read_table(folder / "history.parquet", HISTORY)
    runs = read_table(folder / "runs.parquet", COLLECTED_RUNS)
    evaluation = read_table(folder / "evaluation.parquet", EVALUATION)
    floors = read_table(folder / "floors.parquet", FLOORS)
    times = time_to_target(history, runs, cells)
    every = trails(history, runs, cells)
    onset, scored = onsets(every, settings.onset_share), run_scores(every, runs, evaluation)

    effects = paired_effects(times, runs, settings, cells)
    matched = matched_measures(every, evaluation, cells)
    specified = specifications(curve_effects(times, runs, cells, settings), cells)
    made: dict[str, pd.DataFrame] = {
        "time_to_target": times,
        "cells": summarise_cells(times, settings.confidence),
        "paired_effect": effects,
        "kaplan_meier": kaplan_meier(times, settings.confidence),
        "power": power(times, settings, cells),
        "score": scores(scored, floors, cells),
        "score_effect": score_effects(scored, cells, settings.confidence),
        "measure": measures(evaluation, cells),
        "selection": selections(times, scored, evaluation, cells, settings.confidence),
        "onset": onset,
        "lead_lag": lead_lag(onset, cells, 1 - settings.looks.alpha),
        "early_rank": early_rank(every, times, cells, settings),
        "specification": specified,
        "specification_curve": specification_curves(specified, times, settings.confidence),
        "specification_choice": specification_choices(specified, times, settings.confidence),
        "matched_measure": matched,
        "matched_effect": matched_effects(matched, cells, settings),
        "rank_agreement": rank_agreement(matched, cells, settings.confidence),
    }
    provenance = stamp(spec, digest, partial=partial)
    texts, groups = of_runs(runs, "text", cells), by_variant(cells)
    labels = {
        "text": {name: "; ".join(sorted({texts[key] for key in grid_runs(group)})) for name, group in groups.items()},
        "leaks": {name: "; ".join(group[0]["leaks"]) for name, group in groups.items()},
    }
    for name, table in made.items():
        if "variant" in table:
            variants = list(zip(table["task"], table["variant"], strict=True))
            table = table.assign(**{label: [of[variant] for variant in variants] for label, of in labels.items()})
        elif "curve" not in table:
            of_task = {task: labels["text"][task, variant] for task, variant in reversed(groups)}
            table = table.assign(text=table["task"].map(of_task), leaks="")
        table = table[TABLES[name].names]
        write_table(Path(out_folder) / f"{name}.parquet", table, TABLES[name], provenance)
        write_csv(Path(out_folder) / f"{name}.csv", table)
