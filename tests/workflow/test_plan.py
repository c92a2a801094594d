"""What each stage's spec holds, and so what an edit of the configuration runs again."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from nsbench.cli.grid import read_grid
from nsbench.config.base import ConfigError, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.theory import EXPERIMENTS, ExperimentSpec
from nsbench.data.generate import DatasetSpec
from nsbench.evaluation.run import EvaluateSpec
from nsbench.figures.drawing import TheoryFigureSpec
from nsbench.training.run import TrainSpec, companions, may_share
from nsbench.workflow import grid, job_seconds
from nsbench.workflow.grid import expand, load, parsed
from nsbench.workflow.pace import Pace
from nsbench.workflow.plan import Plan, digest, grid_cells, pack_name, plain
from nsbench.workflow.recorded_runs import index
from tests.config.test_config import DEMO, TINY, overlaid, place
from tests.workflow.conftest import plan_of

ROOT = Path(__file__).parents[2]
QUEUE = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("workflow/config/queue/*.yaml"))
MODULAR = "tasks.modular_addition.variants.tiny"
PARITY = "tasks.sparse_parity.variants.tiny"

Specs = dict[tuple[str, ...], str]


def specs(plan: Plan) -> Specs:
    """Every job's spec, by its stage and what it is for."""
    found: Specs = {("grid", *sections): plan.grid(*sections) for sections in ([], ["analysis"], ["tracking"])}
    for experiment in EXPERIMENTS:
        found["experiment", experiment] = plan.experiment(experiment)
        found["theory-figure", experiment] = plan.theory_figure(experiment)
    for task, variant, arm, pack in plan.packs:
        found["dataset", task, variant, pack] = plan.dataset(task, variant, pack)
        found["train", task, variant, arm, pack] = plan.train(task, variant, arm, pack)
        found["evaluate", task, variant, arm, pack] = plan.evaluate(task, variant, arm, pack)
    return found


def changed(*changes: tuple[str, Any]) -> set[tuple[str, ...]]:
    before, after = specs(plan_of()), specs(plan_of(*changes))
    assert before.keys() == after.keys()
    return {key for key in before if before[key] != after[key]}


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_in(inner)}
    if isinstance(value, list):
        return {key for inner in value for key in keys_in(inner)}
    return set()


ALL = specs(plan_of())
TRAINS, EVALUATES, DATASETS, GRIDS, THEORY, THEORY_FIGURES = (
    {key for key in ALL if key[0] == stage}
    for stage in ("train", "evaluate", "dataset", "grid", "experiment", "theory-figure")
)


def of(keys: set[tuple[str, ...]], *parts: str) -> set[tuple[str, ...]]:
    return {key for key in keys if set(parts) <= set(key)}


# --- what a spec holds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", [TINY, DEMO])
def test_a_spec_holds_what_its_stage_reads_no_more_and_no_less(overlay: str) -> None:
    plan = plan_of(overlay=overlay)
    for task, variant, arm, pack in plan.packs:
        for model, spec in (
            (DatasetSpec, plan.dataset(task, variant, pack)),
            (TrainSpec, plan.train(task, variant, arm, pack)),
            (EvaluateSpec, plan.evaluate(task, variant, arm, pack)),
        ):
            assert canonical_json(parse(model, json.loads(spec))) == spec
            assert set(json.loads(spec)) == set(model.model_fields)


SETTINGS_OF_NO_NUMBER = {
    "device",
    "processes_per_gpu",
    "runs_per_pack",
    "progress_every_seconds",
    "tracking",
    "scale",
    "analysis",
}


def test_no_run_s_spec_holds_what_changes_no_number_of_it() -> None:
    for key in TRAINS | EVALUATES | DATASETS:
        spec = json.loads(ALL[key])
        assert not keys_in(spec) & SETTINGS_OF_NO_NUMBER, key
        assert spec.get("target") is None, key


def test_training_knows_its_target_where_it_stops_by_it() -> None:
    plan = plan_of((f"{MODULAR}.training.stop", "after_target"))
    name = next(key for key in plan.packs if key[:2] == ("modular_addition", "tiny"))
    target = plan.cells[name[:3]].settings.target
    assert json.loads(plan.train(*name))["target"] == target.model_dump()
    assert "target" not in json.loads(plan.evaluate(*name))


