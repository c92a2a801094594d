"""Whether stability moves before validation loss (section J.2): pure functions of DataFrames.

Two readings of "leading indicator". `onsets` and `lead_lag`: in a run, does the stability curve begin
to move before the loss curve does? `early_rank`: over runs, does early stability predict which run
will reach its target sooner, and better than the validation loss at the same step? The grid is handed in as
`cells` (see `nsbench.analysis.statistics`), with `settings` beside, and its runs as `statistics.times.trails` gives
them; rows come out in its order, their column `text` empty: `tables.analyse` fills it. Onsets need curves that go on to
the budget: runs that `training.stop` ended early are left out, and the notes say so.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.intervals import shared_notes, typical
from nsbench.analysis.statistics.ranks import percentile_interval, resamples, spearman
from nsbench.analysis.statistics.times import CELL_KEYS, RUN_KEYS, RunKey, Trail, grid_runs, quantile
from nsbench.arms import ARMS
from nsbench.config.cells import by_variant
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import EARLY_RANK, LEAD_LAG, ONSET
from nsbench.schemas.metrics import METRICS, Metric


class Series(NamedTuple):
    """A series of a history whose onset is asked for."""

    direction: str
    """As `onset` takes it."""
    first: int = 0
    """Its first evaluation with a value."""
    rival: bool = False
    """Whether it is no stability, but what anybody could look at as well."""


SERIES = {
    "stability": Series("either"),
    "stability_cosine": Series("either"),
    "decision_agreement": Series("either"),
    "train_loss": Series("down", first=1, rival=True),
    "output_entropy": Series("either", rival=True),
    "weight_norm": Series("either", rival=True),
}
"""Column of HISTORY -> how its onset is found. Definition 6.1's dot product is of second order in a small coefficient
of the target, as the decisions' agreement is not."""
GROUPS = ("baseline", "all arms")
NOT_THERE = "none in its history"
"""Why a run has no onset of a series: of stability, it is shared with a variant of other noise
(`nsbench.workflow.grid.Cell.shares`)."""


