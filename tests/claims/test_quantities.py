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
from nsbench.schemas.theory import THEORY
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
        ("influence_degree_excess", {}, 0.5, None),
        ("equation_4_error", {}, 2 * (1 / 4 - 3 / (4 * math.pi)), None),
        ("fixed_point_error", {}, 0.0231, None),
        ("linear_closed_form", {"rho": 0.5, "layers": 1}, 0.2842, 0.5),
        ("attention_head", {"n": 8, "d": 4}, 8, 4),
        ("relu_dampening_share", {}, 1 - 0.2172, None),
        ("lemma_12_excess", {}, 0.02476, None),
        ("arithmetic", {"before": 4500, "after": 3300, "convention": "faster"}, 36.36, None),
        ("arithmetic", {"before": 4500, "after": 3300, "convention": "fewer"}, 26.67, None),
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


def test_a_bound_is_looked_at_after_the_last_layer(tmp_path: Path) -> None:
    series = "attention: mean moment of an entry with itself"
    row = dict.fromkeys(THEORY.names, 0.0) | {"experiment": "intervals", "formula": "Lemma 12", "series": series}
    row |= {"n_draws": 50, "n_pairs": 4000, "status": "upper"}
    ratios = {("logit scale 0.01", 1): 1.2, ("logit scale 0.01", 2): 1.8, ("logit scale 1", 2): math.inf}
    rows = [row | {"reading": reading, "x": float(x), "ratio": ratio} for (reading, x), ratio in ratios.items()]
    rows += [row | {"reading": "logit scale 0.01", "x": 3.0, "ratio": 0.1, "status": "lower"}]
    write_table(tmp_path / "theory.parquet", rows, THEORY, STAMP)
    evidence = Evidence(None, None, [], "paper", tmp_path / "theory.parquet")
    found = findings(evidence, "bound_over_simulated", formula="Lemma 12", series=series)
    assert {one.setting: one.value for one in found} == {"logit scale 0.01": 1.8, "logit scale 1": math.inf}
    assert verdict(evidence, "interval_tightness") == "partly"


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
    for name in ("first_and_last", "heads_first_and_last", "stability_bound"):
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
    baseline, cosine = findings(evidence, "stability_kept", task="next_token", arm="baseline")
    arm, _ = findings(evidence, "stability_kept", task="next_token", arm="regularised", rho=0.25, gamma=0.75)
    assert (baseline.setting, cosine.setting) == tuple(
        f"calibrated / baseline, {series}" for series in ("decision_agreement", "stability_cosine")
    )
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
    table = text.evidence().table("selection").set_index("procedure").loc["leave_one_out"]
    assert best.value == pytest.approx(100 * (1 - table["test_steps_ratio"]))
    assert best.low == pytest.approx(100 * (1 - table["test_steps_ratio_high"]))
    (none,) = findings(text.evidence(), "selection", task="next_token", procedure="equal_tuning")
    assert (none.status, "beside a baseline with other settings" in none.why) == (MISSING, True)


def test_a_sweep_s_stability_is_counted_by_setting(text: Folders, tmp_path: Path) -> None:
    history = read_table(text.collected / "history.parquet", HISTORY)
    ends = dict(zip([cell["arm"] for cell in text.cells[1:]], (1.0, 0.1, 0.95, 0.85), strict=True))
    history["decision_agreement"] = np.where(history["step"] == 0, 1.0, history["arm"].map(ends).fillna(1.0))
    write_table(tmp_path / "history.parquet", history.to_dict("records"), HISTORY, STAMP)
    write_table(
        tmp_path / "runs.parquet", read_table(text.collected / "runs.parquet", COLLECTED_RUNS), COLLECTED_RUNS, STAMP
    )
    evidence = Evidence(text.tables, tmp_path, text.cells, "paper")
    decisions, cosine = findings(evidence, "sweep_stability", task="next_token")
    assert (decisions.setting, decisions.n) == ("calibrated / decision_agreement", 4)
    assert decisions.value == 0.5
    assert decisions.extras == {"settled_share": 0.5, "refuted_share": 0.5}
    assert cosine.setting == "calibrated / stability_cosine"