def test_the_theory_s_specs_are_settings_of_its_stages() -> None:
    for experiment in EXPERIMENTS:
        spec = parse(ExperimentSpec, json.loads(ALL["experiment", experiment]))
        assert canonical_json(spec) == ALL["experiment", experiment]
        assert canonical_json(spec.parsed()) == canonical_json(spec.settings)
        figure = parse(TheoryFigureSpec, json.loads(ALL["theory-figure", experiment]))
        assert (figure.scale, figure.experiment) == ("demo", spec)


def test_train_reads_no_setting_of_data_or_measures_and_evaluate_none_of_the_optimiser() -> None:
    for key in TRAINS:
        assert not keys_in(json.loads(ALL[key])) & {"data", "evaluation", "keep_checkpoints"}
    for key in EVALUATES:
        assert not keys_in(json.loads(ALL[key])) & {"optimizer", "training", "arm_settings", "gamma", "model"}


def test_the_grid_s_spec_is_a_configuration_of_the_same_cells() -> None:
    for overlay in (TINY, DEMO):
        plan = plan_of(overlay=overlay)
        again = parsed(json.loads(plan.grid("analysis")))
        assert grid_cells(again) == grid_cells(plan.config)
        assert again.analysis == plan.config.analysis


# --- large grids ---------------------------------------------------------------------------------------


def of_variants(count: int) -> dict[str, Any]:
    """A grid of so many variants, with two arms and two packs of each."""
    values = overlaid(TINY) | {"runs_per_pack": 1}
    block = {"task": "modular_addition", "variants": ["tiny"], "arms": ["baseline", "noise_stability"]}
    return values | {"grid": [block | {"sweep": {"optimizer.learning_rate": [1e-4 * (n + 1) for n in range(count)]}}]}


