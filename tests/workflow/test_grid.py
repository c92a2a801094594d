"""Specification curves in the grid: designs, names, shared cells, and one sentence for each bad block."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.config.base import ConfigError
from nsbench.workflow import designs
from nsbench.workflow.grid import Cell, expand, load
from nsbench.workflow.plan import Plan, grid_cells

TASKS = {
    "modular_addition": {
        "arms": {
            "baseline": {"kind": "baseline"},
            "gentle": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75},
            "firm": {"kind": "noise_stability", "rho": 0.5, "gamma": 0.75},
        },
        "variants": {
            "base": {"data": {"layout": "a_b"}, "optimizer": {"weight_decay_convention": "per_step"}},
            "other": {"data": {"layout": "a_plus_b_eq"}},
        },
    }
}
CHOICES = {
    "model.norm": ["post", "pre"],
    "model.mask": ["none", "causal"],
    "decay": {
        "torch": {"optimizer.weight_decay": 0.01, "optimizer.weight_decay_convention": "times_lr"},
        "per_step": {"optimizer.weight_decay_convention": "per_step"},
    },
}


def curve(choices: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """A block that is a specification curve of `base`."""
    asked = {name: given.pop(name) for name in ("design", "n", "seed") if name in given}
    block = {"task": "modular_addition", "variants": ["base"], "arms": ["baseline", "gentle"], **given}
    return {**block, "specifications": {"choices": choices or CHOICES, **asked}}


def plain(variants: tuple[str, ...] = ("base", "other"), **given: Any) -> dict[str, Any]:
    return {"task": "modular_addition", "variants": list(variants), "arms": ["baseline", "gentle"], **given}


def cells_of(*grid: dict[str, Any], seeds: list[int] | None = None, tasks: Any = None) -> list[Cell]:
    return expand(load({"seeds": seeds or [0, 1, 2], "grid": list(grid), "tasks": tasks or TASKS}))


def baselines(*grid: dict[str, Any], **given: Any) -> dict[str, Cell]:
    """The baseline's cell of every variant."""
    return {cell.variant: cell for cell in cells_of(*grid, **given) if cell.arm == "baseline"}


# --- designs ---------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(2, 4), min_size=1, max_size=5)


def test_the_full_design_is_every_combination_with_the_base_first() -> None:
    rows = designs.full([2, 3])
    assert rows == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_one_at_a_time_is_the_base_and_every_other_level_alone() -> None:
    assert designs.one_at_a_time([2, 3]) == [(0, 0), (1, 0), (0, 1), (0, 2)]


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 5), data=st.data())
def test_a_fraction_is_distinct_holds_the_base_and_grows_by_addition(sizes: list[int], seed: int, data: Any) -> None:
    count = math.prod(sizes)
    n = data.draw(st.integers(1, count))
    rows = designs.fraction(sizes, n, seed)
    assert len(set(rows)) == len(rows) == n
    assert rows[0] == (0,) * len(sizes)
    assert all(0 <= level < size for row in rows for level, size in zip(row, sizes, strict=True))
    assert designs.fraction(sizes, min(n + 3, count), seed)[:n] == rows
    if n == count:
        assert set(rows) == set(designs.full(sizes))


def imbalance(rows: designs.Design, sizes: list[int]) -> int:
    """Of the choice that is worst off: uses of its commonest level minus those of its rarest."""
    counts = [Counter(row[at] for row in rows) for at in range(len(sizes))]
    return max(
        max(count[level] for level in range(size)) - min(count[level] for level in range(size))
        for count, size in zip(counts, sizes, strict=True)
    )


