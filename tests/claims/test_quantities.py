"""The ledger's numbers: those that are computed, and those from tables of training, theory and pretrained models."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.analysis.tables import analyse
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, STAND_IN, Evidence, Missing
from nsbench.claims.registry import QUANTITIES
from nsbench.claims.simulations import _worst
from nsbench.claims.variants import BY_OUTCOME
from nsbench.claims.verdicts import judge_one
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.pretrained import PAPER
from nsbench.schemas.pretrained import TABLES as PRETRAINED
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY
from nsbench.storage.code_digest import reached
from nsbench.storage.definitions import definitions_of
from nsbench.storage.parquet import read_table, write_table
from tests.claims.synthetic_claims import (
    STAMP,
    Folders,
    claims,
    findings,
    judged,
    pretrained_folder,
    theory_table,
    training_folder,
    verdict,
)
from tests.synthetic_records import make_cells, make_records, swept, write_results

NAN = math.nan
NOTHING = Evidence(None, None, [], "paper")
SEEDS = tuple(range(6))


def test_the_digest_of_claims_has_the_code_of_every_quantity() -> None:
    there = reached("nsbench.claims:@")
    assert [name for name, one in QUANTITIES.items() if definitions_of(one.root)[0] not in there] == []


# --- computed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "value", "printed"),
    [
        ("lemma_1_degree", {"rho": 0.9, "delta": 0.1, "epsilon": 0.2}, 6.5788, -6.5788),
        ("mixed_gaussians", {}, 1.5, 0.375),
        ("mehler_kernel", {}, 1.3428, 0.4641),
        ("ou_operator", {}, -3.28, 1.2),
        ("effective_correlation", {"rho": 0.5}, 0.75, 0.5),
        ("effective_correlation", {"rho": 0.05, "n_symbols": 500}, 0.525, 0.05),
        ("theorem_5_3_layer", {}, 0.5, 0.105),
        ("identical_inputs", {}, 1.0, 0.5),
        ("equation_8_step", {}, 0.1096, 0.2068),
        ("lemma_11", {}, 1.60, 6.30),
        ("parity_change", {"rho": 0.5, "k": 2}, 0.28125, None),
        ("parity_change", {"rho": 0.5, "k": 3}, 0.2109, None),
        ("counting_bound", {"share": 0.1, "n_variables": 256}, 10, None),
        ("counting_bound", {"share": 0.1, "n_variables": 4}, 4, None),
        ("influence_degree_excess", {}, 0.5, None),
        ("equation_4_error", {}, 2 * (1 / 4 - 3 / (4 * math.pi)), None),
        ("permutation_probability", {"n": 8}, 0.0024, None),
        ("fixed_point_error", {}, 0.0231, None),
        ("relu_dampening_share", {}, 1 - 0.2172, None),
        ("lemma_12_excess", {}, 0.02476, None),
        ("arithmetic", {"before": 4500, "after": 3300, "convention": "faster"}, 36.36, None),
        ("arithmetic", {"before": 4500, "after": 3300, "convention": "fewer"}, 26.67, None),
        ("epochs", {"iterations": 10000, "n_train": 2000, "batch_size": 256}, 1250, None),
    ],
)
def test_numbers_that_need_no_run(name: str, parameters: dict[str, Any], value: float, printed: float | None) -> None:
    (found,) = findings(NOTHING, name, **parameters)
    assert set(found.extras) == set(QUANTITIES[name].extras)
    assert found.value == pytest.approx(value, rel=2e-3)
    assert found.extras.get("printed") == (None if printed is None else pytest.approx(printed, rel=2e-3))


def test_what_holds_is_not_broken_by_random_cases() -> None:
    def worst(name: str, **parameters: int) -> float:
        return findings(NOTHING, name, **parameters)[0].value

    assert -0.5 < worst("lemma_6_excess", n_cases=100) <= 0
    assert worst("boolean_identities", n_cases=20) < 1e-12
    assert worst("spectral_sum_error") < 1e-10


# --- theory --------------------------------------------------------------------------------------------


def theory(path: Path, **factors: float) -> Evidence:
    return Evidence(None, None, [], "paper", theory_table(path / "theory.parquet", **factors))


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Points that lie near their formulas."""
    return theory(tmp_path_factory.mktemp("theory"))


