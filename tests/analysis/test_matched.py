"""Numbers at matched points of training, and comparisons there, against closed forms and planted effects."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nsbench.analysis.statistics.ranks as ranks_module
from nsbench.analysis.matched import What, first_crossing, matched_measures, what
from nsbench.analysis.matched_effects import CURVE, PRIMARY, matched_effects
from nsbench.analysis.rank_agreement import rank_agreement
from nsbench.analysis.statistics.ranks import centred_ranks, correlation, partial
from nsbench.analysis.statistics.signed_rank import typical_value
from nsbench.analysis.statistics.times import trails
from nsbench.config.sections import Analysis
from nsbench.schemas.matched import MATCHED_EFFECT, MATCHED_MEASURE, MATCHINGS, RANK_AGREEMENT
from tests.synthetic_matched import (
    BUDGET,
    EVERY,
    FACTORS,
    FINAL,
    KEPT,
    LAWS,
    LESS,
    N_INPUTS,
    N_TOKENS,
    SPEED,
    make_image_cells,
    make_image_records,
)

Table = pd.DataFrame
CELLS = make_image_cells(labels={"permuted": "permuted"})
SMALL = make_image_cells(seeds=(0, 1), kinds={"vit": "transformer", "mlp": "mlp"}, arms=("baseline", "sensitivity"))
LAW = next(iter(LAWS))


def measured(cells: list[dict[str, Any]], records: dict[str, Table]) -> Table:
    return matched_measures(trails(records["history"], records["runs"], cells), records["evaluation"], cells)


def rows(table: Table, **where: Any) -> Table:
    return table[np.logical_and.reduce([table[name] == value for name, value in where.items()])]


@pytest.fixture(scope="module")
def matched() -> Table:
    return measured(CELLS, make_image_records(CELLS))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "N_RESAMPLES", 300)


@pytest.mark.parametrize(
    ("measure", "reduction", "found"),
    [
        ("token_sensitivity", "patch_gaussian-0.5-train", What("sensitivity", "patch_gaussian-0.5", "train")),
        ("token_sensitivity", "resample-test-normalised", What("sensitivity_normalised", "resample", "test")),
        ("token_sensitivity", "other_patch-test-kept0.25", What("flips", "other_patch", "test", 0.25)),
        ("token_sensitivity", "resample-test-kept1e-05", What("flips", "resample", "test", 1e-5)),
        ("token_sensitivity", "other_patch-test-kept0.25-normalised", None),
        ("token_sensitivity", "resample-train-position12", None),
        ("weight_noise", "filter-flips", What("weight_flips", "filter", "train")),
        ("corruptions", "mean", What("corrupted_accuracy")),
        ("corruptions", "blur", None),
        ("test_accuracy", "all", What("test_accuracy")),
        ("test_accuracy", "known", None),
        ("noise_stability", "decision", None),
    ],
)
def test_reductions_are_read(measure: str, reduction: str, found: What | None) -> None:
    assert what(measure, reduction) == found


def test_a_crossing_lies_between_two_evaluations() -> None:
    steps = np.array([10.0, 20.0, 40.0])
    assert first_crossing(steps, np.array([0.1, 0.5, 0.9]), 0.7) == 30
    assert first_crossing(steps, np.array([0.1, 0.8, 0.2]), 0.45) == 15
    assert first_crossing(steps, np.array([0.5, 0.1, 0.9]), 0.3) == 10
    assert first_crossing(steps, np.array([math.nan, 0.8, 0.9]), 0.7) == 20
    assert math.isnan(first_crossing(steps, np.array([0.1, 0.2, 0.3]), 0.7))


def test_matchings_are_where_curves_reach_their_levels(matched: Table) -> None:
    assert set(matched["matching"]) == set(MATCHINGS)
    for variant, seed in itertools.product(("vit", "convmixer"), (0, 3)):
        run = rows(matched, variant=variant, arm="baseline", seed=seed, quantity="test_accuracy").set_index("matching")
        assert run.loc["end", "step"] == run.loc["equal_flops", "step"] == BUDGET
        # 1 - 0.9 exp(-t / tau) is 0.95 at tau log 18; an evaluation stands for the middle of its interval.
        exact = SPEED[variant] * math.log(18) - EVERY / 2
        assert run.loc["train_accuracy", "step"] == pytest.approx(exact, abs=0.1 * EVERY)
        finals = rows(matched, quantity="test_accuracy", matching="end", arm="baseline", seed=seed)["value"]
        level = run.loc["equal_test_accuracy"]
        assert [level["level"], level["value"]] == pytest.approx([finals.min()] * 2)
    spent = rows(matched, arm="sensitivity", matching="equal_flops")
    assert set(spent["step"]) == {BUDGET / 2}  # two passes a step
    assert set(rows(matched, arm="baseline")["note"]) == {""}


def test_what_never_is_reached_and_runs_that_end_early_are_missing_and_say_so() -> None:
    records = make_image_records(SMALL, reaches=0.9)
    runs, history = records["runs"], records["history"]
    runs.loc[(runs["variant"] == "mlp") & (runs["seed"] == 0), "status"] = "diverged"
    runs.loc[(runs["arm"] == "sensitivity") & (runs["seed"] == 0), "status"] = "stopped"
    runs.loc[(runs["variant"] == "mlp") & (runs["seed"] == 1), "no_evaluation"] = "none"
    evaluation = records["evaluation"]
    kept = ~((evaluation["variant"] == "mlp") & (evaluation["seed"] == 1))
    table = measured(SMALL, {"history": history, "runs": runs, "evaluation": evaluation[kept]})
    assert set(rows(table, matching="train_accuracy", variant="vit")["note"]) == {"training accuracy 0.95 not reached"}
    assert set(rows(table, variant="mlp")["note"]) == {"the run diverged"}
    assert set(rows(table, variant="mlp")["seed"]) == {0}
    assert rows(table, variant="mlp")["value"].isna().all()
    assert set(rows(table, arm="sensitivity", seed=0, matching="end")["note"]) == {"stopped at its target"}
    effects = matched_effects(table, SMALL, Analysis())
    lost = rows(effects, variant="mlp", matching="end")
    assert (set(lost["n_pairs"]), set(lost["n_compared"])) == ({2}, {0})
    assert lost["note"].iloc[0] == (
        "2 of 2 pairs left out: the run diverged (reference 0, other 1), without measures (reference 0, other 1)"
    )
    assert set(effects["outcome"]) == {"open"}


def test_chances_between_checkpoints_are_straight_in_logarithms() -> None:
    cells = make_image_cells(seeds=(0,), kinds={"vit": "transformer"}, arms=("baseline",))
    records = make_image_records(cells)
    table = records["evaluation"]
    chance, half = 0.4 * np.exp(-table["step"] / 500), 0.5 / (N_INPUTS * N_TOKENS)
    table.loc[table["reduction"] == f"{LAW}-train", "value"] = chance - half
    table.loc[table["reduction"] == "filter-loss", "value"] = -1 + table["step"] / BUDGET
    found = measured(cells, records)
    own = rows(found, quantity="sensitivity", law=LAW, split="train").set_index("matching")
    assert set(own["half_count"]) == {half}
    for place in ("train_accuracy", "equal_test_accuracy"):
        step = own.loc[place, "step"]
        assert own.loc[place, "value"] == pytest.approx(0.4 * math.exp(-step / 500) - half, rel=1e-9)
        loss = rows(found, quantity="weight_loss", law="filter", matching=place)["value"].iloc[0]
        assert loss == pytest.approx(-1 + step / BUDGET)
    counts = found.groupby("quantity")["half_count"].unique()
    assert list(counts["flips"]) == [0.5 / N_INPUTS]
    assert list(counts["test_accuracy"]) == [0]
    scattered = rows(found, quantity="sensitivity", law="scattered_gaussian-1")["half_count"]
    assert set(scattered) == {0.5 / (5 * N_INPUTS)}


def test_half_a_count_makes_the_mean_logarithm_right() -> None:
    random = np.random.default_rng(0)
    for mean in (4.0, 16.0):
        counts = random.poisson(mean, 200_000)
        assert abs(np.log(counts + 0.5).mean() - math.log(mean)) < 0.4 / mean**2
        assert abs(np.log(counts[counts > 0]).mean() - math.log(mean)) > 0.4 / mean**2


def test_effects_are_typical_ratios_of_pairs(matched: Table) -> None:
    effects = matched_effects(matched, CELLS, Analysis())
    assert list(effects.columns) == MATCHED_EFFECT.names
    primary = rows(effects, role=PRIMARY)
    assert len(primary) == 4 + 5
    of_variants = rows(primary, quantity="sensitivity").set_index("variant")
    assert set(of_variants["matching"]) == {"train_accuracy"}
    assert (of_variants["reference_variant"] == "vit").all()
    for variant, outcome in {"mlp": "lower", "cnn": "higher", "convmixer": "higher"}.items():
        row = of_variants.loc[variant]
        assert row["outcome"] == outcome
        assert row["effect_low"] < row["effect"] < row["effect_high"]
    at_end = rows(effects, variant="convmixer", quantity="sensitivity", law=LAW, split="train", matching="end").iloc[0]
    assert at_end["role"] == CURVE
    assert at_end["effect"] == pytest.approx(FACTORS["convmixer"], rel=0.25)
    pairs = rows(matched, quantity="sensitivity", law=LAW, split="train", matching="end", arm="baseline")
    logs = np.log(pairs["value"] + pairs["half_count"]).groupby(pairs["variant"]).apply(list)
    one = typical_value(np.subtract(logs["convmixer"], logs["vit"]), 0.95)
    assert at_end[["effect", "effect_low", "effect_high"]].tolist() == pytest.approx(np.exp(one[:3]).tolist())
    assert at_end["p_value"] == 2**-5
    arm = rows(effects, arm="sensitivity", quantity="sensitivity", law=LAW, split="train", matching="end").iloc[0]
    assert arm["reference_arm"] == "baseline"
    assert arm["effect"] == pytest.approx(LESS["sensitivity"], rel=0.25)
    gain = rows(primary, arm="all_mse").iloc[0]
    assert (gain["quantity"], gain["scale"], gain["matching"]) == ("corrupted_accuracy", "difference", "end")
    assert gain["effect"] == pytest.approx(-0.03 * math.log(LESS["all_mse"]), abs=0.012)
    accuracy = rows(effects, variant="cnn", quantity="test_accuracy", matching="end").iloc[0]
    assert accuracy["effect"] == pytest.approx(FINAL["cnn"] - FINAL["vit"], abs=0.008)
    assert math.isnan(accuracy["margin"])


def test_runs_without_a_flip_count_as_half_of_one() -> None:
    records = make_image_records(SMALL)
    table, total = records["evaluation"], N_INPUTS * N_TOKENS
    is_own = table["reduction"] == f"{LAW}-train"
    table.loc[is_own, "value"] = np.where(table.loc[is_own, "variant"] == "mlp", 0.0, 12 / total)
    effects = matched_effects(measured(SMALL, records), SMALL, Analysis())
    row = rows(effects, variant="mlp", quantity="sensitivity", law=LAW, split="train", matching="end").iloc[0]
    assert row["effect"] == pytest.approx(0.5 / 12.5)
    assert row["n_zero"] == 2
    assert "2 of 4 values have no flip, and count as half of one" in row["note"]


def test_no_effect_is_settled_where_the_interval_lies_within_the_margin(matched: Table) -> None:
    same = matched[matched["quantity"] == "sensitivity"]
    same = same.assign(value=0.02 * (1 + 0.01 * same["seed"] * (same["variant"] == "cnn")))
    effects = matched_effects(same, CELLS, Analysis())
    assert set(effects["outcome"]) == {"no effect larger than 10%"}


def test_tau_counts_pairs_of_variants_in_the_same_order(matched: Table) -> None:
    ranked = rank_agreement(matched, CELLS, 0.95)
    assert list(ranked.columns) == RANK_AGREEMENT.names
    found = rows(ranked, statistic="tau", law="other_patch", split="test", matching="end", kept=0.5).iloc[0]
    here = rows(matched, law="other_patch", split="test", matching="end", arm="baseline")
    taus = []
    for seed in range(6):
        of_seed = rows(here, seed=seed)
        one = rows(of_seed, quantity="sensitivity").set_index("variant")["value"]
        other = rows(of_seed, quantity="flips", kept=0.5).set_index("variant")["value"]
        signs = [np.sign((one[a] - one[b]) * (other[a] - other[b])) for a, b in itertools.combinations(one.index, 2)]
        taus.append(sum(signs) / math.sqrt(10 * sum(sign != 0 for sign in signs)))
    assert found[["rank", "rank_low", "rank_high"]].tolist() == pytest.approx(
        list(typical_value(np.array(taus), 0.95)[:3])
    )
    assert set(rows(ranked, statistic="tau")["kept"]) == set(KEPT)
    assert found["rank_of_medians"] == pytest.approx(1)


def test_a_partial_correlation_is_that_of_what_the_given_leaves() -> None:
    random = np.random.default_rng(3)
    z = random.standard_normal(30)
    x, y = z + random.standard_normal(30), z - 0.5 * random.standard_normal(30)
    ones = np.ones((1, 30))
    ranks = [centred_ranks(values, ones) for values in (x, y, z)]
    xy, xz, yz = (correlation(ranks[i], ranks[j], ones) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert xy[0] == pytest.approx(stats.spearmanr(x, y).statistic)
    left = [ranks[i][0] - ranks[2][0] * (ranks[i][0] @ ranks[2][0]) / (ranks[2][0] @ ranks[2][0]) for i in (0, 1)]
    assert partial(xy, xz, yz)[0] == pytest.approx(np.corrcoef(*left)[0, 1])
    assert math.isnan(partial(np.array([0.3]), np.array([1.0]), np.array([0.3]))[0])


@pytest.mark.parametrize("robust", [-0.08, 0.08])
def test_planted_robustness_is_found_given_clean_accuracy(matched: Table, robust: float) -> None:
    """Corrupted accuracy is clean accuracy plus a multiple of log sensitivity."""
    here = matched[(matched["matching"] == "end") & ~matched["law"].isin(["other_patch", "scattered_gaussian-1"])]
    index = ["variant", "arm", "seed"]
    own = rows(here, quantity="sensitivity", split="train").set_index(index)["value"]
    corrupted = rows(here, quantity="clean_accuracy").set_index(index)["value"] + robust * np.log(own)
    planted = here.set_index(index)
    planted["value"] = planted["value"].where(planted["quantity"] != "corrupted_accuracy", corrupted)
    ranked = rank_agreement(planted.reset_index(), CELLS, 0.95)
    found = rows(ranked, law=LAW, split="train", quantity="sensitivity", group="all arms")
    row = rows(found, statistic="partial").iloc[0]
    assert np.sign([row["rank_low"], row["rank"], row["rank_high"]]).tolist() == [np.sign(robust)] * 3
    assert (row["n_runs"], row["n_seeds"]) == (60, 6)
    assert rows(found, against="weight_flips", against_law="filter").iloc[0]["rank_low"] > 0
    flips = rows(ranked, law=LAW, split="train", quantity="flips", kept=0.5, group="all arms", statistic="partial")
    flips = flips.iloc[0]
    assert flips["beyond"] == pytest.approx(flips["rank"] - row["rank"])
    assert flips["beyond_low"] <= flips["beyond"] <= flips["beyond_high"]


def test_permuted_labels_have_no_say_in_levels_and_ranks() -> None:
    kinds = {"vit": "transformer", "mlp": "mlp", "permuted": "transformer"}
    cells = make_image_cells(seeds=(0, 1), kinds=kinds, arms=("baseline",), labels={"permuted": "permuted"})
    records = make_image_records(cells)
    table = records["evaluation"]
    table.loc[(table["variant"] == "permuted") & (table["measure"] == "test_accuracy"), "value"] = 0.1
    found = measured(cells, records)
    assert rows(found, matching="equal_test_accuracy")["level"].min() > 0.8
    effects = matched_effects(found, cells, Analysis())
    assert set(effects["variant"]) == {"mlp", "permuted"}  # both with the first transformer
    assert set(effects["reference_variant"]) == {"vit"}
    assert set(rank_agreement(found, cells, 0.95)["n_runs"]) == {4}


def test_tasks_without_the_measure_make_no_rows() -> None:
    records = make_image_records(SMALL)
    table = records["evaluation"]
    records["evaluation"] = table[table["measure"] != "token_sensitivity"]
    found = measured(SMALL, records)
    assert list(found.columns) == MATCHED_MEASURE.names
    assert found.empty
    assert matched_effects(found, SMALL, Analysis()).empty
    assert rank_agreement(found, SMALL, 0.95).empty
