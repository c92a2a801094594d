"""The configuration: what the shipped files say, and one clear sentence for every bad one."""

from __future__ import annotations

import copy
import functools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from nsbench.config import base
from nsbench.config import sections as config
from nsbench.config import variant as settings
from nsbench.config.base import parse
from nsbench.config.canonical import canonical_json
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.workflow.config import variant_model
from nsbench.workflow.grid import Cell, expand, load, load_files

ROOT = Path(__file__).parents[2]


@functools.cache
def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def read(name: str) -> dict[str, Any]:
    """A shipped file's values, to change at will."""
    return copy.deepcopy(_read(name))


def overlaid(*names: str) -> dict[str, Any]:
    """config.yaml with further files laid over it, as snakemake's --configfile does."""
    values, over = read("config.yaml"), {}
    for name in names:
        update_config(over, read(name))
    update_config(values, over)
    return values


DEMO, TINY = "workflow/config/demo.yaml", "tests/config/tiny.yaml"


NOTHING: Any = ...
"""Stands for taking a key away."""


def place(values: dict[str, Any], path: Any, value: Any) -> dict[str, Any]:
    """A copy with `value` at a dotted path or a list of keys, or without what is there."""
    values = copy.deepcopy(values)
    here: Any = values
    *parents, last = path.split(".") if isinstance(path, str) else path if isinstance(path, list) else [path]
    for part in parents:
        here = here[int(part) if isinstance(here, list) else part]
    if isinstance(here, list):
        last = int(last)
    if value is NOTHING:
        del here[last]
    else:
        here[last] = value
    return values


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
        assert named == set(getattr(load(overlaid()).tasks, task).arms) - IN_NO_GRID


IN_NO_GRID = {"consistency", "label_smoothing", "negative_label_smoothing", "r_drop", "y_equals_x", "y_differs"}
"""Arms of every task that a grid of one's own may have."""


def test_the_arm_sweep_names_every_rho_and_gamma_and_sets_them() -> None:
    cells = [cell for cell in expand(load(overlaid())) if cell.variant == "windows_pooled"]
    swept = {cell.arm: cell.arm_settings for cell in cells if cell.arm.startswith("noise_stability-")}
    assert {name: (arm.rho, arm.gamma, arm.orientation) for name, arm in swept.items()} == {
        f"noise_stability-rho{rho}-gamma{gamma}": (rho, gamma, 1)
        for rho in (0.05, 0.25, 0.5, 0.75)
        for gamma in (0.05, 0.25, 0.75)
    }
    assert [cell.arm for cell in cells[:2]] == ["baseline", "noise_stability_s0"]


def test_settings_say_how_they_leak() -> None:
    cells = {cell.variant: cell.settings for cell in ordinary_cells() if cell.task == "next_token"}
    assert {variant: found.data.leaks(found.model) for variant, found in cells.items()} == {
        "windows_pooled": [],
        "windows_causal": [],
        "rows_padded": [],
        "windows_overlapping": ["training and validation windows overlap"],
        "windows_overlapping_pooled": ["training and validation windows overlap"],
    }
    others = {(cell.task, cell.variant): cell.settings for cell in ordinary_cells() if cell.task != "next_token"}
    mirrored = ["about 16% of validation pairs stand mirrored in training"]
    most, everything = ([f"about {share}% of validation strings are in training too"] for share in (99, 100))
    assert {at: found.data.leaks(found.model) for at, found in others.items()} == {
        ("modular_addition", "as_published"): mirrored,
        ("modular_addition", "calibrated"): mirrored,
        **{
            ("sparse_parity", f"as_published-n{n}-k{k}"): most if n == 10 else []
            for n in (10, 20, 50, 100)
            for k in (2, 3)
        },
        **{
            ("sparse_parity", f"calibrated-n{n}-k{k}"): everything if n == 10 else []
            for n in (10, 50, 100)
            for k in (2, 3)
        },
        ("sparse_parity", "calibrated"): [],  # 5%, too few to be told
        ("sparse_parity", "calibrated-k3"): [],
    }
    causal = cells["windows_causal"]
    unmasked = causal.model_copy(update={"model": causal.model.model_copy(update={"mask": "none"})})
    assert unmasked.data.leaks(unmasked.model) == ["every position sees its own target"]


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
    of_demo = {"digits"} if name == DEMO else set()
    assert {cell.task for cell in cells} == {"modular_addition", "sparse_parity", "next_token"} | of_demo
    assert all(len(cell.seeds) == n_seeds for cell in cells if not cell.curve_only and cell.task != "next_token")
    assert any(cell.curve_only for cell in cells) == (name == TINY)
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
    default = variant_model(ModularAddition)().model_dump()
    for section, values in TABLE_2.items():
        for key, value in values.items():
            assert variant[section][key] == value, (section, key)
            # A task that says nothing of a scheduler has none.
            assert default[section][key] == ("none" if key == "scheduler" else value), (section, key)