def test_simulated_points_near_a_formula_agree_with_it(near: Evidence) -> None:
    (found,) = findings(near, "formula_difference", experiment="relu", formula="Theorem 5.1")
    assert found.setting == "correlated Gaussians / mean 0"
    assert found.low == 0 < found.value < found.high < 0.02
    assert (found.n, found.n_unit) == (21, "points")
    assert len(findings(near, "formula_difference", experiment="patterns", formula="s(ρ)")) == 3
    for name in ("theorem_5_1", "theorem_5_2", "theorem_5_3", "pattern_probability", "full_dampening"):
        assert verdict(near, name) == "reproduced", name
    assert verdict(near, "theorem_5_3_initialised") == "not reproduced"
    assert verdict(near, "low_rank") == "partly"


def test_points_away_from_a_formula_do_not(tmp_path: Path) -> None:
    evidence = theory(tmp_path, relu=1.4, patterns=1.12, transformer=1.0)
    assert verdict(evidence, "theorem_5_1") == "not reproduced"
    assert verdict(evidence, "pattern_probability") == "partly"
    assert findings(evidence, "formula_difference", experiment="relu", formula="Theorem 9")[0].status == ASIDE


def test_noise_widens_the_ends_of_a_difference() -> None:
    points = {"theory": [0.5, 1.0], "difference": [0.0, -0.1], "standard_error": [0.01, 0.01], "n_draws": 100}
    value, low, high = _worst(pd.DataFrame(points))
    assert value == pytest.approx(0.1)
    assert 0 < low < 0.1 < high
    assert low + high == pytest.approx(0.2)
    _, low, high = _worst(pd.DataFrame(points | {"n_draws": 1}))
    assert (low, high) == (0, math.inf)


def test_dampening_is_measured_in_the_candidate_fixed_point(near: Evidence) -> None:
    found = findings(near, "dampening", below_one=False)
    assert {one.setting.split(" / ")[1] for one in found} == {"γ = 1"}
    assert len(found) == 3
    of_identity = next(one for one in found if "γ I" in one.setting)
    assert of_identity.value == pytest.approx(0.3045 / (2 / (3 * math.pi)), rel=0.05)
    below = findings(near, "dampening", below_one=True)
    assert all(one.high < 0.5 for one in below)


# --- pretrained ----------------------------------------------------------------------------------------


def pretrained(folder: Path, papers: dict[str, str], reason: str = "") -> Evidence:
    return Evidence(None, None, [], "paper", None, pretrained_folder(folder, papers, reason))


def test_models_of_the_paper_count_and_others_stand_in(tmp_path: Path) -> None:
    evidence = pretrained(tmp_path, {"gpt2": "gpt2", "other": ""})
    found = findings(evidence, "n_large_positions", papers=["gpt2", "roberta"])
    status = {one.setting.split(" / ")[0]: one.status for one in found}
    assert status == {"gpt2": COUNTS, "other": STAND_IN, "roberta": MISSING}
    assert len([one for one in found if one.status == COUNTS]) == 6
    row, _ = judged(evidence, "all_tokens_count")
    assert row["verdict"] == "partly"
    assert row["reason"].startswith("reproduced without roberta, gemma: this model of the paper is not among")
    assert row["text"] == "WikiText-2"


