"""Verdicts that are easily wrong: ties, censored runs, missing parts, a fraction of the settings."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.claims.definitions import Claim, load_claims
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import QUANTITIES
from nsbench.claims.verdicts import Judged, combine, judge, judge_one
from nsbench.config.base import parse
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import EVALUATION
from nsbench.storage.parquet import read_table, write_table
from tests.claims.synthetic_claims import CLAIMS, STAMP, Folders, training_folder
from tests.synthetic_records import make_cells

NAN = math.nan
SEEDS = tuple(range(8))
BASELINE = {("baseline", seed): 1000.0 + 100 * seed for seed in SEEDS}


@functools.cache
def claims() -> dict[str, Claim]:
    return {claim.entry.id: claim for claim in load_claims(CLAIMS)}


def findings(evidence: Evidence, name: str, **parameters: Any) -> list[Finding]:
    return QUANTITIES[name].measure(evidence, parse(QUANTITIES[name].parameters, parameters))


def of_rule(name: str, value: float, low: float = NAN, high: float = NAN, n: int = 8, **extras: float) -> str:
    """What a claim's own rule says of these numbers."""
    return judge_one(claims()[name], Finding("here", value, low, high, n=n, extras=extras)).verdict


SURE = {"coverage": 0.99, "confidence": 0.95}
EFFECT = {**SURE, "coverage_with_ties": 0.99, "p_value": 0.01, "n_differ": 8.0, "baseline_censored": 0.0}

# --- effects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({}, "reproduced"), ({"p_value": 0.06}, "undecided"), ({"p_value": NAN}, "undecided")],
)
def test_an_effect_in_steps_needs_a_small_p_value(changed: dict[str, float], expected: str) -> None:
    assert of_rule("modular_addition_speed", 36, 30, 44, **EFFECT | changed) == expected
    assert of_rule("modular_addition_speed", 10, 5, 20, **EFFECT | changed) == (expected if changed else "partly")


@pytest.mark.parametrize("name", ["modular_addition_speed", "modular_addition_work", "best_of_sweep"])
@pytest.mark.parametrize(("censored", "expected"), [(0.25, "not reproduced"), (0.26, "undecided"), (NAN, "undecided")])
def test_an_effect_that_censoring_understates_is_not_refused(name: str, censored: float, expected: str) -> None:
    assert of_rule(name, 0, -5, 5, **EFFECT | {"baseline_censored": censored}) == expected


def planted(folder: Path, after: dict[int, float], seeds: tuple[int, ...] = SEEDS, budget: int = 3000) -> Evidence:
    """Modular addition with baselines that rise at BASELINE and regularised runs at `after`."""
    cells = make_cells(seeds=seeds, budget=budget)
    rises = BASELINE | {("gentle", seed): step for seed, step in after.items()}
    return training_folder(folder, cells, {"calibrated": rises}).evidence()


SPEED = {"task": "modular_addition", "rho": 0.25, "gamma": 0.75}


def test_pairs_that_tie_count_for_nothing(tmp_path: Path) -> None:
    evidence = planted(tmp_path, {seed: BASELINE["baseline", seed] * (0.6 if seed < 5 else 1.0) for seed in SEEDS})
    row = evidence.table("paired_effect").iloc[0]
    differ = row["n_arm_sooner"] + row["n_baseline_sooner"]
    (found,) = findings(evidence, "paired_effect", **SPEED, convention="faster_by_percent")
    assert (found.n, found.extras["n_differ"]) == (8, differ)
    assert found.extras["coverage"] == 1 - 2.0 ** (1 - differ)
    assert found.extras["p_value"] == row["p_value"]
    assert "times are known to 100 steps" in found.note
    (work,) = findings(evidence, "paired_effect", **SPEED, convention="less_work_percent")
    assert math.isnan(work.extras["p_value"])
    assert work.extras["coverage"] == 1 - 2.0**-7
    assert "times are known to 100 steps" in work.note