def test_as_published_lists_every_field_of_addition() -> None:
    """Where a reader of config.yaml looks for what there is; each at its default, the scheduler apart."""
    listed = read("config.yaml")["tasks"]["modular_addition"]["variants"]["as_published"]
    default = variant_model(ModularAddition)().model_dump()
    listed["optimizer"]["scheduler"] = "none"
    listed["model"]["kind"] = default["model"]["kind"]
    assert listed == default


@pytest.mark.parametrize(
    ("task", "variant", "data"),
    [
        ("modular_addition", "unordered_pairs", {"split": "unordered_pairs"}),
        ("sparse_parity", "strings_apart", {"n": 10, "split": "apart", "n_train": 300, "n_val": 362, "n_test": 362}),
    ],
)
def test_variants_without_a_leak_are_calibrated_but_for_their_data_and_in_no_grid(
    task: str, variant: str, data: dict[str, Any]
) -> None:
    loaded = load(overlaid())
    variants = getattr(loaded.tasks, task).variants
    expected = variants["calibrated"].model_dump()
    expected["data"] |= data
    assert variants[variant].model_dump() == expected
    assert variants[variant].data.leaks(variants[variant].model) == []
    assert variant not in {cell.variant for cell in expand(loaded)}


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


# --- canonical JSON ----------------------------------------------------------------------------------


def test_canonical_json_ignores_the_order_of_keys() -> None:
    assert canonical_json({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_json({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical_json({"b": [1, 2], "a": None}) == '{"a":null,"b":[1,2]}'


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


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("1.e-2", 1e-2), ("+.5e0", 0.5), ("2", 2.0)])
def test_yaml_s_exponent_without_a_dot_counts_as_the_number(text: str, value: float) -> None:
    assert yaml.safe_load("1e-3") == "1e-3"  # the reason for all this
    assert parse(settings.Optimizer, {"learning_rate": text}).learning_rate == value


def test_every_model_is_closed_and_frozen() -> None:
    values = [*vars(config).values(), *vars(settings).values()]
    models = {value for value in values if isinstance(value, type) and issubclass(value, base.BaseModel)}
    assert len(models) > 10
    for model in models:
        rules = model.model_config
        assert (rules["extra"], rules["frozen"], rules["strict"]) == ("forbid", True, True), model


def test_a_block_s_own_seeds_replace_those_of_the_grid() -> None:
    values = overlaid(TINY)
    values["grid"][1]["seeds"] = [11, 5]
    assert {cell.task: cell.seeds for cell in expand(load(values))} == {
        "modular_addition": [0, 1],
        "sparse_parity": [11, 5],
        "next_token": [0, 1],
    }


def test_files_laid_over_config_are_read_as_snakemake_reads_them() -> None:
    """A section that one overlay leaves out and the next one has again keeps what config.yaml says of it."""
    names = ["workflow/config/published.yaml", "workflow/config/pretrained.yaml"]
    found = load_files([ROOT / "config.yaml", *(ROOT / name for name in names)])
    assert found == load(overlaid(*names))
    assert found.pretrained.only == ["minilm", "smollm2"]
    assert load_files([ROOT / "config.yaml", ROOT / names[0]]).pretrained is None
