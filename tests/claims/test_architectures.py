"""Claims on architectures, arms and progress, on planted tables that give each verdict."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.claims.evidence import Evidence
from nsbench.config.cells import model_kind
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, HISTORY
from nsbench.storage.parquet import write_table
from tests.claims.synthetic_claims import STAMP, claims, judged
from tests.synthetic_matched import make_image_cells, moving

SEEDS = tuple(range(6))
CELLS = make_image_cells(SEEDS)
RECORDS = {"history": HISTORY, "runs": COLLECTED_RUNS, "evaluation": EVALUATION}
NEVER_IN_THE_GRID = {"sensitivity_cifar10", "sensitivity_svhn", "sensitivity_imagenet"}


def planted(
    folder: Path, grid: list[dict[str, Any]] = CELLS, /, **tables: list[dict[str, Any]] | pd.DataFrame
) -> Evidence:
    """Evidence of these tables and records; columns that a row lacks are empty, 0 or NaN."""
    for name, rows in tables.items():
        schema = RECORDS.get(name) or TABLES[name]
        empty = {field.name: {"string": "", "int64": 0, "double": math.nan}.get(str(field.type)) for field in schema}
        rows = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
        table = pd.DataFrame([{**empty, **row} for row in rows], columns=schema.names)
        write_table(folder / f"{name}.parquet", table, schema, STAMP)
    return Evidence(folder, folder, grid, "paper")


def effects(**ratios: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Rows of MATCHED_EFFECT: variant -> its ratio with the ends, where the claim is judged; in other settings 9."""
    found = []
    choices = (
        ("sensitivity", "sensitivity_normalised"),
        ("first", "second"),
        ("train", "test"),
        ("end", "train_accuracy"),
    )
    for (variant, ratio), (quantity, law, split, matching) in itertools.product(
        ratios.items(), itertools.product(*choices)
    ):
        decides = (quantity, law, split, matching) == ("sensitivity", "first", "train", "train_accuracy")
        row = {"task": CELLS[0]["task"], "variant": variant, "arm": "baseline", "quantity": quantity, "law": law}
        row |= {"split": split, "matching": matching, "n_compared": 6, "margin": 0.1, "text": "Fashion-MNIST"}
        ends = ratio if decides else (9.0, 8.0, 10.0)
        found.append(row | dict(zip(("effect", "effect_low", "effect_high"), ends, strict=True)))
    return found


MORE, LESS, NONE, OPEN = (2.0, 1.5, 3.0), (0.5, 0.4, 0.7), (1.0, 0.95, 1.05), (1.2, 0.8, 2.0)


@pytest.mark.parametrize(
    ("mlp", "cnn", "verdict"),
    [
        (MORE, MORE, "reproduced"),
        (LESS, LESS, "opposite"),
        (NONE, NONE, "no effect larger than 10%"),
        (MORE, LESS, "not reproduced"),
        (MORE, OPEN, "partly"),
        (OPEN, OPEN, "undecided"),
    ],
)
def test_the_transformer_is_judged_beside_both_others(tmp_path: Path, mlp: Any, cnn: Any, verdict: str) -> None:
    evidence = planted(tmp_path, matched_effect=effects(mlp=mlp, cnn=cnn, convmixer=MORE))
    row, found = judged(evidence, "sensitivity_fashion_mnist")
    assert (row["verdict"], row["source"], row["text"]) == (verdict, "vasudeva2025", "Fashion-MNIST")
    assert row["ours"] == mlp[0]
    endings = ("", " / end", " / test", " / second", " / sensitivity_normalised")
    assert {one["setting"] for one in found} == {f"fashion_mnist / {a}{b}" for a in ("mlp", "cnn") for b in endings}
    beside = [one["verdict"] for one in found if one["ours"] == 9]
    assert beside == ["reproduced"] * 8
    assert row["settings"].count("reproduced (beside)") == 8


