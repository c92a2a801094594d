"""Whether stability moves before validation loss (section J.2): pure functions of DataFrames.

Two readings of "leading indicator". `onsets` and `lead_lag`: in a run, does the stability curve begin
to move before the loss curve does? `early_rank`: over runs, does early stability predict which run
will end well, and better than the validation loss at the same step? The grid is handed in as
`cells` (see `nsbench.analysis.statistics`), with `settings` beside, and its runs as `statistics.times.trails` gives
them; rows come out in its order, their column `text` empty: `tables.analyse` fills it. Both need curves that go on to
the budget: runs that `training.stop` ended early are left out, and the notes say so.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.scores import final_score
from nsbench.analysis.statistics.intervals import Interval, expanded, mean_interval, shared_notes, stopped_runs
from nsbench.analysis.statistics.times import CELL_KEYS, RUN_KEYS, RunKey, Trail, by_variant, grid_runs, quantile
from nsbench.arms import ARMS
from nsbench.config.settled import few
from nsbench.schemas.analysis import EARLY_RANK, LEAD_LAG, ONSET
from nsbench.schemas.metrics import METRICS, Metric

GROUPS = ("baseline", "all arms")
NO_STABILITY = "no stability in its history"
"""Why a run has no onset of stability: it is shared with a variant of other noise
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
    """When stability and validation loss begin to move, for every run: columns of ONSET, `status` and `lacks`.

    `lacks`: whether the run has no stability. A run that diverged has no onsets, nor has one that was stopped early: a
    share of its whole change is not known.
    """
    rows = []
    for key, trail in every.items():
        stability = loss = math.nan
        note = {"diverged": "diverged", "stopped": "stopped at the target"}.get(trail.status, "")
        if not note:
            steps = trail.rows["step"].to_numpy()
            stability = onset(steps, trail.rows["stability"].to_numpy(float), share, "either")
            loss = onset(steps, trail.rows["val_loss"].to_numpy(float), share, "down")
            note = _why_undefined(trail, stability, loss)
        row = {**dict(zip(RUN_KEYS, key, strict=True)), "share": share, "note": note}
        row |= {"stability_onset_step": stability, "loss_onset_step": loss, "lead_steps": loss - stability}
        rows.append({**row, "status": trail.status, "lacks": _lacks_stability(trail)})
    return pd.DataFrame(rows, columns=[*ONSET.names, "status", "lacks"])


def _why_undefined(trail: Trail, stability: float, loss: float) -> str:
    finite = np.isfinite(trail.rows[["stability", "val_loss"]].to_numpy(float)).all(axis=0)
    if _lacks_stability(trail) and finite[1]:
        return NO_STABILITY
    if not finite.all():
        return "values not finite"
    flat = ["stability flat"] if math.isnan(stability) else []
    return "; ".join([*flat, "loss never below its start"] if math.isnan(loss) else flat)


def _lacks_stability(trail: Trail) -> bool:
    return bool(trail.rows["stability"].isna().all())


