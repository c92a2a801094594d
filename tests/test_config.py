"""The configuration: what the shipped files say, and one clear sentence for every bad one."""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from nsbench import closed, config, settings
from nsbench.closed import ConfigError, canonical_json, parse
from nsbench.grid import Cell, expand, load, packs, refuse_duplicate_keys
from nsbench.leaks import leaks
from nsbench.settings import sequence_length

ROOT = Path(__file__).parent.parent


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def overlaid(*names: str) -> dict[str, Any]:
    """config.yaml with further files laid over it, as snakemake's --configfile does."""
    values = read("config.yaml")
    for name in names:
        update_config(values, read(name))
    return values


DEMO, TINY = "workflow/config/demo.yaml", "tests/config/tiny.yaml"


# --- the shipped files -------------------------------------------------------------------------------


def ordinary_cells() -> list[Cell]:
    """The cells of the shipped grid without those that only specification curves have."""
    return [cell for cell in expand(load(overlaid())) if not cell.curve_only]


def test_the_paper_grid_has_every_cell_and_ten_seeds() -> None:
    cells = ordinary_cells()
    assert Counter(cell.task for cell in cells) == {
        "modular_addition": 3 + 11,
        "sparse_parity": (8 + 7) * 3 + 11,
        "next_token": 5 * (2 + 4 * 3),
    }
    assert all(cell.seeds == list(range(10)) for cell in cells)
    papers = {"baseline", "noise_stability", "noise_stability_s0"}
    for cell in cells:
        if cell.task != "next_token" and cell.variant != "calibrated":
            assert cell.arm in papers
    for task in ("modular_addition", "sparse_parity"):
        named = {cell.arm for cell in cells if (cell.task, cell.variant) == (task, "calibrated")}
        assert named == set(getattr(load(overlaid()).tasks, task).arms)


def test_the_arm_sweep_names_every_rho_and_gamma_and_sets_them() -> None:
    cells = [cell for cell in expand(load(overlaid())) if cell.variant == "windows_pooled"]
    swept = {cell.arm: cell.arm_settings for cell in cells if cell.arm.startswith("noise_stability-")}
    assert {name: (arm.rho, arm.gamma, arm.orientation) for name, arm in swept.items()} == {
        f"noise_stability-rho{rho}-gamma{gamma}": (rho, gamma, 1)
        for rho in (0.05, 0.25, 0.5, 0.75)
        for gamma in (0.05, 0.25, 0.75)
    }
    assert [cell.arm for cell in cells[:2]] == ["baseline", "noise_stability_s0"]


def test_one_line_asks_for_the_same_sweep_of_another_task() -> None:
    values = overlaid()
    values["grid"] = [{"task": "modular_addition", "variants": ["calibrated"], "arms": ["baseline"]}]
    values["grid"][0]["arm_sweep"] = {"arm": "noise_stability_s0", "rho": [0, -0.5], "gamma": ["1e-1"]}
    cells = expand(load(values))
    assert [cell.arm for cell in cells] == [
        "baseline",
        "noise_stability_s0-rho0-gamma0.1",
        "noise_stability_s0-rho-0.5-gamma0.1",
    ]
    assert [cell.arm_settings.orientation for cell in cells[1:]] == [0, 0]


def test_protocols_say_how_they_leak() -> None:
    cells = {cell.variant: cell.settings for cell in ordinary_cells() if cell.task == "next_token"}
    assert {variant: leaks(found) for variant, found in cells.items()} == {
        "windows_pooled": [],
        "windows_causal": [],
        "rows_padded": [],
        "windows_overlapping": ["training and validation windows overlap"],
        "windows_overlapping_pooled": ["training and validation windows overlap"],
    }
    causal = cells["windows_causal"]
    unmasked = causal.model_copy(update={"model": causal.model.model_copy(update={"mask": "none"})})
    assert leaks(unmasked) == ["every position sees its own target"]


def test_the_sweep_names_every_combination_of_n_and_k_and_sets_it() -> None:
    cells = [cell for cell in ordinary_cells() if cell.task == "sparse_parity"]
    names = {cell.variant: (cell.settings.data.n, cell.settings.data.k) for cell in cells}
    assert names == {
        **{f"as_published-n{n}-k{k}": (n, k) for n in (10, 20, 50, 100) for k in (2, 3)},
        **{f"calibrated-n{n}-k{k}": (n, k) for n in (10, 50, 100) for k in (2, 3)},
        "calibrated-k3": (20, 3),
        "calibrated": (20, 2),
    }
    # No setting stands under two names.
    assert len({canonical_json(cell.settings) for cell in cells if cell.arm == "baseline"}) == len(names)