def lines_run(work: Callable[[], Any]) -> int:
    """How many lines of nsbench a call runs: a measure of its work that no other work disturbs."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "nsbench" not in frame.f_globals.get("__name__", ""):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_the_work_of_planning_grows_as_the_grid_does() -> None:
    """Of 800 packs four times that of 200: nothing looks through the whole grid for each of its jobs."""

    names = ("task", "variant", "arm", "pack")

    def work(values: dict[str, Any]) -> None:
        plan = Plan(load(values))
        for found in plan.packs:
            plan.dataset(found[0], found[1], found[3])
            plan.train(*found)
            plan.evaluate(*found)
        plain(plan.cells.values())
        asked = [
            job_seconds.Asked(number, "train_pack", dict(zip(names, found, strict=True)), (), False)
            for number, found in enumerate(plan.packs)
        ]
        Pace(job_seconds.guessed(plan, asked, Path("none")), cores=2, gpus=1, began=0.0)

    digest("train", "baseline", "transformer")
    digest("train", "noise_stability", "transformer")
    small, large = of_variants(50), of_variants(200)
    assert len(Plan(load(large)).packs) == 800
    assert lines_run(lambda: work(large)) < 4.2 * lines_run(lambda: work(small))


# --- what an edit changes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("device", "cpu", set()),
        ("tracking.uri", "http://localhost:1", {("grid", "tracking")}),
        ("analysis.confidence", 0.9, {("grid", "analysis")}),
        ("scale", "paper", GRIDS | THEORY_FIGURES),
        ("theory.seed", 1, THEORY | THEORY_FIGURES),
        ("theory.relu.n_draws", 9, {("experiment", "relu"), ("theory-figure", "relu")}),
        (f"{MODULAR}.target", {"threshold": 0.5}, GRIDS),
        ("checkpoints.keep", False, EVALUATES),
        ("checkpoints.count", 2, TRAINS),
        ("evaluation.n_draws", 2, EVALUATES),
        (f"{MODULAR}.data.n_train", 21, GRIDS | of(DATASETS | EVALUATES, "modular_addition")),
        (f"{MODULAR}.model.d_model", 16, GRIDS | of(TRAINS, "modular_addition")),
        (f"{PARITY}.training.steps", 13, GRIDS | of(TRAINS, "sparse_parity")),
        (f"{PARITY}.optimizer", {"learning_rate": 0.1}, GRIDS | of(TRAINS, "sparse_parity")),
        (f"{PARITY}.noise", {"n_draws": 2}, GRIDS | of(TRAINS | EVALUATES, "sparse_parity")),
        (
            "tasks.modular_addition.arms.noise_stability.gamma",
            0.5,
            GRIDS | of(TRAINS, "modular_addition", "noise_stability"),
        ),
        # What the grid does not use is nobody's business.
        ("tasks.modular_addition.arms.noise_stability_s0.gamma", 9, set()),
        ("tasks.sparse_parity.arms.another", {"kind": "noise_stability", "rho": 0, "gamma": 1}, set()),
        # A default spelled out is the same setting.
        (f"{MODULAR}.optimizer", {"learning_rate": "1e-3", "scheduler": "none"}, set()),
    ],
)
def test_an_edit_changes_the_specs_of_what_depends_on_it_and_no_other(
    path: str, value: Any, expected: set[tuple[str, ...]]
) -> None:
    assert changed((path, value)) == expected


@pytest.mark.parametrize(
    ("path", "one", "other", "stage"),
    [
        ("tasks.sparse_parity.arms.noise_stability", {"rho": 0.1, "gamma": 0.2}, {"rho": 0.2, "gamma": 0.1}, "train"),
        ("seeds", [0, 1], [1, 0], "train"),
    ],
)
def test_swapping_two_values_changes_the_spec(path: str, one: Any, other: Any, stage: str) -> None:
    plans = []
    for value in (one, other):
        values = overlaid(TINY)
        *parents, last = path.split(".")
        here = values
        for parent in parents:
            here = here[parent]
        here[last] = {**here.get(last, {}), **value} if isinstance(value, dict) else value
        plans.append(Plan(load(values)))
    found = [{spec for key, spec in specs(plan).items() if key[0] == stage} for plan in plans]
    assert found[0] != found[1]


def test_a_seed_more_leaves_the_earlier_packs_as_they_are() -> None:
    more = specs(plan_of(("seeds", [0, 1, 2])))
    jobs = TRAINS | EVALUATES | DATASETS
    assert {key: more[key] for key in jobs} == {key: ALL[key] for key in jobs}
    new = {key for key in more if key[0] in ("train", "evaluate", "dataset")} - jobs
    assert {key[-1] for key in new} == {"seeds-2-2"}
    assert len(new) == len(jobs)


def test_an_arm_more_leaves_the_earlier_packs_as_they_are() -> None:
    more = specs(plan_of(("grid.0.arms", ["baseline", "noise_stability", "noise_stability_s0"])))
    jobs = TRAINS | EVALUATES | DATASETS
    assert {key: more[key] for key in jobs} == {key: ALL[key] for key in jobs}
    assert {key[-2] for key in more if key[0] == "train" and key not in ALL} == {"noise_stability_s0"}


def test_another_size_of_packs_leaves_a_run_s_settings_as_they_are() -> None:
    def settings(plan: Plan) -> set[str]:
        found = set()
        for task, variant, arm, pack in plan.packs:
            spec = json.loads(plan.train(task, variant, arm, pack))
            found |= {canonical_json({**spec, "seeds": [seed]}) for seed in spec["seeds"]}
        return found

    assert settings(plan_of(("runs_per_pack", 1))) == settings(plan_of(("runs_per_pack", 7)))


# --- packs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "name"),
    [
        ([0, 1, 2, 3, 4], "seeds-0-4"),
        ([7], "seeds-7-7"),
    ],
)
def test_consecutive_seeds_name_their_pack(seeds: list[int], name: str) -> None:
    assert pack_name(seeds) == name


OTHER = [[0, 2, 4], [0, 1, 4], [0, 3, 4], [4, 2, 0], [0, 4], [2, 1], [1, 0], [0, 2, 1, 3]]


def test_other_seeds_have_their_digest_in_the_name_so_that_no_two_packs_share_one() -> None:
    names = {pack_name(seeds) for seeds in OTHER}
    assert len(names) == len(OTHER)
    for seeds in OTHER:
        assert re.fullmatch(rf"seeds-{seeds[0]}-{seeds[-1]}-[0-9a-f]{{8}}", pack_name(seeds))


def constraints() -> dict[str, str]:
    return dict(re.findall(r'^    (\w+)="(.+)",$', (ROOT / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    "values",
    [
        overlaid(),
        place(overlaid(TINY), "seeds", [5, 3, 2**31 - 1]),
        place(overlaid(TINY), "grid.0.sweep", {"optimizer.learning_rate": [0.1, "1e-3"], "model.norm": ["post"]}),
    ],
    ids=["paper", "odd seeds", "sweep"],
)
def test_every_job_s_names_fit_the_workflow_s_wildcards(values: dict[str, Any]) -> None:
    plan, allowed = Plan(load(values)), constraints()
    for job in plan.packs:
        for wildcard, value in zip(("task", "variant", "arm", "pack"), job, strict=True):
            assert re.fullmatch(allowed[wildcard], value), (wildcard, value)


def test_packs_hold_every_run_of_the_grid_once() -> None:
    for values in (overlaid(), place(overlaid(TINY), "grid.0.seeds", [8, 1, 3, 0, 7])):
        plan = Plan(load(values))
        runs = [(*job[:3], seed) for job in plan.packs for seed in plan.seeds[job[3]]]
        wanted = [(c.task, c.variant, c.arm, seed) for c in expand(plan.config) for seed in c.seeds]
        assert runs == wanted
        assert len(set(runs)) == len(runs)
        assert all(len(plan.seeds[job[3]]) <= plan.config.runs_per_pack for job in plan.packs)


@pytest.mark.parametrize("overlay", [None, DEMO, TINY, *QUEUE[:3]])
def test_stages_that_get_the_grid_as_json_expand_it_as_the_workflow_does(overlay: str | None) -> None:
    """Names and designs depend on the order in which a sweep and choices are written; JSON sorts its keys."""
    plan = Plan(load(overlaid(overlay) if overlay else overlaid()))
    again = Plan(load(json.loads(plan.grid("runs_per_pack"))))
    assert list(again.cells) == list(plan.cells)
    assert again.cells == plan.cells
    assert again.packs == plan.packs
    assert again.grid("runs_per_pack") == plan.grid("runs_per_pack")


def test_automatic_packs_hold_all_runs_of_a_cell_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    values = overlaid(TINY) | {"seeds": list(range(12)), "runs_per_pack": "auto"}
    for device, visible, size in (("auto", "0", 12), ("auto", "", 5), ("cpu", "0", 5), ("cuda", "", 12)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        plan = Plan(load(values | {"device": device}))
        assert max(len(plan.seeds[pack[3]]) for pack in plan.packs) == size
        # A stage that reads the grid on another machine has the same packs.
        assert Plan(load(json.loads(plan.grid("runs_per_pack")))).packs == plan.packs


def test_a_stage_refuses_no_grid_that_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spec lacks runs_per_pack, so the default would make more packs of the same grid."""
    values = overlaid(TINY) | {"seeds": list(range(10)), "runs_per_pack": 10}
    plan = Plan(load(values))
    # Blocks are counted before it is seen which cells they share.
    monkeypatch.setattr(grid, "MOST_PACKS", len(plan.packs) + 4)
    load(values)
    for sections in ((), ("analysis",), ("tracking",)):
        found = read_grid(json.loads(plan.grid(*sections)))
        assert len(found.cells) == len(plan.cells)
        assert found.config.runs_per_pack == 5
    with pytest.raises(ConfigError, match="packs"):
        load(values | {"runs_per_pack": 5})