@pytest.mark.parametrize(
    ("sizes", "n", "allowed"), [([2] * 12, 16, 0), ([2] * 14, 32, 2), ([3, 2, 2, 3] * 4, 32, 2), ([4, 3, 2], 12, 1)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fraction_uses_levels_about_equally_and_sets_no_two_choices_alike(
    sizes: list[int], n: int, allowed: int, seed: int
) -> None:
    rows = designs.fraction(sizes, n, seed)
    assert imbalance(rows, sizes) <= allowed
    for first, second in itertools.combinations(range(len(sizes)), 2):
        together = Counter((row[first], row[second]) for row in rows)
        commonest = max(together.values()) * sizes[first] * sizes[second] / n
        assert commonest < 2, (first, second)  # 1 is perfect; two choices that are always alike have 2 or more
        assert len(together) > max(sizes[first], sizes[second])


def test_a_fraction_of_very_many_combinations_is_drawn_and_its_seed_matters() -> None:
    first, second = (designs.fraction([2] * 40, 16, seed) for seed in (0, 1))
    assert len(set(first)) == 16
    assert first[0] == second[0] == (0,) * 40
    assert first != second
    with pytest.raises(ValueError, match=r"n = 5 of 4 combinations; 1 ... 4 is allowed"):
        designs.fraction([2, 2], 5, 0)


# --- expansion -------------------------------------------------------------------------------------


def test_a_specification_is_named_after_what_differs_from_the_base() -> None:
    found = baselines(curve())
    assert next(iter(found)) == "base"
    assert set(found) == {
        "base",
        "base-maskcausal",
        "base-normpost",
        "base-maskcausal-normpost",
        *(
            f"base{rest}-weight_decay0.01-weight_decay_conventiontimes_lr"
            for rest in ("", "-maskcausal", "-normpost", "-maskcausal-normpost")
        ),
    }
    both = found["base-maskcausal-normpost"]
    assert (both.settings.model.mask, both.settings.model.norm) == ("causal", "post")
    assert both.settings.data == found["base"].settings.data
    assert both.choices == {"model.norm": "post", "model.mask": "causal", "decay": "per_step"}
    assert {cell.curve for cell in found.values()} == {"base"}


def test_names_stay_when_a_choice_or_a_level_is_added_or_levels_change_places() -> None:
    few = {cell.variant: cell.settings for cell in cells_of(curve({"model.norm": ["pre", "post"]}))}
    more = {
        "model.norm": ["post", "pre"],
        "optimizer.weight_decay": [0.1, 0.001, 0.01],
        "model.mask": ["none", "causal"],
    }
    many = {cell.variant: cell.settings for cell in cells_of(curve(more))}
    assert len(many) == 12
    assert {name: many[name] for name in few} == few


def test_a_long_name_becomes_a_digest_of_its_settings_alone() -> None:
    wide = {
        "optimizer.weight_decay_convention": ["per_step", "times_lr"],
        "optimizer.scheduler": ["none", "plateau"],
        "optimizer.scheduler_metric": ["val_loss", "train_loss"],
        "optimizer.scheduler_patience": [10, 20],
    }
    more = {"model.norm": ["pre", "post"], **dict(reversed(wide.items()))}
    names = [set(baselines(curve(choices))) for choices in (wide, more)]
    long = {name for name in names[0] if len(name) == len("base-") + 12}
    assert len(names[0]) == 16
    assert len(long) == 1
    assert names[0] <= names[1]
    assert all(len(name) <= 100 for name in names[1])


def test_numbers_that_yaml_reads_as_text_count_as_numbers() -> None:
    found = baselines(curve({"optimizer.weight_decay": ["1e-3", "1e-2"]}))
    assert set(found) == {"base", "base-weight_decay0.01"}
    assert found["base"].choices == {"optimizer.weight_decay": 0.001}


@pytest.mark.parametrize(
    ("design", "n", "expected"), [("full", None, 8), ("one_at_a_time", None, 4), ("fraction", 5, 5)]
)
def test_a_design_has_its_number_of_specifications_and_the_base_among_them(
    design: str, n: int | None, expected: int
) -> None:
    found = baselines(curve(design=design, **({} if n is None else {"n": n})))
    assert len(found) == expected
    assert "base" in found
    keys = {tuple(cell.choices) for cell in found.values()}
    assert keys == {tuple(CHOICES)}


def test_cells_of_the_base_are_shared_with_other_blocks_and_keep_their_seeds_and_place() -> None:
    alone = cells_of(plain(seeds=[0, 1, 2, 3, 4]))
    both = cells_of(plain(seeds=[0, 1, 2, 3, 4]), curve(seeds=[1, 2]))
    keys = [(cell.variant, cell.arm) for cell in both]
    assert keys[: len(alone)] == [(cell.variant, cell.arm) for cell in alone]
    assert len(set(keys)) == len(keys) == 4 + 2 * 7
    for cell in both:
        is_base = cell.variant == "base"
        assert cell.seeds == ([0, 1, 2, 3, 4] if cell.variant in ("base", "other") else [1, 2])
        assert cell.curve == (None if cell.variant == "other" else "base")
        assert cell.curve_only == (cell.variant not in ("base", "other"))
        assert bool(cell.choices) == (cell.variant != "other")
        if is_base:
            assert cell.choices == {"model.norm": "pre", "model.mask": "none", "decay": "per_step"}


def test_arms_that_a_curve_does_not_have_stay_out_of_it() -> None:
    found = cells_of(plain(("base",), arms=["baseline", "gentle", "firm"]), curve())
    assert {cell.arm for cell in found if cell.curve} == {"baseline", "gentle"}
    assert not any(cell.curve_only for cell in found if cell.arm == "firm")


def test_the_swept_arm_of_another_block_is_shared() -> None:
    sweep = {"arm": "gentle", "rho": [0.25, 0.5], "gamma": [0.75]}
    one = {"arm": "gentle", "rho": [0.25], "gamma": [0.75]}
    found = cells_of(
        plain(("base",), arms=["baseline"], arm_sweep=sweep), curve(arms=["baseline"], arm_sweep=one, design="full")
    )
    shared = [cell for cell in found if cell.variant == "base" and cell.curve]
    assert [cell.arm for cell in shared] == ["baseline", "gentle-rho0.25-gamma0.75"]


def test_a_base_that_no_other_block_has_is_in_the_grid_for_its_curve_alone() -> None:
    assert all(cell.curve_only for cell in cells_of(curve()))
    assert not any(cell.curve_only or cell.curve or cell.choices for cell in cells_of(plain()))


# --- one sentence for each bad block ---------------------------------------------------------------

BAD = {
    "two variants": (
        curve(variants=["base", "other"]),
        "variants = ['base', 'other'] with specifications; one variant",
    ),
    "no n": (curve(design="fraction"), "n = null with design = 'fraction'; a fraction needs n"),
    "too large a fraction": (curve(design="fraction", n=9), "n = 9 is more than the 8 combinations"),
    "too many": (
        curve({"optimizer.scheduler_patience": list(range(70)), "training.steps": list(range(10_000, 10_070))}),
        "the choices make 4,900 specifications; at most 4,096",
    ),
    "an unknown field": (curve({"model.norn": ["pre", "post"]}), "unknown key 'norn', did you mean 'norm'?"),
    "a whole section": (curve({"model": ["pre", "post"]}), "'model' is a section of a variant"),
    "below a field": (curve({"model.norm.x": [1, 2]}), "'norm' is no section of a variant"),
    "without the base": (
        curve({"optimizer.weight_decay": [0.1, 0.01]}),
        "choices.optimizer.weight_decay: the base's own optimizer.weight_decay = 0.001 is not among its levels",
    ),
    "named, without the base": (
        curve({"decay": {"a": {"optimizer.weight_decay": 0.1}, "b": {"optimizer.weight_decay": 0.2}}}),
        "choices.decay: the base's own optimizer.weight_decay = 0.001 is not among its levels",
    ),
    "a field in two choices": (
        curve({"model.norm": ["pre", "post"], "both": {"a": {"model.norm": "pre"}, "b": {"model.norm": "post"}}}),
        "choices.both: sets model.norm, which the choice model.norm sets too",
    ),
    "two levels alike": (
        curve({"decay": {"a": {"optimizer.weight_decay": 0.001}, "b": {"model.norm": "pre"}}}),
        "choices.decay: 'b' sets what another level does",
    ),
    "a refused level": (
        curve({"data.n_train": [2000, 13_000]}),
        "choices.data.n_train (13000).data: n_train + n_val + n_test = 13400 is more than the 12769 pairs",
    ),
    "a refused combination": (
        curve({"data.n_train": [2000, 12_000], "data.n_val": [200, 600]}),
        "specifications (data.n_train = 12000, data.n_val = 600).data: n_train + n_val + n_test = 12800 is more",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_block_is_told_in_one_sentence(name: str) -> None:
    block, told = BAD[name]
    with pytest.raises(ConfigError) as caught:
        cells_of(block)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    assert message.startswith("grid[0]")


def renamed() -> dict[str, Any]:
    """The tasks with a variant called as a specification, but set otherwise."""
    tasks = copy.deepcopy(TASKS)
    tasks["modular_addition"]["variants"]["base-normpost"] = {"model": {"norm": "post"}}
    return tasks


def test_blocks_that_cannot_share_cells_are_told_apart() -> None:
    cases = [
        (
            (plain(seeds=[0, 1]), curve(seeds=[1, 2])),
            None,
            "grid[1].seeds: the cell modular_addition / base / baseline",
        ),
        (
            (curve(), curve({"model.pooling": ["mean", "last"]})),
            None,
            "grid[1].specifications: 'base' of modular_addition",
        ),
        ((plain(), plain()), None, "is in the grid twice"),
        ((plain(("base-normpost",)), curve()), renamed(), "is in another block with other settings"),
    ]
    for grid, tasks, told in cases:
        with pytest.raises(ConfigError) as caught:
            cells_of(*grid, tasks=tasks)
        assert told in str(caught.value)


def test_a_variant_named_and_set_like_a_specification_is_shared() -> None:
    tasks = renamed()
    tasks["modular_addition"]["variants"]["base-normpost"] |= TASKS["modular_addition"]["variants"]["base"]
    found = {cell.variant: cell for cell in cells_of(plain(("base-normpost",)), curve(), tasks=tasks)}
    assert found["base-normpost"].curve == "base"
    assert not found["base-normpost"].curve_only
    assert found["base"].curve_only


# --- the shipped curves ----------------------------------------------------------------------------


def test_the_shipped_curves_are_balanced_and_share_their_bases() -> None:
    config = load(yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text(encoding="utf-8")))
    cells = [cell for cell in expand(config) if cell.curve]
    sizes = {"modular_addition": 32, "sparse_parity": 24, "next_token": 16}
    for task, n in sizes.items():
        found = {cell.variant: cell for cell in cells if cell.task == task and cell.arm == "baseline"}
        assert len(found) == n
        assert all(len(cell.seeds) >= 6 for cell in found.values())  # fewer pairs cannot settle at 95%
        for choice in next(iter(found.values())).choices:
            used = Counter(str(cell.choices[choice]) for cell in found.values())
            assert max(used.values()) - min(used.values()) <= 2, (task, choice)
            assert len(used) >= 2
    assert not any(cell.curve_only for cell in cells if cell.variant in ("windows_overlapping",))
    entries = {entry.task: entry for entry in config.grid if entry.specifications}
    assert {task: entry.specifications.n for task, entry in entries.items()} == sizes


# --- runs that cells share -------------------------------------------------------------------------

KINDS = {
    "baseline": {"kind": "baseline"},
    "entropy": {"kind": "entropy", "gamma": 0.75},
    "grokfast": {"kind": "grokfast", "alpha": 0.98, "lamb": 2.0},
    "gentle": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75},
    "cheap": {"kind": "cheap_noise_stability", "rho": 0.25, "gamma": 0.75, "every": 10},
    "augmentation": {"kind": "augmentation", "rho": 0.25, "gamma": 0.75},
}
NOISE = {"noise.gradient": ["both", "clean"], "noise.same_symbol": [True, False]}


def shared(*grid: dict[str, Any], tasks: Any = None, seeds: list[int] | None = None) -> dict[tuple[str, str], str]:
    """The cells that share another's runs: (variant, arm) -> that variant."""
    found = cells_of(*grid, tasks=tasks or TASKS, seeds=seeds)
    return {(cell.variant, cell.arm): cell.shares for cell in found if cell.shares is not None}


def test_arms_that_draw_no_noise_share_the_runs_of_variants_that_differ_in_it() -> None:
    tasks = copy.deepcopy(TASKS)
    tasks["modular_addition"]["arms"] = KINDS
    found = shared(curve({**NOISE, "model.norm": ["post", "pre"]}, arms=list(KINDS)), tasks=tasks)
    assert {arm for _, arm in found} == {"baseline", "entropy", "grokfast"}
    # Of four noises times two norms two variants train, for each of the three arms.
    assert len(found) == 3 * (8 - 2)
    for (variant, _), twin in found.items():
        assert ("normpost" in variant) == ("normpost" in twin)
        assert "gradient" not in twin
        assert "same_symbol" not in twin
    assert Counter(found.values()) == {"base": 9, "base-normpost": 9}


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer.learning_rate": 0.01},
        {"target.threshold": 0.5},
        {"data.n_train": 500},
    ],
    ids=lambda choices: next(iter(choices)),
)
def test_cells_that_differ_in_more_than_noise_share_nothing(other: dict[str, Any]) -> None:
    """One after the other: the base, and a variant with another noise and another setting."""
    base = baselines(plain(("base",)))["base"].settings
    ((choice, level),) = other.items()
    for part in choice.split("."):
        base = getattr(base, part)
    named = {"both": {choice: base, "noise.gradient": "both"}, "clean": {choice: level, "noise.gradient": "clean"}}
    assert shared(curve({"together": named})) == {}
    named["clean"][choice] = base
    assert list(shared(curve({"together": named})).values()) == ["base"]