def test_bounds_on_the_tail_are_compared_where_either_says_anything(tmp_path: Path) -> None:
    folders = training_folder(tmp_path, make_cells("sparse_parity", seeds=(0, 1)))
    (none,) = findings(folders.evidence(), "tail_bounds", task="sparse_parity")
    assert none.status == MISSING
    table = read_table(folders.tables / "measure.parquet", TABLES["measure"])
    row = {**table.iloc[0].to_dict(), "measure": "fourier_weight", "arm": "baseline", "rho": NAN, "correlation": NAN}
    rows = []
    for degree, sensitivity, stability in ((1, 2.0, 1.5), (2, 0.9, 1.1), (3, 0.6, 0.5), (4, 1.2, 0.4)):
        rows.append({**row, "reduction": f"influence_bound_{degree}", "value": sensitivity})
        rows.append({**row, "reduction": f"stability_bound_{degree}", "value": stability, "rho": 0.5})
        rows[-1]["correlation"] = 0.75
        rows.append({**rows[-1], "value": 0.0, "rho": 0.9, "correlation": 0.95})
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    write_table(folders.tables / "measure.parquet", table, TABLES["measure"], STAMP)
    (found,) = findings(folders.evidence(), "tail_bounds", task="sparse_parity")
    assert (found.setting, found.n) == ("calibrated / baseline", 3)
    assert found.value == pytest.approx(2 / 3)