def test_without_a_model_of_the_paper_its_claims_are_not_run(tmp_path: Path) -> None:
    evidence = pretrained(tmp_path / "a", {"other": ""})
    for name in ("first_and_last", "heads_first_and_last", "table_1_numbers", "stability_bound"):
        assert verdict(evidence, name) == "not run", name
    evidence = pretrained(tmp_path / "b", {"gpt2": "gpt2", "other": ""}, reason="no network")
    row, found = judged(evidence, "first_and_last")
    assert row["verdict"] == "not run"
    assert "gpt2: GPT-2 is unavailable" in row["reason"]
    assert {one["verdict"] for one in found if not one["setting"].startswith("other")} == {"not run"}
    assert "which is no evidence about them: " in row["reason"]


def test_numbers_of_pretrained_models(tmp_path: Path) -> None:
    evidence = pretrained(tmp_path, {name: name for name in PAPER})
    ends = [one for one in findings(evidence, "end_rank") if one.setting == "gpt2 / text / top_logit_last"]
    assert (ends[0].value, ends[0].extras, ends[0].n) == (2.0, {"best_rank": 1.0}, 64)
    assert all(one.value == 0 for one in findings(evidence, "n_zero_positions"))
    assert all(0 < one.value < 0.5 for one in findings(evidence, "half_share"))
    depth = findings(evidence, "peak_depth", least=0.25, most=0.75)
    table = evidence.pretrained_table("concentration").set_index("layer")
    names = {"model": "gpt2", "weights": "pretrained", "inputs": "text", "readout": "top_logit_last", "norm": "l1"}
    layers = table[(table[[*names]] == pd.Series(names)).all(axis=1) & (table["site"] == "layer")]["total"]
    assert depth[0].value == layers.idxmax() / 5
    assert depth[0].extras == {"least": 0.25, "most": 0.75}
    assert all(0 < one.value <= 1 for one in findings(evidence, "weakest_layer"))
    assert {one.n for one in findings(evidence, "heads_with_both_ends")} == {2}


def test_table_1_is_judged_by_its_nearest_reading(tmp_path: Path) -> None:
    evidence = pretrained(tmp_path, {"gpt2": "gpt2"})
    of_influence, of_stability = findings(evidence, "table_1_ratio", papers=["gpt2"])
    assert (of_influence.setting, of_influence.value) == ("gpt2 / from influence", pytest.approx(1.5))
    assert of_stability.value == pytest.approx(0.75 * 0.003 / 0.0005)


def test_stability_s_bound_is_smaller_only_where_the_order_is_settled(tmp_path: Path) -> None:
    """Of two functions stability's bound is the smaller one, of the first for sure."""
    evidence = pretrained(tmp_path / "a", {"gpt2": "gpt2"})
    (smaller,) = findings(evidence, "stability_bound_smaller", papers=["gpt2"])
    assert (smaller.value, smaller.low, smaller.high, smaller.n) == (1.0, 0.5, 1.0, 2)
    assert smaller.note == (
        "not settled, 99% interval of stability's bound over influence's: gaussian, pooled_norm 0.4 to 1.1"
    )
    folder = tmp_path / "b"
    path = pretrained_folder(folder, {name: name for name in PAPER}) / "table_1.parquet"
    table, names = read_table(path, PRETRAINED["table_1"]), ["over_influence_low", "over_influence_high"]
    stable = table["bound_from"] == "stability"
    for ends, expected in (((0.4, 0.6), "reproduced"), ((0.4, 1.1), "undecided"), ((1.1, 1.4), "not reproduced")):
        table.loc[stable, names] = ends
        write_table(path, table, PRETRAINED["table_1"], {})
        assert verdict(Evidence(None, None, [], "paper", None, folder), "stability_bound") == expected


# --- training ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Next-token prediction with a sweep, eight seeds: stability falls in the baseline and hardly in the arms."""
    cells = make_cells("next_token", arms=("baseline", *swept((0.25, 0.75), (0.05, 0.75))), seeds=SEEDS, threshold=0.25)
    return training_folder(tmp_path_factory.mktemp("text"), cells)


