"""What jobs ask of a cluster: against jobs that were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsbench.config import loader as config_files
from nsbench.config.sections import Cluster, Evaluation
from nsbench.workflow import resources as needs
from nsbench.workflow.grid import Cell, load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid, place

GRID = Plan(load(config_files.read(Path("config.yaml"))))
PUBLISHED = Plan(load(overlaid("workflow/config/published.yaml")))


def cell_of(*changes: tuple[str, Any], arm: str = "baseline", task: str = "modular_addition") -> Cell:
    values = overlaid(TINY)
    for path, value in changes:
        values = place(values, path, value)
    return Plan(load(values)).cells[task, "tiny", arm]


# --- operations ----------------------------------------------------------------------------------------

VARIANT = "tasks.modular_addition.variants.tiny"


def flops(*changes: tuple[str, Any], arm: str = "baseline", task: str = "modular_addition") -> float:
    return needs.train_flops(cell_of(*changes, arm=arm, task=task))


@pytest.mark.parametrize("task", ["modular_addition", "sparse_parity"])
def test_a_regularised_run_costs_twice_a_baseline(task: str) -> None:
    assert flops(task=task, arm="noise_stability") == 2 * flops(task=task)


@pytest.mark.parametrize(
    ("path", "value", "factor"),
    [
        (f"{VARIANT}.training.steps", 120, 10),
        (f"{VARIANT}.training.batch_size", 24, 3),
        (f"{VARIANT}.model", {"d_model": 8, "n_layers": 6}, 3),
        (f"{VARIANT}.model", {"d_model": 8, "ffn_width": 32}, 1),
        (f"{VARIANT}.noise", {"n_draws": 5}, 1),
    ],
)
def test_operations_grow_with_the_work(path: str, value: Any, factor: float) -> None:
    assert flops((path, value)) == factor * flops()


def test_draws_cost_a_pass_each() -> None:
    assert flops((f"{VARIANT}.noise", {"n_draws": 5}), arm="noise_stability") == 6 * flops()


def test_operations_are_those_of_the_matrix_products() -> None:
    """d_model 8, width 32, 2 layers, 2 tokens: 4 d^2 for attention, 2 d w forward, 2 d T for scores; both of a
    multiplication and an addition count, forward once and backward twice."""
    forward = 2 * 2 * 2 * (4 * 64 + 2 * 8 * 32 + 2 * 8 * 2)
    assert needs.forward_flops(cell_of()) == forward
    assert flops() == 12 * 8 * 3 * forward


def test_a_checkpoint_is_evaluated_on_clean_noisy_and_replaced_inputs_and_the_test_set() -> None:
    evaluation = Evaluation(rho=[0.0, 0.5], n_inputs=10, n_draws=3)
    # 12 test examples; of 10 the clean ones twice, 2 rho x 3 copies, and one for each of 2 tokens.
    expected = 4 * (10 * (2 + 6 + 2) + 12) * needs.forward_flops(cell_of())
    assert needs.evaluate_flops(cell_of(), evaluation, checkpoints=4) == expected
    more = {"measures": ["test_scores", "token_sensitivity"]}
    more["sensitivity"] = {"perturbations": [{"law": "resample"}], "kept": [0.5], "n_inputs": 7, "n_draws": 3}
    chosen = Evaluation(**{**evaluation.model_dump(), **more})
    length = cell_of().settings.data.sequence_length()
    added = needs.evaluate_flops(cell_of(), chosen, checkpoints=4) - expected
    assert added == 4 * 2 * 7 * 3 * (length + 1) * needs.forward_flops(cell_of())


def test_patches_count_by_their_numbers_and_outputs_by_their_classes() -> None:
    """20,000 images of 16 patches of 49 numbers of 4 bytes; 500 test images with ten logits of 8 bytes, six times, and
    their noisy copies."""
    sizes = {"n_train": 10_000, "n_val": 5_000, "n_test": 5_000}
    images = place(
        overlaid(TINY),
        "tasks.fashion_mnist",
        {
            "arms": {"baseline": {"kind": "baseline"}},
            "variants": {
                "tiny": {
                    "data": sizes,
                    "model": {"d_model": 8},
                    "training": {"batch_size": 1},
                    "noise": {"law": "patch_gaussian"},
                }
            },
        },
    )
    images["grid"].append({"task": "fashion_mnist", "variants": ["tiny"], "arms": ["baseline"]})
    cell = Plan(load(images)).cells["fashion_mnist", "tiny", "baseline"]
    data = 20_000 * 16 * 49 * 4 / 2**20
    spare = needs.MARGIN * (needs.PASS_COPIES * 1 + needs.TRAIN_MB) + needs.SNAKEMAKE_MB + 100
    assert needs.MARGIN * 3 * data <= needs.train_mb(cell, 3, "cpu") <= needs.MARGIN * 3 * data + spare
    evaluation = Evaluation(n_inputs=500, n_draws=8)
    used = needs.EVALUATE_MB + (6 * 500 * 10 * 8 + 500 * 8 * 16 * 49 * 4) / 2**20
    asked = needs.SNAKEMAKE_MB + needs.MARGIN * used
    assert asked <= needs.evaluate_mb(cell, evaluation, "cpu") < asked + 100


# --- against measured jobs -----------------------------------------------------------------------------

# Of one run each: 1e9 operations as torch counts them, peak resident memory (MB) as Snakemake's benchmark files give
# it. benchmarks/README.md, "Jobs".
MEASURED = [
    (GRID, "modular_addition", "as_published", "baseline", 24507, 439),
    (GRID, "modular_addition", "as_published", "noise_stability", 49014, 471),
    (PUBLISHED, "sparse_parity", "as_published-n10-k2-steps1000", "baseline", 6119, 488),
    (PUBLISHED, "sparse_parity", "as_published-n10-k2-steps1000", "noise_stability", 12238, 572),
    (PUBLISHED, "sparse_parity", "calibrated-n20-k2-steps3000", "noise_stability", 5002, 477),
    (GRID, "next_token", "windows_overlapping", "baseline", 7560, 513),
    (GRID, "next_token", "windows_overlapping", "noise_stability-rho0.25-gamma0.75", 15120, 627),
]


@pytest.mark.parametrize(("plan", "task", "variant", "arm", "gflop", "mb"), MEASURED)
def test_operations_and_memory_of_training_are_those_measured(
    plan: Plan, task: str, variant: str, arm: str, gflop: float, mb: float
) -> None:
    cell = plan.cells[task, variant, arm]
    assert needs.train_flops(cell) / 1e9 == pytest.approx(gflop, rel=0.02)
    asked = needs.train_mb(cell, 1, "cpu")
    assert mb + needs.SNAKEMAKE_MB < asked < 1.5 * (mb + needs.SNAKEMAKE_MB)


def test_memory_of_an_evaluation_is_that_measured() -> None:
    """The largest and the smallest seen: 682 MB for next tokens, 482 MB for modular addition."""
    cells = [GRID.cells["next_token", "windows_overlapping", "baseline"]]
    cells.append(GRID.cells["modular_addition", "calibrated", "baseline"])
    for cell, mb in zip(cells, (682, 482), strict=True):
        asked = needs.evaluate_mb(cell, Evaluation(), "cpu")
        assert mb + needs.SNAKEMAKE_MB < asked < 1.5 * (mb + needs.SNAKEMAKE_MB)


@pytest.mark.parametrize(("n_runs", "mb"), [(1_000, 644), (10_000, 5_054)])
def test_memory_for_the_tables_is_that_measured(n_runs: int, mb: float) -> None:
    """By benchmarks/workflow_scale.py, with 1,000 rows a run."""
    cell = cell_of((f"{VARIANT}.training", {"steps": 9990, "eval_every_steps": 10, "batch_size": 8}))
    asked = needs.analyse_mb([cell] * (n_runs // 2))
    assert len(cell.seeds) == 2
    assert mb + needs.SNAKEMAKE_MB < asked < 1.6 * (mb + needs.SNAKEMAKE_MB)


# --- minutes -------------------------------------------------------------------------------------------


def test_minutes_double_at_each_attempt() -> None:
    cluster = Cluster.model_validate({"gflops": {"cpu": 1.0, "cuda": 10.0}})
    hour = 3600e9
    assert [needs.minutes(0.4 * hour, "cpu", cluster, attempt) for attempt in (1, 2, 3)] == [40, 80, 160]
    assert needs.minutes(0.4 * hour, "cuda", cluster, 1) == 13
    assert needs.minutes(0, "cpu", cluster, 1) == needs.START_MINUTES


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("most", [20, 1440])
def test_training_and_evaluation_of_a_pack_ask_together_for_no_more_than_the_cluster_allows(
    device: str, most: int
) -> None:
    cluster = Cluster(max_minutes=most)
    asked = [
        needs.pack_minutes(
            5 * needs.train_flops(cell), 5 * needs.evaluate_flops(cell, Evaluation(), 21), device, cluster, attempt
        )
        for cell in GRID.cells.values()
        for attempt in (1, 2, 3, 4)
    ]
    assert max(map(sum, asked)) == most
    assert min(map(min, asked)) >= 10
