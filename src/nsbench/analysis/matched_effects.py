"""Comparisons at matched points of training, paired by seed: architectures with the transformer, arms with baselines.

Pure functions of the table that `matched.matched_measures` returns; the grid is handed in as `cells`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.signed_rank import typical_value
from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.config.cells import DEFAULT_KIND, by_variant, model_kind, of_baseline
from nsbench.config.sections import Analysis
from nsbench.config.settled import OPEN, few, no_effect, settles
from nsbench.schemas.matched import MATCHED_EFFECT, QUANTITIES, RATIO

PRIMARY, CURVE = "primary", "curve"
WHAT = ["quantity", "law", "split", "kept", "matching"]
"""Columns that say what is compared, and where."""
HIGHER, LOWER = "higher", "lower"


def reference(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Task -> the cell that architectures are compared with: the baseline of its first variant with a transformer."""
    found: dict[str, dict[str, Any]] = {}
    for cell in of_baseline(cells):
        if model_kind(cell) == DEFAULT_KIND:
            found.setdefault(cell["task"], cell)
    return found


def compared(cells: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every cell that is compared, with the one that it is compared with.

    Of each variant the baseline with that of the task's `reference`, and the arms with their variant's baseline.
    """
    first, baselines = reference(cells), {(cell["task"], cell["variant"]): cell for cell in of_baseline(cells)}
    for name, group in by_variant(cells).items():
        baseline = baselines.get(name)
        for cell in group if baseline else ():
            other = first.get(cell["task"]) if cell is baseline else baseline
            if other is not None and other is not cell:
                yield cell, other


def first_law(matched: pd.DataFrame, task: str) -> str:
    """The law that was measured first in a task, which its claims are judged by."""
    laws = matched.loc[(matched["task"] == task) & (matched["quantity"] == "sensitivity"), "law"]
    return str(laws.iloc[0]) if len(laws) else ""


def matched_effects(matched: pd.DataFrame, cells: list[dict[str, Any]], settings: Analysis) -> pd.DataFrame:
    """What each comparison of `compared` finds of every quantity at every matching: columns of MATCHED_EFFECT.

    The effect is the typical ratio or difference over pairs (`signed_rank.typical_value`; ratios of values with half a
    flip added, in logarithms). Primary is, of architectures, the ratio of sensitivity under the first law on training
    inputs at matched training accuracy, and of arms the difference in corrupted accuracy at the end. Others stand
    beside these, settled by their own intervals, of which some leave no effect by chance.
    """
    tables = {key: _Table(rows) for key, rows in matched.groupby(CELL_KEYS, sort=False)}
    rows = []
    for cell, other in compared(cells):
        own, its = (tables.get(tuple(one[name] for name in CELL_KEYS)) for one in (cell, other))
        if own is None or its is None:
            continue
        seeds = [seed for seed in other["seeds"] if seed in cell["seeds"]]
        law, is_arm = first_law(matched, cell["task"]), cell["variant"] == other["variant"]
        about = {name: cell[name] for name in CELL_KEYS} | {"confidence": settings.confidence}
        about |= {"reference_variant": other["variant"], "reference_arm": other["arm"]}
        for what in [what for what in own.whats if what in its.columns["value"]]:
            named = dict(zip(WHAT, what, strict=True))
            named["kept"] = math.nan if named["kept"] < 0 else named["kept"]
            judged = ("corrupted_accuracy", "", "end") if is_arm else ("sensitivity", law, "train_accuracy")
            primary = what[2] == ("test" if is_arm else "train") and (*what[:2], what[4]) == judged
            row = about | named | {"role": PRIMARY if primary else CURVE}
            rows.append(row | _effect(what, (its, own), seeds, settings))
    return pd.DataFrame(rows, columns=MATCHED_EFFECT.names)


class _Table:
    """A cell's rows of MATCHED_MEASURE, by WHAT and seed; -1 stands for no `kept`."""

    def __init__(self, rows: pd.DataFrame) -> None:
        rows = rows.assign(kept=rows["kept"].fillna(-1.0))
        self.whats = list(pd.MultiIndex.from_frame(rows[WHAT]).unique())
        self.columns: dict[str, dict[tuple[Any, ...], np.ndarray]] = {}
        for name in ("value", "half_count", "note"):
            wide = rows.pivot(index=WHAT, columns="seed", values=name)
            self.seeds = list(wide.columns)
            self.columns[name] = dict(zip(wide.index, wide.to_numpy(), strict=True))

    def of(self, name: str, what: tuple[Any, ...], seeds: list[int]) -> np.ndarray:
        """A column's values of these seeds (n,); NaN for a run without measures."""
        place, row = {seed: at for at, seed in enumerate(self.seeds)}, self.columns[name][what]
        nothing = "without measures" if name == "note" else math.nan
        return np.array([row[place[seed]] if seed in place else nothing for seed in seeds])


def _effect(
    what: tuple[Any, ...], sides: tuple[_Table, _Table], seeds: list[int], settings: Analysis
) -> dict[str, Any]:
    """The comparison of a quantity's values of the reference and of the other, over the seeds that both have."""
    scale, n = QUANTITIES[what[0]], len(seeds)
    values = [side.of("value", what, seeds) for side in sides]
    zeros, changes = np.zeros((2, n), bool), values[1] - values[0]
    if scale == RATIO:
        zeros = np.array(values) == 0
        halves = [side.of("half_count", what, seeds) for side in sides]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = [np.log(one + half) for one, half in zip(values, halves, strict=True)]
            changes = logs[1] - logs[0]
    kept = np.isfinite(changes)
    n_kept, n_zero = int(kept.sum()), int(zeros[:, kept].sum())
    found = {"scale": scale, "n_pairs": n, "margin": settings.margin if scale == RATIO else math.nan, "outcome": OPEN}
    found |= {"n_compared": n_kept, "n_zero": n_zero}
    lost = [seed for seed, one in zip(seeds, kept, strict=True) if not one]
    notes = [f"{len(lost)} of {n} pairs left out: {_why(what, sides, lost)}"] if lost else []
    notes += [f"{n_zero} of {2 * n_kept} values have no flip, and count as half of one"] if n_zero else []
    if not n_kept:
        return {**found, "note": "; ".join(notes) or "no seed in common"}
    one = typical_value(changes[kept], settings.confidence)
    ends = [math.exp(end) for end in one[:3]] if scale == RATIO else list(one[:3])
    found |= dict(zip(("effect", "effect_low", "effect_high"), ends, strict=True)) | {"p_value": one.p_value}
    found["outcome"] = _outcome(ends[1], ends[2], scale, settings.margin)
    return {**found, "note": "; ".join([*notes, *few(n_kept, "pairs", settings.confidence)])}


def _why(what: tuple[Any, ...], sides: tuple[_Table, _Table], seeds: list[int]) -> str:
    """Why pairs have no value, each reason with how many runs of the reference and of the other have it."""
    reasons: dict[str, list[int]] = {}
    for place, side in enumerate(sides):
        for note in side.of("note", what, seeds):
            if note:
                reasons.setdefault(note, [0, 0])[place] += 1
    return ", ".join(f"{note} (reference {one}, other {two})" for note, (one, two) in reasons.items()) or "not finite"


def _outcome(low: float, high: float, scale: str, margin: float) -> str:
    """What an interval settles."""
    if side := settles(low, high, neutral=1.0 if scale == RATIO else 0.0):
        return HIGHER if side > 0 else LOWER
    small = scale == RATIO and 1 / (1 + margin) <= low and high <= 1 + margin
    return no_effect(margin) if small else OPEN