def test_what_the_grid_lacks_is_named(tmp_path: Path) -> None:
    evidence = planted(tmp_path, matched_effect=effects(mlp=MORE))
    evidence.cells = [cell for cell in CELLS if model_kind(cell) != "cnn"]
    row, _ = judged(evidence, "sensitivity_fashion_mnist")
    assert row["verdict"] == "partly"
    assert "fashion_mnist / cnn: the grid has no cnn of it" in row["reason"]
    rows = [
        one | {"n_compared": 0, "note": "training accuracy 0.95 not reached"} for one in effects(mlp=MORE, cnn=MORE)
    ]
    row, _ = judged(planted(tmp_path, matched_effect=rows), "sensitivity_fashion_mnist")
    assert row["verdict"] == "undecided"
    assert "training accuracy 0.95 not reached" in row["reason"]
    for name in NEVER_IN_THE_GRID:
        row, found = judged(evidence, name)
        assert (row["verdict"], found) == ("not run", [])
        assert "it needs" in row["reason"]


def test_what_stands_in_for_the_papers_text_does_not_count(tmp_path: Path) -> None:
    cells = make_image_cells(SEEDS, {"vit": "transformer", "lstm": "lstm"}, ("baseline",), "movie_snippets")
    rows = [row | {"task": "movie_snippets"} for row in effects(lstm=MORE)]
    row, found = judged(planted(tmp_path, cells, matched_effect=rows), "sensitivity_text")
    assert row["verdict"] == "not run"
    assert "no run of glue is in the grid" in row["reason"]
    assert "MRPC or QQP" in row["reason"]
    assert "no evidence about them: reproduced in 1 (movie_snippets / lstm)" in row["reason"]
    assert len(found) == 6


def ranks(value: float, low: float, high: float, **where: Any) -> list[dict[str, Any]]:
    """Rows of RANK_AGREEMENT: a correlation where a claim is judged, and 0 elsewhere."""
    found = []
    for law, split, matching, group in itertools.product(
        ("first", "second"), ("train", "test"), ("end", "train_accuracy"), ("baselines", "all arms")
    ):
        decides = (law, split, matching, group) == ("first", "train", "end", "baselines")
        ends = (value, low, high) if decides else (0.0, -0.1, 0.1)
        row = {"task": CELLS[0]["task"], "law": law, "split": split, "matching": matching, "group": group, "n_runs": 30}
        for column in ("rank", "beyond"):
            row |= dict(zip((column, f"{column}_low", f"{column}_high"), ends, strict=True))
        found.append(row | where)
    return found


@pytest.mark.parametrize(
    ("name", "where", "ends", "verdict"),
    [
        ("robust_if_insensitive", {"statistic": "partial"}, (-0.5, -0.8, -0.2), "reproduced"),
        ("robust_if_insensitive", {"statistic": "partial"}, (0.5, 0.2, 0.8), "opposite"),
        ("robust_if_insensitive", {"statistic": "partial"}, (0.1, -0.2, 0.4), "undecided"),
        ("flat_if_insensitive", {"statistic": "rho"}, (0.5, 0.2, 0.8), "reproduced"),
        ("flat_if_insensitive", {"statistic": "rho"}, (-0.5, -0.8, -0.2), "opposite"),
        ("better_predictor", {"statistic": "partial", "quantity": "flips"}, (0.2, 0.1, 0.3), "reproduced"),
        ("better_predictor", {"statistic": "partial", "quantity": "flips"}, (-0.2, -0.3, -0.1), "opposite"),
    ],
)
def test_rank_correlations_are_judged_by_their_intervals(
    tmp_path: Path, name: str, where: dict[str, Any], ends: tuple[float, float, float], verdict: str
) -> None:
    where = {"quantity": "sensitivity", "kept": math.nan} | where
    where |= {"kept": 0.5} if where["quantity"] == "flips" else {}
    where["against"], where["against_law"] = (
        ("weight_flips", "absolute") if where["statistic"] == "rho" else ("corrupted_accuracy", "")
    )
    row, found = judged(planted(tmp_path, rank_agreement=ranks(*ends, **where)), name)
    assert (row["verdict"], row["ours"], row["n"]) == (verdict, ends[0], 30)
    assert len(found) == 5
    assert found[0]["setting"].startswith("fashion_mnist")