def test_variants_of_a_block_of_their_own_train_and_a_curve_s_share_theirs() -> None:
    tasks = copy.deepcopy(TASKS)
    tasks["modular_addition"]["variants"]["quiet"] = {
        **tasks["modular_addition"]["variants"]["base"],
        "noise": {"gradient": "clean"},
    }
    # Listed variants are compared with their own baseline's stability, and so train it.
    assert shared(plain(("base", "quiet")), tasks=tasks) == {}
    assert shared(plain(("quiet",)), curve(NOISE), tasks=tasks) == {
        (variant, "baseline"): "quiet" for variant in baselines(curve(NOISE))
    }
    # Two curves share too, whatever their order; their bases are in no other block.
    both = [curve(NOISE), curve({"noise.output": ["probabilities", "logits"]}, variants=["quiet"])]
    assert {variant for variant, _ in shared(*both, tasks=tasks)} >= {"quiet", "base-gradientclean"}


def test_runs_are_shared_where_the_twin_has_all_their_seeds() -> None:
    tasks = copy.deepcopy(TASKS)
    tasks["modular_addition"]["variants"]["quiet"] = {
        **tasks["modular_addition"]["variants"]["base"],
        "noise": {"gradient": "clean"},
    }
    of_quiet = {"noise.output": ["probabilities", "logits"]}
    few = curve(of_quiet, variants=["quiet"], seeds=[1, 2])
    many = curve(of_quiet, variants=["quiet"], seeds=[1, 2, 3])
    assert {variant for variant, _ in shared(plain(("base",)), few, tasks=tasks)} == {"quiet", "quiet-outputlogits"}
    assert shared(plain(("base",)), many, tasks=tasks) == {}


def test_cells_that_share_runs_are_in_no_pack() -> None:
    config = load({"seeds": [0, 1, 2], "grid": [curve(NOISE)], "tasks": TASKS})
    plan = Plan(config)
    assert {pack[1] for pack in plan.packs if pack[2] == "baseline"} == {"base"}
    assert len({pack[1] for pack in plan.packs if pack[2] == "gentle"}) == 4
    told = {(cell["variant"], cell["arm"]): cell["shares"] for cell in grid_cells(config)}
    assert {twin for (_, arm), twin in told.items() if arm == "baseline"} == {None, "base"}
    assert {twin for (_, arm), twin in told.items() if arm == "gentle"} == {None}