@pytest.mark.parametrize(("name", "n_seeds"), [(DEMO, 2), (TINY, 2)])
def test_the_overlays_load_and_run_their_own_grid_alone(name: str, n_seeds: int) -> None:
    loaded = load(overlaid(name))
    cells = expand(loaded)
    assert all(cell.variant.startswith(Path(name).stem) for cell in cells)
    assert {cell.task for cell in cells} == {"modular_addition", "sparse_parity", "next_token"}
    assert all(len(cell.seeds) == n_seeds for cell in cells if not cell.curve_only and cell.task != "next_token")
    assert any(cell.curve_only for cell in cells)
    assert loaded.scale == "demo"
    assert "as_published" in loaded.tasks.modular_addition.variants  # laid over, not replaced


TABLE_2 = {
    "data": {"modulus": 113, "n_train": 2000, "n_val": 200, "n_test": 200},
    "model": {"d_model": 128, "n_layers": 2, "n_heads": 2, "dropout": 0.1, "max_length": 512, "pooling": "mean"},
    "optimizer": {
        "learning_rate": 1e-3,
        "weight_decay": 1e-3,
        "scheduler": "plateau",
        "scheduler_patience": 10,
        "scheduler_factor": 0.8,
    },
    "training": {"steps": 10_000, "batch_size": 256},
}


def test_as_published_is_table_2_and_so_are_the_defaults() -> None:
    variant = load(overlaid()).tasks.modular_addition.variants["as_published"].model_dump()
    default = settings.ModularAdditionVariant().model_dump()
    for section, values in TABLE_2.items():
        for key, value in values.items():
            assert variant[section][key] == value, (section, key)
            # A task that says nothing of a scheduler has none.
            assert default[section][key] == ("none" if key == "scheduler" else value), (section, key)


def test_the_paper_s_rho_and_gamma_of_each_task() -> None:
    tasks = load(overlaid()).tasks
    for task, rho, gamma in ((tasks.modular_addition, 0.25, 0.75), (tasks.sparse_parity, 0.05, 0.05)):
        for name, orientation in (("noise_stability", 1), ("noise_stability_s0", 0)):
            arm = task.arms[name]
            assert (arm.rho, arm.gamma, arm.orientation) == (rho, gamma, orientation)


def test_arms_of_a_variant_share_all_its_settings() -> None:
    by_variant: dict[tuple[str, str], set[str]] = {}
    for cell in expand(load(overlaid())):
        by_variant.setdefault((cell.task, cell.variant), set()).add(canonical_json(cell.settings))
    assert {len(found) for found in by_variant.values()} == {1}


@pytest.mark.parametrize(
    ("variant", "length"),
    [
        (settings.ModularAdditionVariant(), 4),
        (settings.ModularAdditionVariant(data=settings.ModularAdditionData(layout="a_b")), 2),
        (settings.SparseParityVariant(), 20),
        (settings.SparseParityVariant(data=settings.SparseParityData(n=7, layout="bits_cls")), 8),
    ],
)
def test_sequence_length(variant: Any, length: int) -> None:
    assert sequence_length(variant) == length


# --- canonical JSON ----------------------------------------------------------------------------------