def test_fluctuation_is_the_second_difference_and_the_area_ends_at_the_lowest_loss(
    tmp_path: Path,
) -> None:
    cells = make_cells("next_token", arms=("baseline", "gentle"), seeds=SEEDS, threshold=0.25)
    found = {}
    for name, diverged in (("whole", ()), ("lost", (("gentle", 0),))):
        tables = training_folder(tmp_path / name, cells).tables
        made = make_records(cells, diverged=diverged)
        history = made["history"]
        turn = np.where(history["step"] // 100 % 2 == 0, 1.0, -1.0)
        size = history["arm"].map({"baseline": 0.4, "gentle": 0.1}) * (1 + history["seed"] / 10)
        history["val_loss"] = 3.0 + turn * size
        for table, schema in (("history", HISTORY), ("runs", COLLECTED_RUNS)):
            write_table(tmp_path / name / f"w/{table}.parquet", made[table].to_dict("records"), schema, STAMP)
        evidence = Evidence(tables, tmp_path / name / "w", cells, "paper")
        found[name] = {
            quantity: findings(evidence, quantity, task="next_token", rho=0.25, gamma=0.75)[0]
            for quantity in ("fluctuation", "loss_area")
        }
    assert (found["whole"]["fluctuation"].value, found["whole"]["fluctuation"].n) == (pytest.approx(75), 6)
    # The baseline's lowest loss is at its second evaluation.
    area = [100 * (1 - 3.0 / 3.0)]
    assert found["whole"]["loss_area"].value == pytest.approx(area[0], abs=1e-9)
    lost = found["lost"]["fluctuation"]
    assert (lost.status, "1 of 12 runs diverged" in lost.why) == (MISSING, True)


def test_where_stopped_runs_are_left_out_there_is_no_number_and_the_reason_says_which(tmp_path: Path) -> None:
    cells = make_cells("sparse_parity", seeds=SEEDS)
    stopped = (("baseline", 0), ("baseline", 1), ("gentle", 1))
    made = {name: make_records(cells, stopped=runs) for name, runs in (("whole", ()), ("stopped", stopped))}
    for name, records in made.items():
        write_results(tmp_path / name, cells, records)
    whole, early = (
        Evidence(tmp_path / name / "tables", tmp_path / name / "collected", cells, "paper") for name in made
    )
    of, of_arm = {"task": "sparse_parity"}, {"task": "sparse_parity", "rho": 0.25, "gamma": 0.75}
    for quantity, parameters, why in (
        ("final_stability", of, "2 of 6 runs stopped at their target (baseline 2)"),
        ("stability_change", of, "2 of 6 runs stopped at their target (baseline 2)"),
        ("stability_kept", of, "2 of 6 runs stopped at their target (baseline 2)"),
        ("fluctuation", of_arm, "3 of 12 runs stopped at their target (baseline 2, gentle 1)"),
        ("loss_area", of_arm, "3 of 12 runs stopped at their target (baseline 2, gentle 1)"),
        ("lead", of, "2 of 6 runs left out: stopped at the target"),
    ):
        found = [findings(evidence, quantity, **parameters) for evidence in (whole, early)]
        for before, after in zip(*found, strict=True):
            if before.status == ASIDE:  # what stability is compared with
                continue
            assert (before.status, before.n, math.isfinite(before.value)) == (COUNTS, 6, True), quantity
            assert (after.status, after.n, math.isnan(after.value)) == (MISSING, None, True), quantity
            assert after.why == f"{why}; {BY_OUTCOME}"
            assert "stopped at" in after.note
    assert "stopped" not in findings(early, "early_rank", **of)[0].note  # of times, which stopped runs have
    # A stopped run of no pair is none of a comparison's.
    cells[1]["seeds"] = [2, 3, 4, 5]
    (rough,) = findings(replace(early, cells=cells), "fluctuation", **of_arm)
    assert (rough.status, rough.n) == (COUNTS, 4)
    # Steps to the target are those of all runs.
    (before,), (after,) = (
        findings(evidence, "paired_effect", **of_arm, convention="fewer_steps_percent") for evidence in (whole, early)
    )
    assert (after.value, after.n) == (before.value, before.n)


def test_runs_without_measures_or_stability_are_left_out_and_the_note_says_so(tmp_path: Path) -> None:
    cells = make_cells("sparse_parity", seeds=SEEDS)
    of = {"task": "sparse_parity", "reductions": ["decision"]}

    def evidence(name: str, lacking: tuple[int, ...], shares: str | None = None) -> Evidence:
        """Of results in which these seeds of the baseline have no measures, or all are shared."""
        made = make_records(cells)
        runs, rows, history = made["runs"], made["evaluation"], made["history"]
        baseline = runs["arm"].eq("baseline")
        runs.loc[baseline & runs["seed"].isin(lacking), "no_evaluation"] = "measured otherwise"
        dropped = rows["arm"].eq("baseline") & rows["seed"].isin(lacking)
        if shares:
            dropped = rows["arm"].eq("baseline") & rows["measure"].eq("noise_stability")
            lacking_series = ["stability", "stability_cosine", "decision_agreement"]
            history.loc[history["arm"] == "baseline", lacking_series] = math.nan
        folder = tmp_path / name
        for table, schema in (("history", HISTORY), ("runs", COLLECTED_RUNS), ("evaluation", EVALUATION)):
            kept = rows[~dropped] if table == "evaluation" else made[table]
            write_table(folder / "collected" / f"{table}.parquet", kept.to_dict("records"), schema, STAMP)
        write_table(folder / "collected/floors.parquet", [], FLOORS, STAMP)
        named = [{**cell, "shares": shares if cell["arm"] == "baseline" else None} for cell in cells]
        analyse(folder / "collected", named, Analysis(), folder / "tables", "{}", "d")
        return Evidence(folder / "tables", folder / "collected", named, "paper")

    some, all_of_them = evidence("some", (0, 4)), evidence("all", SEEDS)
    for quantity in ("final_stability", "stability_change"):
        (found,) = findings(some, quantity, **of)
        assert found.n == 4
        assert "2 of 6 runs without measures (baseline 2): left out" in found.note
        (found,) = findings(all_of_them, quantity, **of)
        assert (found.status, math.isnan(found.value)) == (MISSING, True)
        assert found.why == "6 of 6 runs without measures (baseline 6): measured otherwise"
    kept, _ = findings(some, "stability_kept", task="sparse_parity", arm="baseline")
    assert (kept.n, "left out" in kept.note) == (6, False)
    shared = evidence("shared", (), "its_twin")
    (found,) = findings(shared, "final_stability", **of)
    assert found.status == MISSING
    assert found.why.startswith("its baseline's runs are those of its_twin, whose noise is another")
    kept, _ = findings(shared, "stability_kept", task="sparse_parity", arm="baseline")
    assert kept.n == 0
    assert "6 of 6 runs have no stability in their history: left out" in kept.note
    lead, *_ = findings(shared, "lead", task="sparse_parity")
    assert (lead.n, "6 none in its history" in lead.note) == (0, True)
    (rough,) = findings(shared, "fluctuation", task="sparse_parity", rho=0.25, gamma=0.75)
    assert rough.n == 6


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return training_folder(tmp_path_factory.mktemp("parity"), make_cells("sparse_parity", seeds=SEEDS)).evidence()


def test_stability_of_a_parity_at_checkpoints(parity: Evidence) -> None:
    (change,) = findings(parity, "stability_change", task="sparse_parity")  # no cosine was evaluated
    assert (change.setting, change.value) == ("calibrated / decision at 0.75", pytest.approx(0.75**2 - 1, abs=0.03))
    (unseen,) = findings(parity, "final_stability", task="sparse_parity", correlations=[0.7])
    assert (unseen.status, unseen.why) == (MISSING, "stability was not evaluated at rho = 0.4 (evaluation.rho)")
    row, found = judged(parity, "stability_decreases")
    assert row["verdict"] == "reproduced"
    assert "without as_published: this variant is not in the grid" in row["reason"]
    row, found = judged(parity, "stability_converges")
    assert row["verdict"] == "reproduced"
    assert [one["setting"] for one in found[:2]] == ["calibrated / decision at 0.5", "calibrated / decision at 0.75"]
    ends = findings(parity, "final_stability", task="sparse_parity", reductions=["decision"], correlations=[0.5, 0.75])
    assert [one.extras["target"] for one in ends] == [0.5**2, 0.75**2]
    assert all(one.extras["start"] == pytest.approx(1, abs=0.03) for one in ends)


def test_a_lead_is_set_beside_what_anybody_could_look_at(parity: Evidence) -> None:
    table = parity.table("lead_lag").set_index(["arm", "series"])["typical_lead_steps"]["baseline"]
    leads = findings(parity, "lead", task="sparse_parity")
    assert {one.setting.removeprefix("calibrated / "): one.value for one in leads} == table.to_dict()
    assert [one.status for one in leads] == [ASIDE] + [COUNTS] * 2 + [ASIDE] * 3
    (rank,) = findings(parity, "early_rank", task="sparse_parity")
    by_loss = parity.table("early_rank").set_index("group").loc["baseline", "rank_by_val_loss"]
    assert rank.extras["rank_by_val_loss"] == by_loss


def test_the_gap_of_grokking_and_the_cost_of_the_pass(tmp_path: Path) -> None:
    evidence = training_folder(tmp_path, make_cells(seeds=range(9))).evidence()
    of = {"task": "modular_addition", "rho": 0.25, "gamma": 0.75}
    times = evidence.table("time_to_target").set_index(["arm", "seed"])
    gaps = (times["step"] - times["train_step"]).unstack(0)
    (gap,) = findings(evidence, "grokking_gap", **of)
    differences = (gaps["gentle"] - gaps["baseline"]).to_numpy()[:8]  # the ninth waits for the next look
    assert gap.n == 8
    assert differences.min() <= gap.low <= gap.value <= gap.high <= differences.max()
    (cost,) = findings(evidence, "pass_cost", **of)
    assert cost.value == 2
    assert verdict(evidence, "additional_pass") == "not reproduced"


def test_the_drop_of_the_loss_and_what_the_orientation_does_to_stability(tmp_path: Path) -> None:
    cells = make_cells(arms=("baseline", "gentle", "reversed"), seeds=range(8))
    folders = training_folder(tmp_path, cells)
    history = read_table(folders.collected / "history.parquet", HISTORY)
    more = history["arm"].map({"baseline": 0.0, "gentle": 0.1, "reversed": -0.2}) + history["seed"] / 1000
    history["stability"] += more.where(history["arm"] != "baseline", 0.0)
    write_table(folders.collected / "history.parquet", history.to_dict("records"), HISTORY, STAMP)
    evidence = folders.evidence()
    of = {"task": "modular_addition", "rho": 0.25, "gamma": 0.75}
    values = [findings(evidence, "stability_effect", **of, orientation=orientation)[0] for orientation in (1, 0)]
    assert [one.value for one in values] == pytest.approx([0.1035, -0.1965], abs=1e-3)
    assert [one.setting for one in values] == ["calibrated / gentle", "calibrated / reversed"]
    assert verdict(evidence, "rewards_stability") == verdict(evidence, "punishes_stability") == "reproduced"
    (sudden,) = findings(evidence, "emergence", task="modular_addition")
    assert 0 < sudden.low <= sudden.value <= sudden.high < 1
    assert verdict(evidence, "emergence") == "reproduced"


def test_a_gap_of_a_run_that_never_generalises_is_a_bound(tmp_path: Path) -> None:
    """Half of the arm's runs fit the training data and never generalise: left out, the others would decide."""
    cells = make_cells(seeds=range(16), budget=6000)
    rises = {("baseline", seed): 2000.0 + 20 * seed for seed in range(16)}
    rises |= {("gentle", seed): rises["baseline", seed] - 400 if seed % 2 else 1e9 for seed in range(16)}
    folders = training_folder(tmp_path, cells, {"calibrated": rises})
    history = read_table(folders.collected / "history.parquet", HISTORY)
    history["train_accuracy"] = np.where(history["step"] == 0, NAN, np.where(history["step"] > 500, 1.0, 0.2))
    write_table(folders.collected / "history.parquet", history.to_dict("records"), HISTORY, STAMP)
    analyse(folders.collected, cells, Analysis(), folders.tables, "{}", "d")
    (gap,) = findings(folders.evidence(), "grokking_gap", task="modular_addition", rho=0.25, gamma=0.75)
    assert (gap.n, gap.high) == (16, math.inf)
    assert gap.low < -300
    assert verdict(folders.evidence(), "catalyses_grokking") == "undecided"


def test_an_arm_that_learns_nothing_is_neither_stable_nor_steady(tmp_path: Path) -> None:
    cells = make_cells("next_token", arms=("baseline", *swept((0.25,), (0.75,))), seeds=range(8), threshold=0.25)
    rises = {("baseline", seed): 900.0 for seed in range(8)} | {(cells[1]["arm"], seed): 1e9 for seed in range(8)}
    evidence = training_folder(tmp_path, cells, {"calibrated": rises}).evidence()
    assert verdict(evidence, "text_speed") == "opposite"
    for name in ("regularised_stays_stable", "steadier_training", "validation_loss"):
        row, _ = judged(evidence, name)
        assert row["verdict"] == "undecided", name
        assert "the arm reached the target in 0 of 8 runs" in row["reason"]


def test_an_untrained_network_reproduces_nothing(tmp_path: Path) -> None:
    given = {"seeds": tuple(range(8)), "budget": 1500}
    cells = [
        *make_cells("modular_addition", ("as_published", "calibrated"), ("baseline", "gentle", "reversed"), **given),
        *make_cells("sparse_parity", ("as_published", "calibrated"), ("baseline", *swept((0.05,), (0.05,))), **given),
        *make_cells("next_token", ("windows_causal",), ("baseline", *swept((0.25, 0.75), (0.05, 0.75))), **given),
    ]
    never = {(cell["arm"], seed): 1e9 for cell in cells for seed in given["seeds"]}
    evidence = training_folder(tmp_path, cells, {cell["variant"]: never for cell in cells}).evidence()
    of_training = [name for name, claim in claims().items() if claim.quantity.source == "training"]
    verdicts = {name: verdict(evidence, name) for name in of_training}
    assert set(verdicts.values()) <= {"undecided", "not reproduced", "not run"}, verdicts
    first = {name for name in of_training if claims()[name].entry.source == "haris2026"}
    assert all(verdicts[name] == "not run" for name in set(of_training) - first)  # nothing was measured for the second
    not_run = {name for name in first if verdicts[name] == "not run"}
    assert not_run == {"consistently", "equally_tuned", "tail_bound_on_tasks"}  # no curve, no tuning, no weights


def test_an_effect_is_that_of_the_table_in_the_claims_convention(tmp_path: Path) -> None:
    rises = {("baseline", seed): 1000.0 + 100 * seed for seed in range(8)}
    rises |= {("gentle", seed): rises["baseline", seed] * (0.6 + 0.02 * seed) for seed in range(8)}
    evidence = training_folder(tmp_path, make_cells(seeds=tuple(range(8))), {"calibrated": rises}).evidence()
    row = evidence.table("paired_effect").iloc[0]
    of = {"task": "modular_addition", "rho": 0.25, "gamma": 0.75}
    for convention, ratio, percent in (
        ("faster_by_percent", "steps_ratio", lambda ratio: 100 * (1 / ratio - 1)),
        ("fewer_steps_percent", "steps_ratio", lambda ratio: 100 * (1 - ratio)),
    ):
        (found,) = findings(evidence, "paired_effect", **of, convention=convention)
        ends = [percent(row[f"{ratio}{end}"]) for end in ("", "_high", "_low")]
        assert [found.value, found.low, found.high] == pytest.approx(ends)
        none = {"margin_low": percent(1.1), "margin_high": percent(1 / 1.1)}
        assert {name: found.extras[name] for name in none} == pytest.approx(none)
        assert (found.n, found.status) == (8, COUNTS)


def test_the_primary_comparison_decides_alone(tmp_path: Path) -> None:
    rises = {("baseline", seed): 1000.0 + 100 * seed for seed in range(8)}
    sooner = rises | {("gentle", seed): rises["baseline", seed] * 0.6 for seed in range(8)}
    later = rises | {("gentle", seed): rises["baseline", seed] * 1.3 for seed in range(8)}
    cells = make_cells(variants=("as_published", "calibrated"), seeds=tuple(range(8)))
    primary = {"modular_addition": {"variant": "calibrated", "arm": "gentle"}}
    given = {"as_published": sooner, "calibrated": later}
    found, made = {}, {}
    for name, settings in (("none", {}), ("primary", {"primary": primary})):
        made[name] = training_folder(tmp_path / name, cells, given, **settings).evidence()
        named = {"modular_addition": "calibrated / gentle"} if settings else {}
        found[name] = judged(replace(made[name], primary=named), "modular_addition_speed")
    row, settings = found["none"]
    assert (row["verdict"], [one["verdict"] for one in settings]) == ("partly", ["reproduced", "opposite"])
    row, settings = found["primary"]
    assert (row["verdict"], [one["verdict"] for one in settings]) == ("opposite", ["undecided", "opposite"])
    assert "beside the primary comparison" in settings[0]["reason"]
    # It may be in a variant that the claim does not list.
    others = make_cells(variants=("as_published", "third"), seeds=tuple(range(8)))
    primary["modular_addition"]["variant"] = "third"
    apart = {"as_published": sooner, "third": later}
    evidence = training_folder(tmp_path / "other", others, apart, primary=primary).evidence()
    row, _ = judged(replace(evidence, primary={"modular_addition": "third / gentle"}), "modular_addition_speed")
    assert row["verdict"] == "opposite"
    # A primary that the grid does not have leaves the task open, whatever the others say.
    misnamed = replace(made["none"], primary={"modular_addition": "calibrated / gentel"})
    row, _ = judged(misnamed, "modular_addition_speed")
    assert row["verdict"] == "undecided"
    assert "calibrated / gentel" in row["settings"]


def test_what_does_not_survive_the_correction_does_not_count(tmp_path: Path) -> None:
    """One of many arms that change nothing is sooner by chance."""
    cells = make_cells(arms=("baseline", "gentle", *swept((0.05, 0.5, 0.75), (0.05, 0.25))), seeds=tuple(range(8)))
    random = np.random.default_rng(0)
    rises = {("baseline", seed): 1500.0 for seed in range(8)}
    for cell in cells[1:]:
        sooner = -1 if cell["arm"] == "gentle" else random.choice([-1, 1], size=8)
        rises |= {(cell["arm"], seed): 1500.0 + change for seed, change in enumerate(300 * np.ones(8) * sooner)}
    evidence = training_folder(tmp_path, cells, {"calibrated": rises}).evidence()
    row = evidence.table("paired_effect").set_index("arm").loc["gentle"]
    assert row["p_value"] <= 1 - row["confidence"] < 0.05 < row["q_value"]
    _, (one, *_) = judged(evidence, "modular_addition_speed")
    assert one["verdict"] == "undecided"
    assert "does not survive the correction" in one["reason"]


def test_a_grid_without_the_task_is_missing() -> None:
    with pytest.raises(
        Missing, match="no run of next_token is in the grid of the configuration; to make it: snakemake"
    ):
        findings(NOTHING, "lead", task="next_token")


# --- specification curves ------------------------------------------------------------------------------


def curve(folder: Path, n_counted: int = 20, **ratios: float) -> Evidence:
    """A pooled curve of modular addition, twice: of the paper's arm and of its reverse."""
    row = {"task": "modular_addition", "curve": "calibrated", "arm": "gentle", "confidence": 0.95}
    row |= {"leaks": "shared text", "n_specifications": n_counted + 1, "n_counted": n_counted, **ratios}
    schema = TABLES["specification_curve"]
    empty = {field.name: "" if str(field.type) == "string" else 0 for field in schema}
    rows = [empty | row, empty | row | {"arm": "reversed"}]
    write_table(folder / "specification_curve.parquet", rows, schema, STAMP)
    return Evidence(folder, None, make_cells(arms=("baseline", "gentle", "reversed")), "paper")


def test_a_curve_in_which_nothing_counts_does_not_count(tmp_path: Path) -> None:
    evidence = curve(tmp_path, 0)
    one, other = findings(evidence, "pooled_effect", tasks=["modular_addition", "next_token"])
    assert (one.setting, one.status) == ("modular_addition / calibrated / gentle", ASIDE)
    assert (other.setting, other.status) == ("next_token", MISSING)
    assert verdict(evidence, "consistently") == "undecided"


@pytest.mark.parametrize(
    ("mean", "new", "expected"),
    [
        ((0.7, 0.65, 0.76), (0.55, 0.95), "reproduced"),
        ((0.7, 0.65, 0.76), (0.55, 1.05), "in the paper's direction"),
        ((1.1, 1.02, 1.2), (0.8, 1.5), "opposite"),
        ((1.0, 0.95, 1.06), (0.7, 1.4), "no effect larger than 10%"),
        ((1.0, 0.85, 1.06), (0.7, 1.4), "undecided"),
    ],
)
def test_consistently_is_judged_by_the_mean_and_a_new_setting(
    tmp_path: Path, mean: tuple[float, float, float], new: tuple[float, float], expected: str
) -> None:
    ratios = {f"steps_ratio{end}": ratio for end, ratio in zip(("", "_low", "_high"), mean, strict=True)}
    ratios |= {"new_steps_ratio_low": new[0], "new_steps_ratio_high": new[1]}
    evidence = curve(tmp_path, **ratios)
    (found,) = findings(evidence, "pooled_effect", tasks=["modular_addition"])
    assert (found.value, found.extras["new_low"]) == pytest.approx((100 * (1 - mean[0]), 100 * (1 - new[1])))
    assert "leak: shared text" in found.note
    assert judge_one(claims()["consistently"], found, 0.1).verdict == expected
    row, _ = judged(evidence, "consistently")
    assert row["verdict"] == ("partly" if expected in ("reproduced", "in the paper's direction") else expected)
    assert "sparse_parity" in row["reason"]
