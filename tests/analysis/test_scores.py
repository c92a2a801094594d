"""Scores of cells and what arms change in them, against hand-made curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.analysis.scores import measures, run_scores, score_effects, scores
from nsbench.analysis.statistics.intervals import typical_difference
from nsbench.analysis.statistics.times import trails
from nsbench.schemas.analysis import SCORE, SCORE_EFFECT
from nsbench.schemas.metrics import TARGETS
from tests.analysis.paired_times import without_measures
from tests.synthetic_records import make_cells

NAN, INF = math.nan, math.inf
VARIANT = {"task": "next_token", "variant": "windows"}
CHECKPOINTS = (0, 2, 4)
"""Of evaluations 0 ... 5, those that have test scores."""
SHIFT = {"all": 0.0, "unpadded": 0.01, "known": 0.02}
"""Added to losses of the other kinds of targets."""

Curve = list[float]


def grid(seeds: tuple[int, ...] = (0, 1, 2), arms: tuple[str, ...] = ("baseline",)) -> list[dict[str, Any]]:
    return make_cells("next_token", ("windows",), arms, seeds, budget=50)


def records(
    losses: dict[tuple[str, int], Curve],
    diverged: tuple[tuple[str, int], ...] = (),
    stopped: tuple[tuple[str, int], ...] = (),
) -> dict[str, pd.DataFrame]:
    """History, runs and evaluation of runs (arm, seed) with these validation losses every ten steps.

    Accuracy is 1 - loss / 4; test scores at CHECKPOINTS are the validation's, loss + 1 and accuracy - 0.1.
    """
    history, runs, evaluation = [], [], []
    for (arm, seed), loss in losses.items():
        row = {**VARIANT, "arm": arm, "seed": seed}
        history.append(pd.DataFrame({**row, "step": 10 * np.arange(len(loss))}))
        status = "diverged" if (arm, seed) in diverged else "stopped" if (arm, seed) in stopped else "completed"
        runs.append({**row, "status": status, "no_evaluation": ""})
        for kind, suffix in TARGETS.items():
            here = np.array(loss) + SHIFT[kind]
            history[-1]["val_loss" + suffix], history[-1]["val_accuracy" + suffix] = here, 1 - here / 4
            for at in (at for at in CHECKPOINTS if at < len(loss)):
                for name, value in (("test_loss", here[at] + 1), ("test_accuracy", 0.9 - here[at] / 4)):
                    evaluation.append(
                        {**row, "step": 10 * at, "measure": name, "reduction": kind, "rho": NAN, "value": value}
                    )
    return {"history": pd.concat(history), "runs": pd.DataFrame(runs), "evaluation": pd.DataFrame(evaluation)}


def no_floors() -> pd.DataFrame:
    names = ["task", "variant", "seed", "predictor", "split", "targets", "n_targets", "accuracy", "loss"]
    return pd.DataFrame(columns=names)


def of_runs(made: dict[str, pd.DataFrame], cells: list[dict[str, Any]]) -> pd.DataFrame:
    return run_scores(trails(made["history"], made["runs"], cells), made["runs"], made["evaluation"])


def scored(made: dict[str, pd.DataFrame], cells: list[dict[str, Any]], floors: pd.DataFrame | None = None) -> Any:
    rows = scores(of_runs(made, cells), no_floors() if floors is None else floors, cells)
    assert list(rows) == SCORE.names
    return rows


U_CURVE = [3.0, 2.0, 1.6, 1.0, 1.2, 1.4]
"""Lowest at step 30, which is no checkpoint; the lowest of the checkpoints is at step 40."""


# --- scores ----------------------------------------------------------------------------------------


def test_a_run_s_scores_by_hand() -> None:
    found = of_runs(records({("baseline", 0): U_CURVE}), grid((0,)))
    assert found["targets"].tolist() == ["all", "unpadded", "known"]
    for kind, row in zip(TARGETS, found.to_dict("records"), strict=True):
        shift = SHIFT[kind]
        assert row["final_val_loss"] == pytest.approx((1.0 + 1.2 + 1.4) / 3 + shift)
        assert row["final_val_accuracy"] == pytest.approx(1 - (1.2 + shift) / 4)
        assert (row["best_val_loss"], row["best_val_loss_step"]) == (pytest.approx(1.0 + shift), 30)
        assert row["test_loss"] == pytest.approx(2.2 + shift)
        assert row["test_accuracy"] == pytest.approx(0.9 - (1.2 + shift) / 4)


def test_the_checkpoint_is_chosen_on_validation_never_on_test() -> None:
    made = records({("baseline", 0): U_CURVE})
    table = made["evaluation"]
    table.loc[(table["measure"] == "test_loss") & (table["step"] == 0), "value"] = 0.0
    table.loc[(table["measure"] == "test_accuracy") & (table["step"] == 0), "value"] = 1.0
    assert of_runs(made, grid((0,)))["test_loss"].iloc[0] == pytest.approx(2.2)


def test_cells_have_medians_over_seeds_in_grid_order() -> None:
    cells = grid(arms=("reversed", "baseline"))
    losses = {
        (arm, s): [3.0, level + s] + [level + s] * 4
        for arm, level in (("baseline", 1), ("reversed", 0))
        for s in range(3)
    }
    found = scored(records(losses), cells)
    assert list(zip(found["arm"], found["targets"], strict=True)) == [
        (arm, kind) for arm in ("reversed", "baseline") for kind in ("all", "unpadded", "known")
    ]
    row = found[(found["arm"] == "baseline") & (found["targets"] == "unpadded")].iloc[0]
    assert row["final_val_loss"] == pytest.approx(2.01)
    assert (row["final_val_accuracy_min"], row["final_val_accuracy_max"]) == pytest.approx((1 - 3.01 / 4, 1 - 1.01 / 4))
    assert (row["best_val_loss_step"], row["n_seeds"], row["n_diverged"]) == (10, 3, 0)
    assert row["test_loss"] == pytest.approx(3.01)
    assert found["rho"].fillna(-1).tolist() == [0.25] * 3 + [-1] * 3
    assert found["orientation"].fillna(-1).tolist() == [0] * 3 + [-1] * 3
    assert found[["commonest_loss", "bigram_accuracy", "n_targets"]].isna().all(axis=None)


@pytest.mark.parametrize(("n_diverged", "median"), [(1, 3.0), (3, NAN)])
def test_diverged_runs_are_the_worst_of_their_cell(n_diverged: int, median: float) -> None:
    """Three runs of loss 1, 2, 3, of which the best diverge: the median moves up, then is lost."""
    losses = {("baseline", s): [1.0 + s] * (2 if s < n_diverged else 6) for s in range(3)}
    made = records(losses, diverged=tuple(("baseline", s) for s in range(n_diverged)))
    # A diverged run has no evaluation rows, or some from before.
    made["evaluation"] = made["evaluation"][made["evaluation"]["seed"] != 0]
    row = scored(made, grid()).iloc[0]
    assert row["n_diverged"] == n_diverged
    for name, expected in (
        ("final_val_loss", median),
        ("best_val_loss", median),
        ("test_loss", median + 1),
        ("final_val_accuracy", 1 - median / 4),
        ("test_accuracy", 0.9 - median / 4),
    ):
        assert row[name] == pytest.approx(expected, nan_ok=True), name
    lowest = 1 - 3.0 / 4 if n_diverged < 3 else NAN
    assert row["final_val_accuracy_min"] == pytest.approx(lowest, nan_ok=True)
    assert row["best_val_loss_step"] == pytest.approx(0 if n_diverged < 3 else NAN, nan_ok=True)


@pytest.mark.parametrize(("n_stopped", "median"), [(1, 2.5), (3, NAN)])
def test_stopped_runs_have_no_scores_and_are_left_out(n_stopped: int, median: float) -> None:
    """Three runs of loss 1, 2, 3, of which the best were stopped, with losses that are no end."""
    losses = {("baseline", s): [1.0 + s] * (4 if s < n_stopped else 6) for s in range(3)}
    made = records(losses, stopped=tuple(("baseline", s) for s in range(n_stopped)))
    found = of_runs(made, grid())
    values = ["final_val_accuracy", "final_val_loss", "best_val_loss", "best_val_loss_step", "test_accuracy"]
    assert found.loc[found["status"] == "stopped", [*values, "test_loss"]].isna().all(axis=None)
    assert found.loc[found["status"] == "completed", [*values, "test_loss"]].notna().all(axis=None)
    row = scored(made, grid()).iloc[0]
    assert (row["n_seeds"], row["n_diverged"], row["n_stopped"]) == (3, 0, n_stopped)
    for name, expected in (
        ("final_val_loss", median),
        ("best_val_loss", median),
        ("test_loss", median + 1),
        ("final_val_accuracy", 1 - median / 4),
    ):
        assert row[name] == pytest.approx(expected, nan_ok=True), name
    highest = 1 - (1.0 + n_stopped) / 4 if n_stopped < 3 else NAN
    assert row["final_val_accuracy_max"] == pytest.approx(highest, nan_ok=True)
    assert row["best_val_loss_step"] == pytest.approx(0 if n_stopped < 3 else NAN, nan_ok=True)


def test_targets_that_do_not_occur_have_no_scores() -> None:
    made = records({("baseline", s): U_CURVE for s in range(3)})
    made["history"][["val_loss_known", "val_accuracy_known"]] = NAN
    made["evaluation"] = made["evaluation"][made["evaluation"]["reduction"] != "unpadded"]
    found = scored(made, grid()).set_index("targets")
    assert found.loc["known", ["best_val_loss", "best_val_loss_step", "final_val_accuracy", "test_loss"]].isna().all()
    assert math.isnan(found.loc["unpadded", "test_loss"])
    assert found.loc["unpadded", "best_val_loss"] == pytest.approx(1.01)


# --- floors ----------------------------------------------------------------------------------------


def floor_rows(seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    rows = [
        {**VARIANT, "seed": seed, "predictor": predictor, "split": split, "targets": kind}
        | {"n_targets": 100 + seed, "accuracy": level + 0.01 * seed + SHIFT[kind], "loss": 5 - level}
        for seed in seeds
        for predictor, level in (("commonest", 0.1), ("bigram", 0.3))
        for split in ("val", "test")
        for kind in TARGETS
    ]
    table = pd.DataFrame(rows)
    table.loc[table["split"] == "test", ["accuracy", "loss"]] = 0.99
    return table


def test_floors_are_medians_over_the_cell_s_seeds_on_validation_data() -> None:
    made = records({("baseline", s): U_CURVE for s in range(3)})
    found = scored(made, grid(), floor_rows((2, 0, 1, 7))).set_index("targets")
    assert found.loc["known", "commonest_accuracy"] == pytest.approx(0.1 + 0.01 + 0.02)
    assert found.loc["all", "bigram_accuracy"] == pytest.approx(0.3 + 0.01)
    assert found.loc["all", ["commonest_loss", "bigram_loss"]].tolist() == pytest.approx([4.9, 4.7])
    assert found.loc["all", "n_targets"] == 101


def test_a_seed_without_floors_is_named() -> None:
    made = records({("baseline", s): U_CURVE for s in range(3)})
    with pytest.raises(ValueError, match="next_token / windows / seed 2: no floor 'commonest'"):
        scored(made, grid(), floor_rows((0, 1)))


# --- effects ---------------------------------------------------------------------------------------


def effects(made: dict[str, pd.DataFrame], cells: list[dict[str, Any]], confidence: float = 0.95) -> pd.DataFrame:
    rows = score_effects(of_runs(made, cells), cells, confidence)
    assert list(rows) == SCORE_EFFECT.names
    return rows


def levels(baseline: list[float], **arms: list[float]) -> dict[tuple[str, int], Curve]:
    """Runs whose loss is 3 at first, then at these levels."""
    return {
        (arm, s): [3.0] + [level] * 5
        for arm, values in {"baseline": baseline, **arms}.items()
        for s, level in enumerate(values)
    }


def test_an_effect_is_the_typical_difference_of_pairs() -> None:
    cells = grid((0, 1, 2, 3, 4, 5), ("baseline", "gentle"))
    before, after = [1.0, 1.5, 2.0, 1.2, 1.4, 1.1], [0.9, 1.2, 2.1, 1.0, 1.0, 1.05]
    (row,) = effects(records(levels(before, gentle=after)), cells).to_dict("records")
    differences = np.subtract(after, before)
    typical = np.median([(differences[i] + differences[j]) / 2 for i in range(6) for j in range(i, 6)])
    assert row["best_val_loss_difference"] == pytest.approx(typical)
    # With six pairs the interval at 95% is their range. Accuracy is a linear function of loss here.
    assert row["best_val_loss_difference_low"] == pytest.approx(differences.min())
    assert row["best_val_loss_difference_high"] == pytest.approx(differences.max())
    assert row["final_val_accuracy_difference"] == pytest.approx(-typical / 4)
    assert row["final_val_accuracy_difference_low"] == pytest.approx(-row["best_val_loss_difference_high"] / 4)
    assert (row["arm"], row["baseline"], row["n_pairs"], row["note"]) == ("gentle", "baseline", 6, "")
    assert (row["rho"], row["gamma"], row["orientation"]) == (0.25, 0.75, 1)


def test_pairs_with_a_diverged_run_are_left_out_and_told() -> None:
    cells = grid((0, 1, 2, 3), ("baseline", "gentle"))
    made = records(
        levels([1.0, 1.0, 1.0, 1.0], gentle=[0.5, 0.4, 0.3, 0.2]), (("gentle", 0), ("baseline", 1), ("gentle", 1))
    )
    (row,) = effects(made, cells).to_dict("records")
    assert row["best_val_loss_difference"] == pytest.approx((-0.7 - 0.8) / 2)
    assert (row["n_pairs"], row["n_compared"]) == (4, 2)
    assert row["note"] == ("2 of 4 pairs left out: a run diverged; 2 pairs can have no interval of 95%")


@pytest.mark.parametrize(("n_without", "median"), [(1, 2.5), (3, NAN)])
def test_runs_without_measures_are_left_out_of_test_scores_alone(n_without: int, median: float) -> None:
    made = records({("baseline", s): [1.0 + s] * 6 for s in range(3)})
    found = scored(without_measures(made, *(("baseline", s) for s in range(n_without))), grid())
    row = found.iloc[0]
    assert (row["n_seeds"], row["n_stopped"], row["n_unmeasured"]) == (3, 0, n_without)
    assert row["test_loss"] == pytest.approx(median + 1, nan_ok=True)
    assert row["test_accuracy"] == pytest.approx(0.9 - median / 4, nan_ok=True)
    assert (row["best_val_loss"], row["final_val_loss"]) == (2.0, 2.0)


def test_a_difference_tells_stopped_runs_from_unmeasured_ones() -> None:
    before, after = pd.Series([1.0, NAN, NAN, INF, 1.0]), pd.Series([2.0, 2.0, NAN, NAN, 4.0])
    lacking = [np.array([False, True, False, False, False]), np.array([False, False, True, True, False])]
    found = typical_difference(before, after, 0.5, lacking)
    assert found.value == 2.0
    assert found.notes[:3] == [
        "1 of 5 pairs left out: a run diverged",
        "1 of 5 pairs left out: a run stopped at its target (baseline 1, arm 0)",
        "2 of 5 pairs left out: a run has no measures (baseline 1, arm 1)",
    ]


def test_pairs_are_the_seeds_in_common() -> None:
    cells = [*grid((5, 1, 2)), *grid((2, 5, 9), ("gentle",))]
    losses = {("baseline", s): [1.0 * s] * 6 for s in (5, 1, 2)} | {("gentle", s): [1.5 * s] * 6 for s in (2, 5, 9)}
    (row,) = effects(records(losses), cells).to_dict("records")
    assert (row["n_pairs"], row["best_val_loss_difference"]) == (2, pytest.approx((2.5 + 1.0) / 2))
    apart = [*grid((5, 1)), *grid((2, 9), ("gentle",))]
    (row,) = effects(records(losses), apart).to_dict("records")
    assert (row["n_pairs"], row["note"]) == (0, "no pairs to compare")


def test_a_variant_without_a_baseline_is_named() -> None:
    made = records({("gentle", s): U_CURVE for s in range(3)})
    with pytest.raises(ValueError, match="next_token / windows: no arm of kind baseline"):
        effects(made, grid(arms=("gentle",)))


# --- measures --------------------------------------------------------------------------------------

CELLS = [
    {"task": "t", "variant": "v", "arm": arm, "seeds": seeds, "budget_steps": 20}
    for arm, seeds in (("baseline", [0, 1, 2]), ("gentle", [0, 1]))
]


def test_measures_are_medians_over_the_runs_that_went_to_their_budget() -> None:
    """Of the baseline a run has no last checkpoint, of the other arm no run has any."""
    rows = []
    for seed, steps, value in ((0, (0, 20), 1.0), (1, (0, 20), 4.0), (2, (0, 10), 9.0)):
        for step in steps:
            for rho, more in ((math.nan, 0.0), (0.5, 100.0)):
                found = {
                    "measure": "own",
                    "reduction": "mean",
                    "rho": rho,
                    "value": value + more,
                    "target_value": 2 * rho,
                }
                rows.append({"task": "t", "variant": "v", "arm": "baseline", "seed": seed, "step": step, **found})
    table = measures(pd.DataFrame(rows).assign(correlation=math.nan), CELLS)
    assert table["arm"].tolist() == ["baseline", "baseline", "gentle", "gentle"]
    assert table["n_seeds"].tolist() == [3, 3, 2, 2]
    assert table["n_measured"].tolist() == [2, 2, 0, 0]
    assert table["rho"].fillna(-1).tolist() == [-1, 0.5, -1, 0.5]
    columns = ["value", "value_min", "value_max"]
    assert table[columns].iloc[:2].to_numpy().tolist() == [[2.5, 1.0, 4.0], [102.5, 101.0, 104.0]]
    assert table[columns].iloc[2:].isna().all(axis=None)
    assert table["target_value"].iloc[1] == 1.0