def test_packs_are_planned_as_one_stack_where_their_runs_may_share_one(tmp_path: Path) -> None:
    """And a job finds the very specs of the others' packs, so that these find their runs finished."""
    plan = plan_of()
    planned = tmp_path / "stacks.json"
    planned.write_text(canonical_json({"n_gpus": 1, "stacks": plan.stacks}))
    specs = {pack: parse(TrainSpec, json.loads(plan.train(*pack)), "spec") for pack in plan.packs}
    found = {pack: [canonical_json(cell) for cell in companions(spec, planned)] for pack, spec in specs.items()}
    assert any(found.values())
    for (one, first), (other, second) in itertools.permutations(specs.items(), 2):
        share = (one[:2], one[3]) == (other[:2], other[3]) and may_share(first, second)
        assert (plan.train(*other) in found[one]) == share


@pytest.mark.parametrize(
    "overlays",
    [
        ["published"],
        ["low_sensitivity"],
        ["low_sensitivity_grokking"],
        ["low_sensitivity", "low_sensitivity_controls"],
        ["effect_size"],
    ],
)
def test_a_published_grid_has_a_record_of_each_run(overlays: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So the settings that these overlays repeat are the same in each of them."""
    monkeypatch.chdir(ROOT)
    config = load(overlaid(*(f"workflow/config/{overlay}.yaml" for overlay in overlays)))
    assert Plan(config, index(config)).packs == []