@pytest.mark.parametrize(
    ("half", "quarter", "verdict"),
    [
        ((0.95, 0.92, 1.0), (0.96, 0.93, 1.0), "reproduced"),
        ((0.5, 0.2, 0.8), (0.3, 0.1, 0.6), "not reproduced"),
        ((0.95, 0.92, 1.0), (0.3, 0.1, 0.6), "not reproduced"),
        ((0.8, 0.5, 1.0), (0.8, 0.4, 1.0), "undecided"),
    ],
)
def test_one_ranking_is_asked_where_half_of_the_tokens_are_kept_or_fewer(
    tmp_path: Path, half: Any, quarter: Any, verdict: str
) -> None:
    where = {"quantity": "flips", "statistic": "tau", "against": "sensitivity"}
    rows = [
        row
        for kept, ends in ((0.9, (1.0, 1.0, 1.0)), (0.5, half), (0.25, quarter))
        for row in ranks(*ends, kept=kept, rank_of_medians=ends[0], **where)
    ]
    row, found = judged(planted(tmp_path, rank_agreement=rows), "same_ranking")
    assert row["verdict"] == verdict
    assert row["n_settings"] == 2
    assert any(one["setting"] == "fashion_mnist, 90% kept" and one["verdict"] == "reproduced" for one in found)
    if verdict == "not reproduced":  # noise of few flips parts the seeds' rankings, and not that of the medians
        alike = [row | {"rank_of_medians": 1.0} for row in rows]
        assert judged(planted(tmp_path, rank_agreement=alike), "same_ranking")[0]["verdict"] != verdict
    only = [row for row in rows if row["kept"] != 0.25]
    row, _ = judged(planted(tmp_path, rank_agreement=only), "same_ranking")
    assert "25% kept: token_sensitivity was not measured" in row["reason"]


def accuracies(**gains: float) -> list[dict[str, Any]]:
    """Rows of MATCHED_MEASURE: arm -> corrupted accuracy above 0.7, which differs between seeds."""
    return [
        {"task": CELLS[0]["task"], "variant": "vit", "arm": arm, "seed": seed, "text": "Fashion-MNIST"}
        | {"quantity": quantity, "matching": matching, "value": 0.7 + gain + 0.01 * seed}
        for arm, gain in gains.items()
        for seed in SEEDS
        for quantity in ("corrupted_accuracy", "test_accuracy")
        for matching in ("end", "equal_flops")
    ]


def test_the_regulariser_must_beat_augmentation_too(tmp_path: Path) -> None:
    other = {"one_agreement": 0.01, "all_mse": 0.03, "all_agreement": 0.0}
    for augmentation, verdict in ((0.02, "reproduced"), (0.06, "not reproduced")):
        rows = accuracies(baseline=0.0, sensitivity=0.04, augmentation=augmentation, **other)
        row, found = judged(planted(tmp_path, matched_measure=rows), "regulariser_robust")
        assert row["verdict"] == verdict
        assert row["ours"] == pytest.approx(0.04)
        assert [one["setting"] for one in found[:3]] == [
            "fashion_mnist / less baseline",
            "fashion_mnist / less baseline / equal_flops",
            "fashion_mnist / less baseline / test_accuracy",
        ]
    row, found = judged(planted(tmp_path, matched_measure=rows), "better_regulariser")
    assert (row["verdict"], row["ours"]) == ("reproduced", pytest.approx(0.04))
    factors = {one["setting"]: one["ours"] for one in found if " less " in one["setting"].split(" / ")[1][3:]}
    assert factors["fashion_mnist / one token less all"] == pytest.approx((0.04 + 0.01 - 0.03 - 0.0) / 2)
    assert factors["fashion_mnist / MSE less agreement"] == pytest.approx((0.04 + 0.03 - 0.01 - 0.0) / 2)


def positions(slopes: dict[str, float], task: str) -> list[dict[str, Any]]:
    """Rows of EVALUATION: variant -> by how much, as a share of its mean, sensitivity rises from first to last."""
    return [
        {"task": task, "variant": variant, "arm": "baseline", "seed": seed, "step": CELLS[0]["budget_steps"]}
        | {"measure": "token_sensitivity", "reduction": f"resample-train-position{place}", "standard_error": 0.0}
        | {"value": 0.02 * (1 + slope * (place / 7 - 0.5)) * (1 + 0.1 * seed)}
        for variant, slope in slopes.items()
        for seed in SEEDS
        for place in range(8)
    ]