def with_p(verdict: str, p_value: float, name: str = "") -> Judged:
    extras = {"confidence": 0.95, "p_value": p_value}
    return Judged(Finding(name or f"{verdict} {p_value}", extras=extras), verdict, "because.")


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [((0.02, 0.5), "partly"), ((0.03, 0.5), "undecided"), ((0.03, NAN), "partly"), ((NAN, NAN), "partly")],
)
def test_where_settings_differ_one_must_survive_holms_correction(p_values: tuple[float, float], expected: str) -> None:
    verdict, reason = combine([with_p("reproduced", p_values[0]), with_p("not reproduced", p_values[1])])
    assert verdict == expected
    assert ("Holm" in reason) == (expected == "undecided")


# --- what must all be there ----------------------------------------------------------------------------


def named(verdict: str, name: str, status: str = COUNTS, why: str = "") -> Judged:
    return Judged(Finding(name, status=status, why=why), verdict, "because.")


def test_a_missing_part_caps_what_must_all_be_there() -> None:
    found = [named("reproduced", "gpt2"), named("not run", "roberta", MISSING, "RoBERTa is unavailable")]
    assert combine(found)[0] == "reproduced"
    assert "roberta: RoBERTa is unavailable" in combine(found)[1]
    verdict, reason = combine(found, all_needed=True)
    assert verdict == "partly"
    assert "roberta: RoBERTa is unavailable" in reason
    assert combine([named("not reproduced", "gpt2"), found[1]], all_needed=True)[0] == "not reproduced"
    aside = named("undecided", "text", ASIDE, "no baseline reached it")
    assert combine([found[0], aside], all_needed=True)[0] == "partly"
    assert combine([found[0], aside])[0] == "reproduced"


# --- specification curves ------------------------------------------------------------------------------

CURVE = {"task": "modular_addition", "curve": "calibrated", "arm": "gentle", "confidence": 0.95}


def curve(folder: Path, helps: int, hurts: int, n_open: int, n_pairs: int = 8) -> Evidence:
    """A curve with so many counted specifications, and one that does not count with a single pair."""
    from scipy import stats

    n = helps + hurts + n_open
    low, high = stats.binomtest(helps, n).proportion_ci(0.95, "wilson") if n else (NAN, NAN)
    share = {**CURVE, "text": "", "leaks": "shared text", "note": "", "n_specifications": n + 1, "n_counted": n}
    share |= {"n_helps": helps, "n_hurts": hurts, "n_open": n_open, "share_helps": helps / n if n else NAN}
    share |= {
        "share_hurts": hurts / n if n else NAN,
        "share_open": n_open / n if n else NAN,
        "share_helps_low": low,
        "share_helps_high": high,
    }
    effects = ["helps"] * helps + ["hurts"] * hurts + ["open"] * n_open + ["not counted"]
    rows = [
        {**CURVE, "variant": f"v{at}", "effect": effect, "counts": effect != "not counted", "n_pairs": n_pairs}
        for at, effect in enumerate(effects)
    ]
    rows[-1]["n_pairs"] = 1
    for name, given in (("specification_share", [share, {**share, "arm": "reversed"}]), ("specification", rows)):
        schema = TABLES[name]
        kinds = {"string": "", "bool": False}
        empty = {field.name: kinds.get(str(field.type), 0) for field in schema}
        filled = [empty | {key: value for key, value in row.items() if key in schema.names} for row in given]
        write_table(folder / f"{name}.parquet", pd.DataFrame(filled), schema, STAMP)
    return Evidence(folder, None, make_cells(arms=("baseline", "gentle", "reversed")), "paper")


def test_a_curve_in_which_nothing_counts_does_not_count(tmp_path: Path) -> None:
    evidence = curve(tmp_path, 0, 0, 0)
    one, other = findings(evidence, "specification_share", tasks=["modular_addition", "next_token"])
    assert (one.setting, one.status) == ("modular_addition / calibrated / gentle", ASIDE)
    assert (one.extras["coverage"], math.isnan(one.extras["share_possible_high"])) == (0.0, True)
    assert (other.setting, other.status) == ("next_token", MISSING)
    assert judge(claims()["consistently"], evidence)[0]["verdict"] == "undecided"


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
    row, _ = judge(claims()["consistently"], evidence)
    assert row["verdict"] == ("partly" if expected == "reproduced" else expected)
    assert "sparse_parity" in row["reason"]