def lead_lag(
    found: pd.DataFrame,
    cells: list[dict[str, Any]],
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """How many steps stability leads validation loss by, for every cell: columns of LEAD_LAG.

    Takes the table that `onsets` returns. The mean lead is over the runs with both onsets; its
    interval is the expanded percentile interval of a bootstrap of these runs, from the same state of the
    generator for every cell.
    """
    entropy = int(generator.integers(2**63))
    by_cell, rows = dict(iter(found.groupby(CELL_KEYS, sort=False))), []
    for cell in cells:
        group = by_cell[tuple(cell[name] for name in CELL_KEYS)]
        leads = group["lead_steps"].dropna().to_numpy(float)
        to_end = group[group["status"] != "stopped"]
        with_stability = to_end[~to_end["lacks"] | (to_end["status"] == "diverged")]
        interval = mean_interval(leads, "runs", confidence, n_resamples, entropy)
        spacing = cell["settings"]["training"]["eval_every_steps"]
        rows.append(
            {
                **{name: cell[name] for name in CELL_KEYS},
                "share": group["share"].iloc[0],
                "n_runs": len(group),
                "n_defined": len(leads),
                "n_stopped": len(group) - len(to_end),
                "n_stability_first": int((leads > 0).sum()),
                "n_together": int((leads == 0).sum()),
                "n_loss_first": int((leads < 0).sum()),
                "median_stability_onset_step": quantile(with_stability["stability_onset_step"], 0.5),
                "median_loss_onset_step": quantile(to_end["loss_onset_step"], 0.5),
                **interval.columns("mean_lead_steps"),
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
    return [f"the mean lead is below the {spacing:,} steps between evaluations"] if abs(lead) < spacing else []


def early_rank(
    every: dict[RunKey, Trail],
    cells: list[dict[str, Any]],
    early_share: float,
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Whether stability early on ranks runs by how they end: columns of EARLY_RANK, two rows per variant.

    Spearman's correlation, over the runs of a group, of stability at the first evaluation at or
    after `early_share` of the budget and the final validation accuracy; beside it that of the
    validation loss at the same evaluation, which anybody would look at. Accuracy and loss are over
    the targets that the variant's target metric names. Diverged runs rank last; runs that were stopped
    early and runs without finite values at that evaluation, or without stability, are left out with a note.
    Intervals are expanded percentile intervals of a bootstrap of the seeds, all runs of a seed together, from the same
    state of the generator for every row.
    """
    entropy = int(generator.integers(2**63))
    rows = []
    for name, variant in by_variant(cells).items():
        step, targets = _early_step(variant[0], early_share), METRICS[variant[0]["target"]["metric"]].targets
        for group in GROUPS:
            keys = [key for cell in variant if _is_in(cell, group) for key in grid_runs([cell])]
            table = pd.DataFrame(
                [(*key[-2:], every[key].status, *_early_and_final(every[key], step, targets)) for key in keys],
                columns=["arm", "seed", "status", "stability", "val_loss", "final"],
            )
            table["lacks"] = [_lacks_stability(every[key]) for key in keys]
            row = {"task": name[0], "variant": name[1], "group": group, "early_step": step}
            row |= {"n_runs": len(table), "n_seeds": table["seed"].nunique(), "confidence": confidence}
            row["n_stopped"] = int((table["status"] == "stopped").sum())
            rows.append(row | _ranks(table, step, confidence, n_resamples, entropy))
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


def _early_and_final(trail: Trail, step: int, targets: str) -> tuple[float, float, float]:
    """Stability and validation loss at a step (NaN if it was not reached), and the final accuracy."""
    loss, accuracy = (Metric("val", quantity, targets).name for quantity in ("loss", "accuracy"))
    early = trail.rows.loc[trail.rows["step"] == step, ["stability", loss]].to_numpy(float)
    # Means of the same three values in another order may differ in their last digit: that is a tie.
    return *(early[0] if len(early) else (math.nan, math.nan)), round(final_score(trail, accuracy), 12)


def _ranks(table: pd.DataFrame, step: int, confidence: float, n_resamples: int, entropy: int) -> dict[str, Any]:
    """Both correlations of a group's runs, their intervals, how many runs they are of, and the note."""
    notes = [f"{found}: left out"] if (found := stopped_runs(table)) else []
    early = np.isfinite(table[["stability", "val_loss"]].astype(float)).all(axis=1) & table["final"].notna()
    to_budget = table["status"] != "stopped"
    lacks = to_budget & table["lacks"] & (table["status"] != "diverged")
    kept, n_lost = table[to_budget & early], int((to_budget & ~early & ~lacks).sum())
    if lacks.any():
        notes.append(f"{int(lacks.sum())} of {len(table)} runs left out: {NO_STABILITY}")
    if n_lost:
        notes.append(f"{n_lost} of {len(table)} runs left out: no finite values at step {step:,}")
    if len(kept) < 3 or kept["final"].nunique() == 1:
        why = "fewer than three runs" if len(kept) < 3 else "final accuracy alike in all runs"
        return {"n_ranked": len(kept), "note": "; ".join([*notes, f"{why}: no ranks"])}
    seeds, place = np.unique(kept["seed"], return_inverse=True)
    # How often each seed is drawn says all that a resample needs.
    draws_BS = np.random.default_rng(entropy).multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), n_resamples)
    found = {}
    for column in ("stability", "val_loss"):
        values, final = kept[column].to_numpy(float), kept["final"].to_numpy(float)
        (value,) = spearman(values, final, np.ones((1, len(kept))))
        found[column] = _percentiles(value, spearman(values, final, draws_BS[:, place]), len(seeds), confidence)
    columns = {key: end for name, interval in found.items() for key, end in interval.columns(f"rank_by_{name}").items()}
    return {"n_ranked": len(kept), **columns, "note": "; ".join([*notes, *shared_notes(found)])}


def _percentiles(value: float, resampled: np.ndarray, n_seeds: int, confidence: float) -> Interval:
    """A correlation with its expanded percentile interval; resamples without ranks are left out, with a note."""
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, ["alike in all runs, no ranks"])
    defined = resampled[np.isfinite(resampled)]
    level = expanded(confidence, n_seeds) if n_seeds > 1 else confidence
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if len(defined) else (0.0, 0.0)
    if high - low <= 1e-12:
        why = "all resamples agree" if len(defined) else "no resample has ranks"
        return Interval(float(value), math.nan, math.nan, [f"{why}: no interval"])
    lost = 1 - len(defined) / len(resampled)
    notes = [f"{lost:.0%} of the resamples have no ranks and are left out"] if lost > 0.01 else []
    return Interval(float(value), float(low), float(high), notes + few(n_seeds, "seeds", confidence))


def spearman(x: np.ndarray, y: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Spearman's correlation (B,) of x and y (N,) in B resamples that hold value i `counts_BN[b, i]` times.

    Ties share their mean rank. NaN where a resample has x or y constant. Values may be infinite.
    """
    counts_BN = counts_BN.astype(float)
    middle_B1 = (counts_BN.sum(axis=1, keepdims=True) + 1) / 2
    x_BN, y_BN = (_ranks_of_resamples(values, counts_BN) - middle_B1 for values in (x, y))
    products = [np.einsum("bn,bn,bn->b", counts_BN, a, b) for a, b in ((x_BN, y_BN), (x_BN, x_BN), (y_BN, y_BN))]
    scale_B = np.sqrt(products[1] * products[2])
    return np.divide(products[0], scale_B, out=np.full(len(counts_BN), np.nan), where=scale_B > 0)


def _ranks_of_resamples(values: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Mean ranks (B, N) of `values` (N,) in each resample."""
    levels, place = np.unique(values, return_inverse=True)
    held_BL = counts_BN @ (place[:, None] == np.arange(len(levels))).astype(float)
    # The m values of a level share the ranks from (all below) + 1 to (all below) + m.
    return (held_BL.cumsum(axis=1) - (held_BL - 1) / 2)[:, place]