def test_slopes_over_positions_are_those_of_straight_lines(tmp_path: Path) -> None:
    cells = make_image_cells(SEEDS, {"vit": "transformer", "last": "lstm", "mean": "lstm"}, ("baseline",), "glue")
    for cell in cells:
        cell["settings"]["model"]["readout"] = cell["variant"]
    rows = positions({"vit": 0.1, "last": 1.3, "mean": 0.1}, "glue")
    row, found = judged(planted(tmp_path, cells, evaluation=rows), "sensitivity_by_position")
    assert row["verdict"] == "partly"
    assert [one["ours"] for one in found] == pytest.approx([1.2, 0.0], abs=1e-9)
    assert found[0]["setting"] == "glue / last, reads last"
    assert found[0]["note"] == "vit: 0.1, LSTM: 1.3"


def test_the_share_that_follows_frequent_tokens_is_compared(tmp_path: Path) -> None:
    cells = make_image_cells(
        SEEDS, {"attention": "transformer", "mlp": "mlp", "lstm": "lstm"}, ("baseline",), "token_mixture"
    )
    rows = [
        {"task": "token_mixture", "variant": variant, "arm": "baseline", "seed": seed, "step": CELLS[0]["budget_steps"]}
        | {"measure": "swapped_accuracy", "reduction": "value", "value": value + 0.01 * seed, "standard_error": 0.0}
        for variant, value in (("attention", 0.9), ("mlp", 0.3), ("lstm", 0.95))
        for seed in SEEDS
    ]
    row, found = judged(planted(tmp_path, cells, evaluation=rows), "frequent_tokens")
    assert [one["verdict"] for one in found] == ["reproduced", "opposite"]
    assert row["verdict"] == "not reproduced"
    assert found[0]["ours"] == pytest.approx(0.6)


def test_what_sensitivity_leads_is_told_by_onsets_at_checkpoints(tmp_path: Path) -> None:
    cells = make_image_cells(SEEDS, {"grokking": "transformer"}, ("baseline",), "modular_addition")
    name = {"task": "modular_addition", "variant": "grokking", "arm": "baseline"}
    tables: dict[str, Any] = {"onset": [{**name, "series": "stability", "share": 0.1}]}
    tables["cells"] = [{**name, "n_seeds": 6, "n_reached": 6, "budget_steps": 1600}]
    records = moving(cells, {"sensitivity": 640, "stability": 800, "test_loss": 1280, "weight_norm": 640})
    evidence = planted(tmp_path, cells, **tables, **records)
    found = {
        one: judged(evidence, one)[0] for one in ("sensitivity_leads_loss", "sensitivity_leads_norm", "better_progress")
    }
    assert [row["ours"] for row in found.values()] == [640, 0, 160]
    assert [row["verdict"] for row in found.values()] == ["reproduced", "not reproduced", "reproduced"]
    assert found["sensitivity_leads_loss"]["n"] == 6
    records["runs"]["status"] = ["diverged", *["completed"] * 5]
    records["evaluation"] = records["evaluation"][records["evaluation"]["measure"] != "token_sensitivity"]
    row, _ = judged(planted(tmp_path, cells, **tables, **records), "sensitivity_leads_loss")
    assert row["verdict"] == "not run"
    assert "token_sensitivity was not measured" in row["reason"]


def test_every_experiment_of_the_second_paper_has_a_row_and_says_what_it_needs() -> None:
    nothing = Evidence(None, None, [], "paper")
    own = [claim.entry.id for claim in claims().values() if claim.entry.source == "vasudeva2025"]
    own = [name for name in own if claims()[name].quantity.source == "training"]
    assert len(own) == 16
    for name in own:
        row, found = judged(nothing, name)
        assert (row["verdict"], found, math.isnan(row["paper"])) == ("not run", [], True)
    links = [claims()[name].entry.place for name in own[-4:]]
    assert links == [f"A question of ours between the papers ({letter})" for letter in "abcd"]