def test_canonical_json_ignores_the_order_of_keys() -> None:
    assert canonical_json({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_json({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical_json({"b": [1, 2], "a": None}) == '{"a":null,"b":[1,2]}'


def test_canonical_json_tells_swapped_values_apart() -> None:
    assert canonical_json({"rho": 0.25, "gamma": 0.75}) != canonical_json({"rho": 0.75, "gamma": 0.25})
    assert canonical_json([1, 2]) != canonical_json([2, 1])


def test_canonical_json_spells_defaults_out_also_inside_containers() -> None:
    explicit = settings.Training(steps=10_000, batch_size=256, eval_every_steps=100)
    assert canonical_json({"x": [settings.Training()]}) == canonical_json({"x": [explicit]})
    assert '"steps":10000' in canonical_json(settings.Training())


def test_canonical_json_has_one_text_for_a_number_however_it_is_written() -> None:
    texts = {canonical_json(parse(settings.Optimizer, {"weight_decay": value})) for value in (0, 0.0, "0e0")}
    assert len(texts) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_json_refuses_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": value})


def test_canonical_json_refuses_unknown_objects() -> None:
    with pytest.raises(TypeError, match="cannot write PosixPath"):
        canonical_json({"x": Path("a")})


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E3", 1e3), ("1.e-2", 1e-2), ("+.5e0", 0.5), ("2", 2.0), ("0.001", 1e-3)]
)
def test_yaml_s_exponent_without_a_dot_counts_as_the_number(text: str, value: float) -> None:
    assert yaml.safe_load("1e-3") == "1e-3"  # the reason for all this
    assert parse(settings.Optimizer, {"learning_rate": text}).learning_rate == value


def test_every_model_is_closed_and_frozen() -> None:
    values = [*vars(config).values(), *vars(settings).values()]
    models = {value for value in values if isinstance(value, type) and issubclass(value, closed.BaseModel)}
    assert len(models) > 20
    for model in models:
        rules = model.model_config
        assert (rules["extra"], rules["frozen"], rules["strict"]) == ("forbid", True, True), model


@pytest.mark.parametrize(
    ("seeds", "size", "expected"),
    [
        ([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3], [4]]),
        ([7, 3, 5], 3, [[7, 3, 5]]),
        ([7, 3], 5, [[7, 3]]),
        ([1], 1, [[1]]),
    ],
)
def test_packs_keep_order_and_lose_no_seed(seeds: list[int], size: int, expected: list[list[int]]) -> None:
    assert packs(seeds, size) == expected


def test_a_block_s_own_seeds_replace_those_of_the_grid() -> None:
    values = overlaid(TINY)
    values["grid"][1]["seeds"] = [11, 5]
    assert {cell.task: cell.seeds for cell in expand(load(values))} == {
        "modular_addition": [0, 1],
        "sparse_parity": [11, 5],
        "next_token": [0, 1],
    }


def test_seed_zero_and_the_largest_seed_are_seeds_and_rho_may_be_its_ends() -> None:
    values = overlaid(TINY)
    values["seeds"] = [0, 2**31 - 1]
    values["tasks"]["sparse_parity"]["arms"]["noise_stability"] |= {"rho": -1, "gamma": 0}
    values["tasks"]["modular_addition"]["arms"]["noise_stability"]["rho"] = 1
    assert {tuple(cell.seeds) for cell in expand(load(values))} == {(0, 2**31 - 1)}


# --- bad configurations ------------------------------------------------------------------------------

NOTHING: Any = ...
"""Stands for taking a key away."""
VARIANT, PARITY = "tasks.modular_addition.variants.tiny", "tasks.sparse_parity.variants.tiny"
ARM, BASE = "tasks.modular_addition.arms.noise_stability", "tasks.modular_addition.arms.baseline"
CHEAP = {"kind": "cheap_noise_stability", "rho": 0, "gamma": 1}
SEED = "a whole number in 0 ... 2147483647"
NAME = "a name of letters, digits"
NEXT, SWEEP = "tasks.next_token.variants.tiny", "grid.2.arm_sweep"

BAD: list[tuple[str, Any, list[str]]] = [
    # Unknown keys at every level, with the nearest known one.
    ("sedes", [0], ["sedes: unknown key, did you mean 'seeds'?", "allowed: analysis, checkpoints, device"]),
    ("checkpoints.cuont", 3, ["checkpoints.cuont: unknown key", "'count'", "allowed: count, dtype, keep"]),
    ("evaluation.n_draw", 3, ["evaluation.n_draw: unknown key", "'n_draws'"]),
    ("analysis.confidance", 0.9, ["analysis.confidance: unknown key", "'confidence'"]),
    ("theory.attension", {}, ["theory.attension: unknown key, did you mean 'attention'?"]),
    ("theory.relu.rho", [0.5, 0.5], ["theory.relu: rho: 0.5 is listed twice"]),
    ("theory.attention.rho", [-0.5], ["theory.attention.rho[0]: -0.5 is not allowed; allowed: a number in 0 ... 1"]),
    ("theory.attention.ranks", [], ["theory.attention.ranks: [] is not allowed", "non-empty list"]),
    ("theory.feed_forward.n_draws", 1, ["theory.feed_forward.n_draws: 1 is not allowed", "at least 2"]),
    ("theory.max_values", 5, ["theory.max_values: 5 is not allowed; allowed: a whole number at least 1000"]),
    (
        "theory.recurrence.width",
        3000,
        ["max_values: 4000000 is too small for the sizes of recurrence", "at least 9000000"],
    ),
    ("theory", 3, ["theory: 3 is not allowed; allowed: a section", "or null"]),
    ("tracking.url", "x", ["tracking.url: unknown key", "'uri'", "allowed: uri"]),
    ("grid.0.arm", ["baseline"], ["grid[0].arm: unknown key", "'arms'"]),
    ("tasks.sparse_partiy", {}, ["tasks.sparse_partiy: unknown key", "'sparse_parity'"]),
    ("tasks.modular_addition.varaints", {}, ["tasks.modular_addition.varaints: unknown key", "'variants'"]),
    (f"{VARIANT}.optimiser", {}, [f"{VARIANT}.optimiser: unknown key", "'optimizer'"]),
    (f"{VARIANT}.data.modulos", 7, [f"{VARIANT}.data.modulos: unknown key", "'modulus'"]),
    (f"{PARITY}.data.modulus", 7, [f"{PARITY}.data.modulus: unknown key;", "label_noise", "n_train"]),
    (f"{VARIANT}.model.d_modle", 7, [f"{VARIANT}.model.d_modle: unknown key", "'d_model'"]),
    (f"{VARIANT}.optimizer", {"learningrate": 1}, [".optimizer.learningrate: unknown key", "'learning_rate'"]),
    (f"{VARIANT}.training.step", 7, [f"{VARIANT}.training.step: unknown key", "'steps'"]),
    (f"{VARIANT}.noise", {"same_symbols": True}, [".noise.same_symbols: unknown key", "'same_symbol'"]),
    (f"{VARIANT}.target", {"treshold": 0.9}, [".target.treshold: unknown key", "'threshold'"]),
    (f"{ARM}.gama", 1, [f"{ARM}.gama: unknown key, did you mean 'gamma'?", "allowed: gamma, kind, orientation, rho"]),
    (ARM, {"kind": "noise_stability", "rhoo": 0, "gamma": 1}, [f"{ARM}.rhoo: unknown key, did you mean 'rho'?"]),
    (f"{BASE}.rho", 0.5, [f"{BASE}.rho: unknown key; allowed: kind"]),
    ("zzz", 1, ["zzz: unknown key; allowed: analysis"]),
    (7, 1, ["7: unknown key; allowed: analysis"]),
    # Numbers out of range: the whole range is told.
    (f"{ARM}.rho", 1.5, [f"{ARM}.rho: 1.5 is not allowed; allowed: a number in -1 ... 1"]),
    (f"{ARM}.rho", -1.01, [f"{ARM}.rho: -1.01", "a number in -1 ... 1"]),
    (f"{ARM}.gamma", -0.1, [f"{ARM}.gamma: -0.1", "a number at least 0"]),
    (f"{ARM}.orientation", 2, [f"{ARM}.orientation: 2", "a whole number in 0 ... 1"]),
    ("evaluation.rho", [0.5, 2], ["evaluation.rho[1]: 2", "a number in -1 ... 1"]),
    (f"{PARITY}.data.n", 0, [f"{PARITY}.data.n: 0", "a whole number in 1 ... 4096"]),
    (f"{PARITY}.data.label_noise", 0.5, [".label_noise: 0.5", "a number at least 0 and below 0.5"]),
    (f"{VARIANT}.model.dropout", 1, [f"{VARIANT}.model.dropout: 1", "a number at least 0 and below 1"]),
    (f"{VARIANT}.training.batch_size", 0, [".training.batch_size: 0", "a whole number at least 1"]),
    ("analysis.confidence", 1.0, ["analysis.confidence: 1.0", "a number above 0 and below 1"]),
    ("analysis.n_resamples", 98, ["analysis.n_resamples: 98", "a whole number at least 99"]),
    ("checkpoints.count", 1, ["checkpoints.count: 1", "a whole number at least 2"]),
    ("processes_per_gpu", 0, ["processes_per_gpu: 0", "a whole number in 1 ... 64"]),
    ("progress_every_seconds", 0, ["progress_every_seconds: 0", "a number above 0"]),
    ("seeds", [0, -1], ["seeds[1]: -1", SEED]),
    ("seeds", [2**31], [f"seeds[0]: {2**31}", SEED]),
    # Not numbers at all.
    (f"{ARM}.gamma", math.nan, [f"{ARM}.gamma: nan is not allowed", "a number at least 0"]),
    (f"{ARM}.gamma", math.inf, [f"{ARM}.gamma: inf is not allowed", "a number at least 0"]),
    (f"{VARIANT}.target", {"threshold": math.nan}, [".target.threshold: nan", "a finite number"]),
    (f"{VARIANT}.optimizer", {"learning_rate": "1e999"}, [".learning_rate: '1e999'", "a number above 0"]),
    (f"{ARM}.rho", "ten", [f"{ARM}.rho: 'ten' is not allowed", "a number in -1 ... 1"]),
    (f"{ARM}.rho", None, [f"{ARM}.rho: null is not allowed", "a number in -1 ... 1"]),
    (f"{ARM}.rho", True, [f"{ARM}.rho: true is not allowed", "a number in -1 ... 1"]),
    (f"{ARM}.orientation", True, [f"{ARM}.orientation: true is not allowed", "a whole number in 0 ... 1"]),
    ("runs_per_pack", True, ["runs_per_pack: true is not allowed", "a whole number in 1 ... 1024"]),
    ("runs_per_pack", "5", ["runs_per_pack: '5' is not allowed", "a whole number in 1 ... 1024"]),
    ("runs_per_pack", 2.0, ["runs_per_pack: 2.0 is not allowed", "a whole number in 1 ... 1024"]),
    ("runs_per_pack", [5], ["runs_per_pack: [5] is not allowed", "a whole number in 1 ... 1024"]),
    (f"{VARIANT}.model.ffn_width", "wide", [".ffn_width: 'wide'", "a whole number in 1 ... 65536 or null"]),
    (f"{VARIANT}.noise", {"same_symbol": 1}, [".noise.same_symbol: 1", "allowed: true or false"]),
    ("tracking.uri", 5, ["tracking.uri: 5", "allowed: text or null"]),
    ("device", "gpu", ["device: 'gpu' is not allowed", "'auto' or 'cpu' or 'cuda'"]),
    ("scale", None, ["scale: null is not allowed", "'paper' or 'demo'"]),
    (f"{VARIANT}.model.norm", "Pre", [".model.norm: 'Pre'", "'pre' or 'post'"]),
    # Lists and sections.
    ("seeds", 3, ["seeds: 3 is not allowed", "a non-empty list of whole numbers in 0 ... 2147483647"]),
    ("seeds", [], ["seeds: [] is not allowed", "a non-empty list of whole numbers"]),
    ("seeds", [0, "one"], ["seeds[1]: 'one'", SEED]),
    ("seeds", [3, 1, 3], ["seeds: 3 is listed twice", "once"]),
    ("evaluation.rho", [0.5, 0.5], ["evaluation: rho: 0.5 is listed twice", "once"]),
    ("grid.0.seeds", [4, 4], ["grid[0].seeds: 4 is listed twice", "once"]),
    ("grid.0.seeds", [], ["grid[0].seeds: [] is empty", "at least one seed is needed"]),
    ("grid", [], ["grid: [] is not allowed", "a non-empty list of sections (keys: task, variants, arms"]),
    ("grid", {}, ["grid: {} is not allowed", "a non-empty list of sections"]),
    (
        "grid.0",
        "all",
        [
            "grid[0]: 'all' is not allowed",
            "a section (keys: task, variants, arms, arm_sweep, seeds, sweep, specifications)",
        ],
    ),
    ("grid.0.variants", [], ["grid[0].variants: []", "a non-empty list of names of letters"]),
    ("grid.0.arms", "baseline", ["grid[0].arms: 'baseline'", "a non-empty list of names of letters"]),
    ("grid.0.arms", [3], ["grid[0].arms[0]: 3", NAME]),
    ("tasks", None, ["tasks: null is not allowed", "a section (keys: modular_addition, sparse_parity, next_token)"]),
    (BASE, 3, [f"{BASE}: 3 is not allowed", "a section (keys: kind)"]),
    (f"{VARIANT}.data", [1], [f"{VARIANT}.data: [1]", "a section (keys: modulus, layout"]),
    # Missing keys.
    ("seeds", NOTHING, ["seeds: this key is missing", "needed: a non-empty list of whole numbers"]),
    ("grid.0.arms", NOTHING, ["grid[0].arms: this key is missing", "needed: a non-empty list of names"]),
    ("grid.0.task", NOTHING, ["grid[0].task: this key is missing", "'modular_addition' or 'sparse_parity'"]),
    ("tasks.sparse_parity.arms", NOTHING, ["tasks.sparse_parity.arms: this key is missing", "names"]),
    (f"{ARM}.rho", NOTHING, [f"{ARM}.rho: this key is missing", "needed: a number in -1 ... 1"]),
    (f"{BASE}.kind", NOTHING, [f"{BASE}.kind: this key is missing", "'baseline' or 'noise_stability'"]),
    # Kinds and names.
    (f"{BASE}.kind", "drop", [f"{BASE}.kind: 'drop' is not allowed", "'baseline'", "'cheap_noise_stability'"]),
    (BASE, {"kind": "dropout"}, [f"{BASE}.rate: this key is missing", "a number at least 0 and below 1"]),
    (BASE, {"kind": "dropout", "rate": 1}, [f"{BASE}.rate: 1 is not allowed", "a number at least 0 and below 1"]),
    (BASE, {"kind": "weight_decay", "value": -1}, [f"{BASE}.value: -1 is not allowed", "a number"]),
    (BASE, {"kind": "grokfast", "alpha": 1, "lamb": 2}, [f"{BASE}.alpha: 1 is not allowed", "below 1"]),
    (BASE, {"kind": "grokfast", "alpha": 0.9, "lamb": -2}, [f"{BASE}.lamb: -2 is not allowed"]),
    (BASE, {"kind": "entropy", "gamma": 1, "rho": 1}, [f"{BASE}.rho: unknown key", "allowed: gamma, kind"]),
    (BASE, {"kind": "augmentation", "rho": 1.5, "gamma": 1}, [f"{BASE}.rho: 1.5 is not allowed", "-1 ... 1"]),
    (BASE, {**CHEAP, "every": 0}, [f"{BASE}.every: 0 is not allowed", "at least 1"]),
    (BASE, {**CHEAP, "every": 1.5}, [f"{BASE}.every: 1.5 is not allowed", "a whole number"]),
    (BASE, {**CHEAP, "share": 0}, [f"{BASE}.share: 0 is not allowed", "above 0 and at most 1"]),
    (BASE, {**CHEAP, "branch": "nosy"}, [f"{BASE}.branch: 'nosy' is not allowed", "'noisy'"]),
    (BASE, {**CHEAP, "evry": 2}, [f"{BASE}.evry: unknown key, did you mean 'every'?"]),
    ("tasks.modular_addition.arms.a b", {"kind": "baseline"}, ["tasks.modular_addition.arms: 'a b'", "name", NAME]),
    ("tasks.modular_addition.variants.a/b", {}, ["tasks.modular_addition.variants: 'a/b'", NAME]),
    ("tasks.modular_addition.variants.-x", {}, ["tasks.modular_addition.variants: '-x'", NAME]),
    # Settings that do not fit each other.
    (f"{PARITY}.data.k", 6, [f"{PARITY}.data: k = 6 is more than n = 5", "1 ... n"]),
    (f"{VARIANT}.model", {"d_model": 9, "n_heads": 2}, ["d_model = 9", "n_heads = 2", "multiple"]),
    (f"{VARIANT}.model", {"max_length": 1}, [VARIANT, "2 tokens", "max_length = 1", "at least 2 is allowed"]),
    (f"{PARITY}.data.n", 513, [PARITY, "513 tokens", "max_length = 512"]),
    (
        f"{VARIANT}.data",
        {"modulus": 7, "n_train": 30, "n_val": 10, "n_test": 10},
        ["n_train + n_val + n_test = 50", "modulus 7", "at most 49 is allowed"],
    ),
    (f"{VARIANT}.training.eval_every_steps", 13, ["eval_every_steps = 13", "steps = 12", "at most"]),
    (
        f"{VARIANT}.optimizer",
        {"weight_decay": 1, "weight_decay_convention": "per_step"},
        ["weight_decay = 1 per step", "below 1 is allowed"],
    ),
    # The grid against the tasks.
    ("grid.0.task", "modular_adition", ["grid[0].task: 'modular_adition'", "'modular_addition' or 'sparse_parity'"]),
    ("tasks.sparse_parity", None, ["grid[1].task: 'sparse_parity' has no entry under tasks", "tasks.sparse_parity"]),
    ("grid.0.variants", ["tinny"], ["grid[0].variants: unknown variant 'tinny', did you mean 'tiny'?", "calibrated"]),
    ("grid.0.variants", ["tiny", "tiny"], ["grid[0].variants: 'tiny' is listed twice", "once"]),
    (
        "grid.0.arms",
        ["baseline", "noise_stabilty"],
        ["grid[0].arms: unknown arm 'noise_stabilty', did you mean 'noise_stability'?", "baseline"],
    ),
    ("grid.0.arms", ["baseline", "baseline"], ["grid[0].arms: 'baseline' is listed twice", "once"]),
    ("grid.0.arms", ["noise_stability"], ["grid[0].arms: ['noise_stability'] has no arm of kind baseline", "add one"]),
    (
        "grid.1",
        {"task": "modular_addition", "variants": ["tiny"], "arms": ["baseline"]},
        ["grid[1]: the cell modular_addition / tiny / baseline is in the grid twice", "once"],
    ),
    # The sweep.
    ("grid.0.sweep", {"data.modulos": [5]}, ["grid[0].sweep.data.modulos: unknown key 'modulos'", "'modulus'"]),
    ("grid.0.sweep", {"date.modulus": [5]}, ["grid[0].sweep.date.modulus: unknown key 'date'", "'data'"]),
    ("grid.0.sweep", {"data.modulus.x": [5]}, ["grid[0].sweep.data.modulus.x: 'modulus' is no section"]),
    ("grid.0.sweep", {"data.modulus": []}, ["grid[0].sweep.data.modulus: []", "a non-empty list of values"]),
    ("grid.0.sweep", {"data.modulus": 7}, ["grid[0].sweep.data.modulus: 7", "a non-empty list of values"]),
    ("grid.0.sweep", {"data.modulus": [7, 7]}, ["grid[0].sweep.data.modulus: 7 is listed twice"]),
    ("grid.0.sweep", {"data.modulus": [7, 1]}, ["tiny-modulus1", "data.modulus: 1", "in 2 ... 4096"]),
    ("grid.0.sweep", {"data.modulus": [7, 5]}, ["tiny-modulus5", "n_train + n_val + n_test", "at most 25"]),
    ("grid.0.sweep", {"model": [{"d_model": 8}]}, ["grid[0].sweep: the name", "sweep numbers or words"]),
    (
        SWEEP,
        {"arm": "noise_stability", "rho": [0.5]},
        [".arm_sweep.gamma: this key is missing", "list of finite numbers"],
    ),
    (f"{SWEEP}.roh", [1], ["grid[2].arm_sweep.roh: unknown key, did you mean 'rho'?", "allowed: arm, gamma, rho"]),
    (f"{SWEEP}.arm", "noise", ["grid[2].arm_sweep.arm: unknown arm 'noise', did you mean 'noise_stability'?"]),
    (f"{SWEEP}.arm", "baseline", [".arm_sweep.arm: 'baseline' is of kind baseline, which has no rho and gamma"]),
    (f"{SWEEP}.gamma", [1e6], ["grid[2].arm_sweep: the name", "gamma1e+06", "plainer numbers"]),
    ("grid.2.arms", ["baseline", "noise_stability"], ["rho = 0.25, gamma = 0.75 is already the arm 'noise_stability'"]),
    (f"{SWEEP}.rho", [0.5, 0.5], ["grid[2].arm_sweep: rho: 0.5 is listed twice"]),
    (f"{SWEEP}.rho", [1.5], ["grid[2].arm_sweep.rho: 1.5 is not allowed", "a number in -1 ... 1"]),
    (f"{SWEEP}.gamma", [-1], ["grid[2].arm_sweep.gamma: -1.0 is not allowed", "a number at least 0"]),
    (f"{SWEEP}.gamma", [], ["grid[2].arm_sweep.gamma: [] is not allowed", "a non-empty list of finite numbers"]),
    # Next-token prediction.
    (f"{NEXT}.data.tokenizer", "chars", [f"{NEXT}.data.tokenizer: 'chars'", "'words' or 'bpe'"]),
    (f"{NEXT}.data.targets", "last", [f"{NEXT}: model.pooling = 'none' does not fit", "'mean' or 'last'"]),
    (f"{NEXT}.model.pooling", "mean", [f"{NEXT}: model.pooling = 'mean' does not fit", "'none' is allowed"]),
    (f"{NEXT}.data.examples", "lines", [f"{NEXT}.data.examples: 'lines'", "'windows' or 'rows'"]),
    (f"{NEXT}.data", {"examples": "rows", "split": "random"}, [f"{NEXT}.data: split = 'random'", "only 'by_text'"]),
    (f"{NEXT}.data", {"examples": "rows"}, [f"{NEXT}.data: examples = 'rows'", "targets = 'every' is allowed"]),
    (f"{NEXT}.data", {"tokenizer": "bpe", "n_symbols": 200}, ["n_symbols = 200 is too small", "at least 257"]),
    ("text.source", "web", ["text.source: 'web'", "'auto' or 'hub' or 'local' or 'embedded'"]),
    ("text.file", "x", ["text.file: unknown key", "allowed: path, source"]),
]


def place(values: dict[str, Any], path: Any, value: Any) -> dict[str, Any]:
    """A copy with `value` at a dotted path, or without what is there."""
    values = copy.deepcopy(values)
    here: Any = values
    *parents, last = path.split(".") if isinstance(path, str) else [path]
    for part in parents:
        here = here[int(part) if isinstance(here, list) else part]
    if isinstance(here, list):
        last = int(last)
    if value is NOTHING:
        del here[last]
    else:
        here[last] = value
    return values


JARGON = [
    "Input should",
    "valid list",
    "valid integer",
    "valid string",
    "greater than",
    "less than",
    "expected tags",
    "discriminator",
    "dictionary",
    "pydantic",
    "[key]",
    "None",
    "True",
]


@pytest.mark.parametrize(("path", "value", "told"), BAD, ids=[f"{path}={value!r:.30}" for path, value, _ in BAD])
def test_a_bad_setting_is_told_in_one_sentence(path: Any, value: Any, told: list[str]) -> None:
    good = overlaid(TINY)
    load(good)
    with pytest.raises(ConfigError) as caught:
        load(place(good, path, value))
    message = str(caught.value)
    assert "\n" not in message
    for part in told:
        assert part in message
    for word in JARGON:
        assert word not in message


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_configuration_that_is_no_section_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^config: .* is not allowed; allowed: a section \(keys: device, "):
        load(values)


def test_sections_named_like_kinds_of_arms_keep_their_names_in_messages() -> None:
    values = overlaid(TINY)
    values["tasks"]["modular_addition"]["variants"]["noise_stability"] = {"data": {"modulus": 1}}
    with pytest.raises(ConfigError, match=r"^tasks\.modular_addition\.variants\.noise_stability\.data\.modulus: 1 "):
        load(values)


def test_a_long_value_is_shortened_and_stays_on_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load(place(overlaid(TINY), "device", "x\n" * 500))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_every_number_and_choice_of_the_schema_has_words() -> None:
    """No field of any stage falls back to `a value`, and none shows raw schema."""
    from nsbench.sentences import _Schema

    schema = _Schema(config.Config)

    def leaves(node: dict[str, Any], at: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        found = []
        for option in schema._options(node):
            if option.get("properties"):
                for key, inner in option["properties"].items():
                    found += leaves(inner, (*at, key))
            elif isinstance(option.get("additionalProperties"), dict):
                found += leaves(option["additionalProperties"], (*at, "x"))
            elif option.get("type") == "array":
                found += leaves(option["items"], (*at, 0))
            else:
                found.append(at)
        return found

    places = set(leaves(schema.root, ()))
    assert len(places) > 60
    for at in places - {("grid", 0, "sweep", "x", 0)}:
        assert schema.allowed(at) not in ("a value", "nothing"), at


# --- keys that stand twice ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seeds: [0]\nscale: demo\nseeds: [1]\n", 3, "seeds"),
        ("tasks:\n  a: {x: 1, y: 2,\n      x: 3}\n", 3, "x"),
        ("grid:\n  - task: a\n    arms: [b]\n    task: c\n", 4, "task"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path, text: str, line: int, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"config\.yaml, line {line}: key '{key}' stands twice; once is allowed$"):
        refuse_duplicate_keys(path)


@pytest.mark.parametrize("text", ["", "a: {x: 1}\nb: {x: 1}\n", "- {a: 1}\n- {a: 1}\n"])
def test_the_same_key_in_two_places_is_no_duplicate(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    refuse_duplicate_keys(path)


@pytest.mark.parametrize("content", [b"a: [1", b"a: \xff", b"\ta: b", None])
def test_a_file_that_is_no_yaml_is_named_on_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read as YAML: ") as caught:
        refuse_duplicate_keys(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", DEMO, TINY])
def test_the_shipped_files_have_no_key_twice(name: str) -> None:
    refuse_duplicate_keys(ROOT / name)


def test_a_yaml_alias_to_itself_is_no_endless_walk(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: &a\n  b: *a\n")
    refuse_duplicate_keys(path)