def test_stability_that_falls_and_stability_that_stays(text: Folders) -> None:
    evidence = text.evidence()
    (baseline,) = findings(evidence, "stability_kept", task="next_token", arm="baseline")
    (arm,) = findings(evidence, "stability_kept", task="next_token", arm="regularised", rho=0.25, gamma=0.75)
    assert baseline.value == pytest.approx(0.15 / 0.6, abs=0.03)
    assert arm.value == pytest.approx(0.5 / 0.6, abs=0.03)
    assert baseline.low <= baseline.value <= baseline.high
    assert verdict(evidence, "baseline_becomes_unstable") == "reproduced"
    assert verdict(evidence, "regularised_stays_stable") == "not reproduced"
    (none,) = findings(evidence, "stability_kept", task="next_token", arm="regularised", rho=0.3, gamma=0.75)
    assert none.status == MISSING


def test_a_sweep_is_counted_by_setting(text: Folders) -> None:
    (found,) = findings(text.evidence(), "sweep_breadth", task="next_token")
    assert (found.n, found.n_unit) == (4, "settings")
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.extras["settled_share"] <= found.value
    (best,) = findings(text.evidence(), "selection", task="next_token")
    assert best.setting == "calibrated / best of 4"
    cells = text.evidence().table("cells").set_index("arm").loc["baseline"]
    assert best.extras["baseline_censored"] == 1 - cells["n_reached"] / cells["n_seeds"]


