"""What models measure at matched points of their training: pure functions of DataFrames.

Sensitivity moves in training, so that architectures are compared where they have learned alike: see MATCHINGS in
`nsbench.schemas.matched`. Values between two checkpoints are interpolated along the steps, chances of a flip in
logarithms. A chance of 0 has none: half of a flip is added to the flips counted before a logarithm is taken (Haldane
1956, Annals of Human Genetics 20), which makes the mean logarithm of a count right to first order. Of sensitivity the
count is over inputs x draws x tokens, of other chances over inputs x draws; a normalised sensitivity gets as much.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.times import RUN_KEYS, RunKey, Trail, grid_runs
from nsbench.config.cells import model_kind, of_baseline
from nsbench.schemas.matched import MATCHED_MEASURE, MATCHINGS

TRAIN_ACCURACY = 0.95
"""Of the matching `train_accuracy`: the paper compares models of similar training accuracy."""
CHANCES = ("sensitivity", "sensitivity_normalised", "flips", "weight_flips")
"""Quantities that are chances of a flip."""
SCATTERED = "scattered_gaussian"
"""The law that changes no single token: its count has no tokens in it."""
_OF_TOKENS = re.compile(r"(?P<law>.+?)-(?P<split>train|test)(-kept(?P<kept>.+?))?(?P<normalised>-normalised)?")
_OF_IMAGES = {"clean": "clean_accuracy", "mean": "corrupted_accuracy"}


class What(NamedTuple):
    """A number that is compared: columns of MATCHED_MEASURE."""

    quantity: str
    law: str = ""
    split: str = "test"
    kept: float | None = None


TESTED = What("test_accuracy")


class Place(NamedTuple):
    """Where in a run a matching is: the level that is matched, the step, NaN where that is nowhere, and why."""

    level: float
    step: float
    note: str = ""


def what(measure: str, reduction: str) -> What | None:
    """What a number of `schemas.training.EVALUATION` is here; None where it is not compared."""
    if measure == "test_accuracy" and reduction == "all":
        return What("test_accuracy")
    if measure == "corruptions" and reduction in _OF_IMAGES:
        return What(_OF_IMAGES[reduction])
    if measure == "weight_noise":
        scale, kind = reduction.split("-")
        return What(f"weight_{kind}", scale, "train")
    if measure != "token_sensitivity" or not (found := _OF_TOKENS.fullmatch(reduction)):
        return None
    if found["kept"]:
        return None if found["normalised"] else What("flips", found["law"], found["split"], float(found["kept"]))
    return What("sensitivity" + "_normalised" * bool(found["normalised"]), found["law"], found["split"])


def is_control(cell: dict[str, Any]) -> bool:
    """Whether a cell learns permuted labels: then it has no say in which test accuracy all can be compared at."""
    return bool(cell["settings"]["data"].get("labels", "given") != "given")


def matched_measures(every: dict[RunKey, Trail], evaluation: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Each run's numbers at each matching of MATCHINGS: columns of MATCHED_MEASURE, `text` empty.

    Takes runs of `statistics.times.trails` and `schemas.training.EVALUATION`; of tasks that token sensitivity was
    measured in, and variants that are not there for a specification curve alone. The matchings:

    end: the last step of the budget. train_accuracy: the first crossing of TRAIN_ACCURACY by the history's
    `train_accuracy`, each of whose values is of the batches since the one before and so counts for the middle between.
    equal_test_accuracy: the first crossing, along the checkpoints, of the lowest final test accuracy of the seed among
    the baselines of all variants (`is_control` left out). equal_flops: the step at which the run has spent what its
    variant's baseline of the seed spends in all; the schedule of its learning rate is cut there, not compressed.

    A run that diverged has no values, one that `training.stop` ended early none at the end and no level for others.
    """
    cells = [cell for cell in cells if not cell.get("curve_only", False)]
    measured = set(evaluation.loc[evaluation["measure"] == "token_sensitivity", "task"])
    keys = {key: cell for cell in cells if cell["task"] in measured for key in grid_runs([cell])}
    names = evaluation[["measure", "reduction"]].drop_duplicates()
    of = {name: found for name in names.itertuples(index=False, name=None) if (found := what(*name))}
    chosen = evaluation[evaluation["task"].isin(measured)]
    named = zip(chosen["measure"], chosen["reduction"], strict=True)
    chosen = chosen[np.array([name in of for name in named], bool)]
    curves = {key: Curves(rows, of, keys[key]) for key, rows in chosen.groupby(RUN_KEYS, sort=False) if key in keys}
    levels: dict[tuple[str, int], float] = {}
    baselines = {(cell["task"], cell["variant"]): cell["arm"] for cell in of_baseline(cells)}
    for key in curves:
        if keys[key]["arm"] == baselines.get(key[:2]) and not is_control(keys[key]):
            final = curves[key].final_accuracy if every[key].status == "completed" else math.nan
            levels[key[0], key[3]] = float(np.fmin(levels.get((key[0], key[3]), math.nan), final))
    rows = []
    for key, run in curves.items():
        baseline = every.get((*key[:2], baselines.get(key[:2], ""), key[3]))
        places = _places(every[key], run, levels.get((key[0], key[3]), math.nan), baseline)
        name = {**dict(zip(RUN_KEYS, key, strict=True)), "architecture": model_kind(keys[key])}
        values = {matching: run.at(places[matching].step) for matching in MATCHINGS}
        for (at, one), matching in itertools.product(enumerate(run.whats), MATCHINGS):
            place, value = places[matching], values[matching][at]
            note = place.note or ("undefined at a checkpoint beside it" if math.isnan(value) else "")
            row = {**name, **one._asdict(), "matching": matching, **place._asdict(), "half_count": run.halves_Q[at]}
            rows.append({**row, "value": value, "note": note})
    table = pd.DataFrame(rows, columns=MATCHED_MEASURE.names)
    return table.astype({"kept": float, "level": float, "step": float, "value": float})