def onset(steps: np.ndarray, values: np.ndarray, share: float, direction: str) -> float:
    """First of `steps` (evaluations,) at which a curve has made `share` of its change; NaN if undefined.

    `direction` "either": the change is the largest departure of `values` (evaluations,) from the
    first, upwards or downwards, and departures the other way do not count. "down": it is the fall
    from the first value to the lowest. NaN where there is no such change or a value is not finite.
    Source: "begins to decrease" in section J.2, made exact.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        return math.nan
    departures = values - values[0]
    change = departures[np.abs(departures).argmax()] if direction == "either" else departures.min()
    if change == 0:
        return math.nan
    return float(steps[(departures * np.sign(change) >= share * abs(change)).argmax()])


def onsets(every: dict[RunKey, Trail], share: float) -> pd.DataFrame:
    """When each of SERIES and the validation loss begin to move, for every run: columns of ONSET, `status` and `lacks`.

    `lacks`: whether the run does not have the series. A run that diverged has no onsets, nor has one that was stopped
    early: a share of its whole change is not known.
    """
    rows = []
    for key, trail in every.items():
        gone = {"diverged": "diverged", "stopped": "stopped at the target"}.get(trail.status, "")
        steps, losses = trail.rows["step"].to_numpy(), trail.rows["val_loss"].to_numpy(float)
        loss = math.nan if gone else onset(steps, losses, share, "down")
        for series in SERIES:
            # The first row has no training yet, so that its training loss is NaN.
            values = trail.rows[series].to_numpy(float)[SERIES[series].first :]
            lacks = bool(np.isnan(values).all())
            first = math.nan if gone else onset(steps[SERIES[series].first :], values, share, SERIES[series].direction)
            note = gone or _why_undefined(lacks, np.isfinite(values).all() and np.isfinite(losses).all(), first, loss)
            row = {**dict(zip(RUN_KEYS, key, strict=True)), "series": series, "share": share, "note": note}
            row |= {"series_onset_step": first, "loss_onset_step": loss, "lead_steps": loss - first}
            rows.append({**row, "status": trail.status, "lacks": lacks})
    return pd.DataFrame(rows, columns=[*ONSET.names, "status", "lacks"])


def _why_undefined(lacks: bool, finite: bool, first: float, loss: float) -> str:
    if lacks:
        return NOT_THERE
    if not finite:
        return "values not finite"
    flat = ["series flat"] if math.isnan(first) else []
    return "; ".join([*flat, "loss never below its start"] if math.isnan(loss) else flat)


def lead_lag(found: pd.DataFrame, cells: list[dict[str, Any]], confidence: float) -> pd.DataFrame:
    """How many steps each of SERIES leads validation loss by, for every cell: columns of LEAD_LAG.

    Takes the table that `onsets` returns. The lead is the typical one of the runs with both onsets
    (`statistics.signed_rank.typical_value`).
    """
    by_cell, rows = dict(iter(found.groupby([*CELL_KEYS, "series"], sort=False))), []
    for cell, series in itertools.product(cells, SERIES):
        group = by_cell[(*(cell[name] for name in CELL_KEYS), series)]
        leads = group["lead_steps"].dropna().to_numpy(float)
        to_end = group[group["status"] != "stopped"]
        with_series = to_end[~to_end["lacks"] | (to_end["status"] == "diverged")]
        interval = typical(leads, "runs", confidence)
        spacing = cell["settings"]["training"]["eval_every_steps"]
        rows.append(
            {
                **{name: cell[name] for name in CELL_KEYS},
                "series": series,
                "share": group["share"].iloc[0],
                "n_runs": len(group),
                "n_defined": len(leads),
                "n_stopped": len(group) - len(to_end),
                "n_series_first": int((leads > 0).sum()),
                "n_together": int((leads == 0).sum()),
                "n_loss_first": int((leads < 0).sum()),
                "median_series_onset_step": quantile(with_series["series_onset_step"], 0.5),
                "median_loss_onset_step": quantile(to_end["loss_onset_step"], 0.5),
                **interval.columns("typical_lead_steps"),
                "confidence": confidence,
                "resolution_steps": spacing,
                "note": "; ".join([*_undefined(group), *interval.notes, *_unresolved(interval.value, spacing)]),
            }
        )
    return pd.DataFrame(rows, columns=LEAD_LAG.names)


def _undefined(group: pd.DataFrame) -> list[str]:
    reasons = Counter(group.loc[group["lead_steps"].isna(), "note"])
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return [f"{reasons.total()} of {len(group)} runs undefined ({why})"] if reasons else []


def _unresolved(lead: float, spacing: int) -> list[str]:
    return [f"the lead is below the {spacing:,} steps between evaluations"] if abs(lead) < spacing else []


def early_rank(
    every: dict[RunKey, Trail], times: pd.DataFrame, cells: list[dict[str, Any]], settings: Analysis
) -> pd.DataFrame:
    """Whether early stability ranks runs by when they reach their target: columns of EARLY_RANK, two rows per variant.

    Spearman's correlation, over the runs of a group, of stability at the first evaluation at or after
    `settings.early_share` of the budget and the time to target (`schemas.training.TIME_TO_TARGET`), runs that do not
    reach it tied as last; beside it that of the validation loss at the same evaluation, which anybody would look at,
    over the targets that the variant's metric names. Runs without finite values at that evaluation are left out with a
    note. Intervals are expanded percentile intervals of a bootstrap of the seeds, all runs of a seed together.
    """
    by_run, rows = times.set_index(RUN_KEYS)["step"].fillna(np.inf), []
    for name, variant in by_variant(cells).items():
        step, targets = _early_step(variant[0], settings.early_share), METRICS[variant[0]["target"]["metric"]].targets
        for group in GROUPS:
            keys = [key for cell in variant if _is_in(cell, group) for key in grid_runs([cell])]
            table = pd.DataFrame(
                [(*key[-2:], *_early(every[key], step, targets), by_run[key]) for key in keys],
                columns=["arm", "seed", "stability", "val_loss", "time"],
            )
            row = {"task": name[0], "variant": name[1], "group": group, "early_step": step}
            row |= {"n_runs": len(table), "n_seeds": table["seed"].nunique(), "confidence": settings.confidence}
            rows.append(row | _ranks(table, step, settings))
    return pd.DataFrame(rows, columns=EARLY_RANK.names)


def _is_in(cell: dict[str, Any], group: str) -> bool:
    """Whether a cell's runs are ranked in a group of GROUPS: those of the baseline, or of all the paper's kinds."""
    kind = cell["arm_settings"]["kind"]
    return kind == "baseline" if group == "baseline" else ARMS.find(kind).family == "paper"


def _early_step(cell: dict[str, Any], early_share: float) -> int:
    """First evaluated step at or after a share of the budget: a whole number of spacings, or the last step."""
    spacing, budget = cell["settings"]["training"]["eval_every_steps"], cell["budget_steps"]
    # The share of a budget may come out a rounding error above a whole number of spacings.
    return min(spacing * math.ceil(early_share * budget / spacing - 1e-9), budget)


def _early(trail: Trail, step: int, targets: str) -> tuple[float, float]:
    """Stability and validation loss at a step; NaN if it was not reached."""
    at = np.flatnonzero(trail.rows["step"].to_numpy() == step)[:1]
    if not len(at):
        return math.nan, math.nan
    stability, loss = (
        trail.rows[name].to_numpy(float)[at[0]] for name in ("stability", Metric("val", "loss", targets).name)
    )
    return float(stability), float(loss)


def _ranks(table: pd.DataFrame, step: int, settings: Analysis) -> dict[str, Any]:
    """Both correlations of a group's runs, their intervals, how many runs they are of, and the note."""
    early = np.isfinite(table[["stability", "val_loss"]].astype(float)).all(axis=1)
    kept, notes = table[early], []
    if lost := len(table) - len(kept):
        notes.append(f"{lost} of {len(table)} runs left out: no finite values at step {step:,}")
    if len(kept) < 3 or kept["time"].nunique() == 1:
        why = "fewer than three runs" if len(kept) < 3 else "all runs have one time to target, or none"
        return {"n_ranked": len(kept), "note": "; ".join([*notes, f"{why}: no ranks"])}
    seeds, place = np.unique(kept["seed"], return_inverse=True)
    # How often each seed is drawn says all that a resample needs.
    draws_BS = resamples(len(seeds))
    found = {}
    for column in ("stability", "val_loss"):
        values, time = kept[column].to_numpy(float), kept["time"].to_numpy(float)
        (value,) = spearman(values, time, np.ones((1, len(kept))))
        resampled = spearman(values, time, draws_BS[:, place])
        found[column] = percentile_interval(value, resampled, len(seeds), settings.confidence)
    columns = {key: end for name, interval in found.items() for key, end in interval.columns(f"rank_by_{name}").items()}
    return {"n_ranked": len(kept), **columns, "note": "; ".join([*notes, *shared_notes(found)])}