def test_fluctuation_is_the_second_difference_of_the_loss_of_runs_that_did_not_diverge(tmp_path: Path) -> None:
    cells = make_cells("next_token", arms=("baseline", "gentle"), seeds=SEEDS)
    tables = training_folder(tmp_path, cells).tables
    made = make_records(cells, diverged=(("gentle", 0),))
    history = made["history"]
    turn = np.where(history["step"] // 100 % 2 == 0, 1.0, -1.0)
    size = history["arm"].map({"baseline": 0.4, "gentle": 0.1}) * (1 + history["seed"] / 10)
    history["val_loss"] = 3.0 + turn * size
    for name, schema in (("history", HISTORY), ("runs", COLLECTED_RUNS)):
        write_table(tmp_path / "wiggling" / f"{name}.parquet", made[name].to_dict("records"), schema, STAMP)
    evidence = Evidence(tables, tmp_path / "wiggling", cells, "paper", n_resamples=199)
    (found,) = findings(evidence, "fluctuation", task="next_token", rho=0.25, gamma=0.75)
    assert found.value == pytest.approx(75)
    assert found.n == 5
    assert "1 runs diverged and are left out" in found.note


def test_where_stopped_runs_are_left_out_there_is_no_number_and_the_reason_says_which(tmp_path: Path) -> None:
    cells = make_cells("sparse_parity", seeds=SEEDS)
    stopped = (("baseline", 0), ("baseline", 1), ("gentle", 1))
    made = {name: make_records(cells, stopped=runs) for name, runs in (("whole", ()), ("stopped", stopped))}
    for name, records in made.items():
        write_results(tmp_path / name, cells, records)
    whole, early = (
        Evidence(tmp_path / name / "tables", tmp_path / name / "collected", cells, "paper", n_resamples=199)
        for name in made
    )
    of, of_arm = {"task": "sparse_parity"}, {"task": "sparse_parity", "rho": 0.25, "gamma": 0.75}
    for quantity, parameters, why in (
        ("final_stability", of | {"rho": 0.5}, "2 of 6 runs stopped at their target (baseline 2)"),
        ("stability_change", of | {"rho": 0.5}, "2 of 6 runs stopped at their target (baseline 2)"),
        ("stability_kept", of, "2 of 6 runs stopped at their target (baseline 2)"),
        ("fluctuation", of_arm, "3 of 12 runs stopped at their target (baseline 2, gentle 1)"),
        ("loss_change", of_arm, "2 of 6 pairs left out: stopped at the target"),
        ("lead", of, "2 of 6 runs left out: stopped at the target"),
        ("early_rank", of, "2 of 6 runs left out: stopped at the target"),
    ):
        found = [findings(evidence, quantity, **parameters) for evidence in (whole, early)]
        for before, after in zip(*found, strict=True):
            assert (before.status, before.n, math.isfinite(before.value)) == (COUNTS, 6, True), quantity
            assert (after.status, after.n, math.isnan(after.value)) == (MISSING, None, True), quantity
            assert after.why == f"{why}; {BY_OUTCOME}"
            assert "stopped at" in after.note
    # A stopped run of no pair is none of a comparison's.
    cells[1]["seeds"] = [2, 3, 4, 5]
    (rough,) = findings(replace(early, cells=cells), "fluctuation", **of_arm)
    assert (rough.status, rough.n) == (COUNTS, 4)
    # Steps to the target are those of all runs.
    (before,), (after,) = (
        findings(evidence, "paired_effect", **of_arm, convention="less_work_percent") for evidence in (whole, early)
    )
    assert (after.value, after.low, after.n) == (before.value, before.low, before.n)


def test_runs_without_measures_or_stability_are_left_out_and_the_note_says_so(tmp_path: Path) -> None:
    cells = make_cells("sparse_parity", seeds=SEEDS)
    of = {"task": "sparse_parity", "rho": 0.5, "reductions": ["decision"]}

    def evidence(name: str, lacking: tuple[int, ...], shares: str | None = None) -> Evidence:
        """Of results in which these seeds of the baseline have no measures, or all are shared."""
        made = make_records(cells)
        runs, rows, history = made["runs"], made["evaluation"], made["history"]
        baseline = runs["arm"].eq("baseline")
        runs.loc[baseline & runs["seed"].isin(lacking), "no_evaluation"] = "measured otherwise"
        dropped = rows["arm"].eq("baseline") & rows["seed"].isin(lacking)
        if shares:
            dropped = rows["arm"].eq("baseline") & rows["measure"].eq("noise_stability")
            history.loc[history["arm"] == "baseline", "stability"] = math.nan
        folder = tmp_path / name
        for table, schema in (("history", HISTORY), ("runs", COLLECTED_RUNS), ("evaluation", EVALUATION)):
            kept = rows[~dropped] if table == "evaluation" else made[table]
            write_table(folder / "collected" / f"{table}.parquet", kept.to_dict("records"), schema, STAMP)
        write_table(folder / "collected/floors.parquet", [], FLOORS, STAMP)
        named = [{**cell, "shares": shares if cell["arm"] == "baseline" else None} for cell in cells]
        analyse(folder / "collected", named, Analysis(n_resamples=99), folder / "tables", "{}", "d")
        return Evidence(folder / "tables", folder / "collected", named, "paper", n_resamples=199)

    some, all_of_them = evidence("some", (0, 4)), evidence("all", SEEDS)
    for quantity in ("final_stability", "stability_change"):
        (found,) = findings(some, quantity, **of)
        assert found.n == 4
        assert "2 of 6 runs without measures (baseline 2): left out" in found.note
        (found,) = findings(all_of_them, quantity, **of)
        assert (found.status, math.isnan(found.value)) == (MISSING, True)
        assert found.why == "6 of 6 runs without measures (baseline 6): measured otherwise"
    (kept,) = findings(some, "stability_kept", task="sparse_parity", arm="baseline")
    assert (kept.n, "left out" in kept.note) == (6, False)
    shared = evidence("shared", (), "its_twin")
    (found,) = findings(shared, "final_stability", **of)
    assert found.status == MISSING
    assert found.why.startswith("its baseline's runs are those of its_twin, whose noise is another")
    (kept,) = findings(shared, "stability_kept", task="sparse_parity", arm="baseline")
    assert kept.n == 0
    assert "6 of 6 runs have no stability in their history: left out" in kept.note
    (lead,) = findings(shared, "lead", task="sparse_parity")
    assert (lead.n, "6 no stability in its history" in lead.note) == (0, True)
    (rough,) = findings(shared, "fluctuation", task="sparse_parity", rho=0.25, gamma=0.75)
    assert rough.n == 6


def test_stability_of_a_parity_by_reduction(tmp_path: Path) -> None:
    folders = training_folder(tmp_path, make_cells("sparse_parity", seeds=SEEDS))
    evidence = folders.evidence()
    of = {"task": "sparse_parity", "rho": 0.5}
    decision, dot = findings(evidence, "stability_change", **of)
    assert dot.value == pytest.approx((1 + 0.75**2) / 2 - 0.5, abs=0.03)
    assert decision.value == pytest.approx(0.75**2 - 1, abs=0.03)
    (unseen,) = findings(evidence, "final_stability", task="sparse_parity", rho=0.4)
    assert (unseen.status, unseen.why) == (MISSING, "stability was not evaluated at rho = 0.4 (evaluation.rho)")
    (lead,) = findings(evidence, "lead", task="sparse_parity")
    assert (lead.n_unit, lead.setting) == ("runs", "calibrated / baseline")
    (rank,) = findings(evidence, "early_rank", task="sparse_parity")
    assert -1 <= rank.low <= rank.high <= 1 or math.isnan(rank.low)
    by_loss = evidence.table("early_rank").set_index("group").loc["baseline", "rank_by_val_loss"]
    assert rank.extras["rank_by_val_loss"] == by_loss
    # A model that ends as the parity itself is not refused.
    table = read_table(folders.collected / "evaluation.parquet", EVALUATION)
    last = table["step"] == table["step"].max()
    for reduction, value in (("decision", 0.5625), ("probability_dot", 0.78125)):
        table.loc[last & (table["reduction"] == reduction), "value"] = value + table["seed"] / 1e4
    write_table(folders.collected / "evaluation.parquet", table.to_dict("records"), EVALUATION, STAMP)
    evidence = folders.evidence()
    row, found = judged(evidence, "stability_decreases")
    assert row["verdict"] == "partly"
    assert {one["setting"]: one["verdict"] for one in found} == {
        "calibrated / decision": "reproduced",
        "calibrated / probability_dot": "not reproduced",
        "as_published": "not run",
    }
    assert "without as_published: this variant is not in the grid" in row["reason"]
    row, found = judged(evidence, "stability_converges")
    assert row["verdict"] == "paper in error"
    assert [one["verdict"] for one in found] == ["paper in error", "paper in error", "not run"]
    assert "(1 + rho)/2" in row["note"]
    ends = findings(evidence, "final_stability", **of)
    assert [(one.extras["printed"], one.extras["target"]) for one in ends] == [(0.25, 0.5625), (0.25, 0.78125)]


def test_pairs_that_tie_count_for_nothing(tmp_path: Path) -> None:
    seeds = range(8)
    rises = {("baseline", seed): 1000.0 + 100 * seed for seed in seeds}
    rises |= {("gentle", seed): rises["baseline", seed] * (0.6 if seed < 5 else 1.0) for seed in seeds}
    evidence = training_folder(tmp_path, make_cells(seeds=tuple(seeds)), {"calibrated": rises}).evidence()
    row = evidence.table("paired_effect").iloc[0]
    differ = row["n_arm_sooner"] + row["n_baseline_sooner"]
    of = {"task": "modular_addition", "rho": 0.25, "gamma": 0.75}
    (found,) = findings(evidence, "paired_effect", **of, convention="faster_by_percent")
    assert (found.n, found.extras["n_differ"]) == (8, differ)
    assert found.extras["coverage"] == 1 - 2.0 ** (1 - differ)
    assert found.extras["p_value"] == row["p_value"]
    (work,) = findings(evidence, "paired_effect", **of, convention="less_work_percent")
    assert math.isnan(work.extras["p_value"])
    assert work.extras["coverage"] == 1 - 2.0**-7
    assert all("times are known to 100 steps" in one.note for one in (found, work))


def test_a_grid_without_the_task_is_missing() -> None:
    with pytest.raises(
        Missing, match="no run of next_token is in the grid of the configuration; to make it: snakemake"
    ):
        findings(NOTHING, "lead", task="next_token")


# --- specification curves ------------------------------------------------------------------------------


def curve(folder: Path, helps: int, hurts: int, n_open: int, n_pairs: int = 8) -> Evidence:
    """A curve with so many counted specifications, and one that does not count with a single pair."""
    from scipy import stats

    names = {"task": "modular_addition", "curve": "calibrated", "arm": "gentle", "confidence": 0.95}
    n = helps + hurts + n_open
    low, high = stats.binomtest(helps, n).proportion_ci(0.95, "wilson") if n else (NAN, NAN)
    counts = {"helps": helps, "hurts": hurts, "open": n_open}
    share = {**names, "leaks": "shared text", "n_specifications": n + 1, "n_counted": n}
    share |= {f"n_{effect}": count for effect, count in counts.items()}
    share |= {f"share_{effect}": count / n if n else NAN for effect, count in counts.items()}
    share |= {"share_helps_low": low, "share_helps_high": high}
    effects = [effect for effect, count in counts.items() for _ in range(count)]
    rows = [{**names, "effect": effect, "counts": True, "n_pairs": n_pairs} for effect in effects]
    rows.append({**names, "effect": "not counted", "counts": False, "n_pairs": 1})
    for name, given in (("specification_share", [share, {**share, "arm": "reversed"}]), ("specification", rows)):
        kinds = {"string": "", "bool": False}
        empty = {field.name: kinds.get(str(field.type), 0) for field in TABLES[name]}
        filled = [empty | {key: value for key, value in row.items() if key in empty} for row in given]
        write_table(folder / f"{name}.parquet", pd.DataFrame(filled), TABLES[name], STAMP)
    return Evidence(folder, None, make_cells(arms=("baseline", "gentle", "reversed")), "paper")


def test_a_curve_in_which_nothing_counts_does_not_count(tmp_path: Path) -> None:
    evidence = curve(tmp_path, 0, 0, 0)
    one, other = findings(evidence, "specification_share", tasks=["modular_addition", "next_token"])
    assert (one.setting, one.status) == ("modular_addition / calibrated / gentle", ASIDE)
    assert (one.extras["coverage"], math.isnan(one.extras["share_possible_high"])) == (0.0, True)
    assert (other.setting, other.status) == ("next_token", MISSING)
    assert verdict(evidence, "consistently") == "undecided"


@pytest.mark.parametrize(
    ("helps", "hurts", "n_open", "n_pairs", "expected"),
    [
        (18, 1, 1, 8, "reproduced"),
        (18, 1, 1, 5, "undecided"),
        (1, 18, 1, 8, "not reproduced"),
        (1, 18, 1, 5, "undecided"),
        (1, 1, 18, 8, "undecided"),
        (10, 9, 1, 8, "undecided"),
    ],
)
def test_what_could_still_turn_out_to_help_is_not_refused(
    tmp_path: Path, helps: int, hurts: int, n_open: int, n_pairs: int, expected: str
) -> None:
    evidence = curve(tmp_path, helps, hurts, n_open, n_pairs)
    (found,) = findings(evidence, "specification_share", tasks=["modular_addition"])
    assert found.extras["coverage"] == 1 - 2.0 ** (1 - n_pairs)
    assert found.extras["share_possible_high"] > (helps + n_open) / (helps + hurts + n_open)
    assert "leak: shared text" in found.note
    assert judge_one(claims()["consistently"], found).verdict == expected
    row, _ = judged(evidence, "consistently")
    assert row["verdict"] == ("partly" if expected == "reproduced" else expected)
    assert "sparse_parity" in row["reason"]