class Curves:
    """The numbers of a run at its checkpoints: S steps, Q numbers.

    rows: its rows of `schemas.training.EVALUATION` that are compared; of: (measure, reduction) -> what that is.
    """

    def __init__(self, rows: pd.DataFrame, of: dict[tuple[str, str], What], cell: dict[str, Any]) -> None:
        wide = rows.pivot(index="step", columns=["measure", "reduction"], values="value")
        first = rows.drop_duplicates(["measure", "reduction"]).set_index(["measure", "reduction"])
        wide = wide[first.index]
        self.budget = float(cell["budget_steps"])
        self.steps, self.values_SQ = wide.index.to_numpy(float), wide.to_numpy(float)
        self.whats = [of[name] for name in wide.columns]
        counts_Q = (first["n_inputs"] * first["n_draws"]).to_numpy(float)
        self.is_chance_Q = np.array([one.quantity in CHANCES for one in self.whats])
        of_tokens = ["sensitivity" in one.quantity and not one.law.startswith(SCATTERED) for one in self.whats]
        counts_Q = np.where(of_tokens, counts_Q * cell["n_tokens"], counts_Q)
        self.halves_Q = np.where(self.is_chance_Q, 0.5 / counts_Q, 0.0)

    @property
    def tested(self) -> np.ndarray | None:
        """Test accuracy by step (S,), where it was measured."""
        return self.values_SQ[:, self.whats.index(TESTED)] if TESTED in self.whats else None

    @property
    def final_accuracy(self) -> float:
        """Test accuracy at the end of the budget; NaN where the run did not get there or was not measured."""
        return math.nan if self.tested is None or self.steps[-1] != self.budget else float(self.tested[-1])

    def at(self, step: float) -> np.ndarray:
        """The numbers (Q,) at a step, between the checkpoints on either side; NaN beyond them."""
        if math.isnan(step) or not self.steps[0] <= step <= self.steps[-1]:
            return np.full(len(self.whats), math.nan)
        after = int(np.searchsorted(self.steps, step))
        if self.steps[after] == step:
            return self.values_SQ[after]
        share = (step - self.steps[after - 1]) / (self.steps[after] - self.steps[after - 1])
        ends_2Q = self.values_SQ[after - 1 : after + 1]
        straight_Q = (1 - share) * ends_2Q[0] + share * ends_2Q[1]
        # What is no chance may be negative: it is not asked for there.
        logs_2Q = np.log(np.where(self.is_chance_Q, ends_2Q + self.halves_Q, 1.0))
        curved_Q = np.exp((1 - share) * logs_2Q[0] + share * logs_2Q[1]) - self.halves_Q
        return np.where(self.is_chance_Q, np.maximum(curved_Q, 0.0), straight_Q)


def _places(trail: Trail, run: Curves, level: float, baseline: Trail | None) -> dict[str, Place]:
    """Where each matching is in a run; level: the test accuracy that all reach."""
    if trail.status == "diverged":
        return {name: Place(math.nan, math.nan, "the run diverged") for name in MATCHINGS}
    rows, nowhere = trail.rows, math.nan
    steps = rows["step"].to_numpy(float)
    stopped = "stopped at its target" if trail.status == "stopped" else ""
    found = {"end": Place(nowhere, nowhere if stopped else run.budget, stopped)}
    middles = (steps[:-1] + steps[1:]) / 2
    step = first_crossing(middles, rows["train_accuracy"].to_numpy(float)[1:], TRAIN_ACCURACY)
    missed = f"training accuracy {TRAIN_ACCURACY:g} not reached" if math.isnan(step) else ""
    found["train_accuracy"] = Place(TRAIN_ACCURACY, step, missed)
    if run.tested is None or not math.isfinite(level):
        found["equal_test_accuracy"] = Place(nowhere, nowhere, "no test accuracy that all variants reach")
    else:
        step = first_crossing(run.steps, run.tested, level)
        missed = f"test accuracy {level:.3f} not reached" if math.isnan(step) else ""
        found["equal_test_accuracy"] = Place(level, step, missed)
    if baseline is None or baseline.status != "completed":
        return found | {"equal_flops": Place(nowhere, nowhere, "no baseline to the budget")}
    spent = float(baseline.rows["flops"].iloc[-1])
    step = first_crossing(steps, rows["flops"].to_numpy(float), spent)
    return found | {"equal_flops": Place(spent, step, "spends less in all" if math.isnan(step) else "")}


def first_crossing(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    """The step at which `values` (steps,), straight between those steps, first reach a level; NaN if never.

    The first step itself where its value is as high.
    """
    above = np.flatnonzero(values >= level)
    if not len(above):
        return math.nan
    at = int(above[0])
    if at == 0 or math.isnan(values[at - 1]):
        return float(steps[at])
    share = (level - values[at - 1]) / (values[at] - values[at - 1])
    return float(steps[at - 1] + share * (steps[at] - steps[at - 1]))