# --- stability of a parity -----------------------------------------------------------------------------


def parity(folder: Path, ends: dict[str, float] | None = None) -> Folders:
    """Sparse parity of k = 2; `ends` is what stability of a reduction is at the last checkpoint."""
    folders = training_folder(folder, make_cells("sparse_parity", seeds=SEEDS))
    table = read_table(folders.collected / "evaluation.parquet", EVALUATION)
    last = table["step"] == table["step"].max()
    for reduction, value in (ends or {}).items():
        table.loc[last & (table["reduction"] == reduction), "value"] = value + table["seed"] / 1e4
    write_table(folders.collected / "evaluation.parquet", table.to_dict("records"), EVALUATION, STAMP)
    return folders


def test_a_model_that_is_the_parity_is_not_refused(tmp_path: Path) -> None:
    evidence = parity(tmp_path, {"decision": 0.5625, "probability_dot": 0.78125}).evidence()
    row, found = judge(claims()["stability_decreases"], evidence)
    assert row["verdict"] == "partly"
    assert {one["setting"]: one["verdict"] for one in found} == {
        "calibrated / decision": "reproduced",
        "calibrated / probability_dot": "not reproduced",
        "as_published": "not run",
    }
    assert "without as_published: this variant is not in the grid" in row["reason"]
    row, found = judge(claims()["stability_converges"], evidence)
    assert row["verdict"] == "paper in error"
    assert [one["verdict"] for one in found] == ["paper in error", "paper in error", "not run"]
    assert "(1 + rho)/2" in row["note"]
    ends = findings(evidence, "final_stability", task="sparse_parity", rho=0.5)
    assert [(one.extras["printed"], one.extras["target"]) for one in ends] == [(0.25, 0.5625), (0.25, 0.78125)]


@pytest.mark.parametrize(
    ("value", "low", "high", "target", "expected"),
    [
        (0.2, 0.18, 0.22, 0.5625, "reproduced"),
        (0.56, 0.55, 0.57, 0.5625, "paper in error"),
        (0.4, 0.35, 0.45, 0.5625, "reproduced"),
        (0.05, 0.04, 0.06, 0.5625, "not reproduced"),
        (1.5, 1.4, 1.6, 0.5625, "not reproduced"),
        (0.26, 0.1, 0.55, 0.5625, "undecided"),
        (0.9, 0.8, 0.95, NAN, "undecided"),
    ],
)
def test_an_end_is_the_printed_one_else_that_of_the_noise(
    value: float, low: float, high: float, target: float, expected: str
) -> None:
    assert of_rule("stability_converges", value, low, high, **SURE, printed=0.25, target=target) == expected


# --- onsets and ranks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (150, 50, 300, "reproduced"),
        (99, 50, 300, "partly"),
        (150, -1, 300, "undecided"),
        (-50, -90, 0, "not reproduced"),
    ],
)
def test_a_lead_below_one_evaluation_is_no_lead(value: float, low: float, high: float, expected: str) -> None:
    assert of_rule("leading_indicator", value, low, high, **SURE, resolution_steps=100.0) == expected


@pytest.mark.parametrize(
    ("value", "low", "high", "by_loss", "expected"),
    [
        (0.8, 0.4, 0.9, -0.5, "reproduced"),
        (-0.8, -0.9, -0.4, 0.5, "reproduced"),
        (0.8, 0.4, 0.9, -0.9, "partly"),
        (0.8, 0.4, 0.9, NAN, "partly"),
        (0.1, -0.3, 0.4, 0.0, "not reproduced"),
        (0.3, -0.3, 0.7, 0.0, "undecided"),
    ],
)
def test_early_stability_must_tell_more_than_early_loss(
    value: float, low: float, high: float, by_loss: float, expected: str
) -> None:
    assert of_rule("early_stability", value, low, high, **SURE, rank_by_val_loss=by_loss) == expected


# --- times ---------------------------------------------------------------------------------------------


# --- the grid and the file -----------------------------------------------------------------------------
