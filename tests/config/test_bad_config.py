"""Bad settings: one clear sentence for each, before anything is planned."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from nsbench.config.base import ConfigError
from nsbench.config.errors import show
from nsbench.workflow.grid import load
from tests.config.test_config import NOTHING, TINY, overlaid, place

VARIANT, PARITY = "tasks.modular_addition.variants.tiny", "tasks.sparse_parity.variants.tiny"
ARM, BASE = "tasks.modular_addition.arms.noise_stability", "tasks.modular_addition.arms.baseline"
NAME = "a name of at most 100 letters, digits"
MODEL = "pretrained.models.tiny_causal"
CHOICE, PLACE = ["grid", 3, "specifications", "choices", "model.norm"], "grid[3].specifications.choices.model.norm"
NEXT, SWEEP = "tasks.next_token.variants.tiny", "grid.2.arm_sweep"
LOOKS, FIRST = "analysis.looks.pairs", "analysis.primary.modular_addition"
COMPARED = {"variant": "calibrated", "arm": "noise_stability"}

BAD: list[tuple[str, Any, list[str]]] = [
    # Unknown keys, with the nearest known one.
    ("sedes", [0], ["sedes: unknown key, did you mean 'seeds'?", "allowed: analysis, checkpoints, cluster, device"]),
    ("SEEDS", [1], ["SEEDS: unknown key, did you mean 'seeds'?"]),
    (7, 1, ["7: unknown key; allowed: analysis"]),
    ("a\nb", 1, ["'a\\nb': unknown key; allowed: analysis"]),
    ("a" * 500, 1, ["unknown key", "allowed: analysis"]),
    ("grid.0.arm", ["baseline"], ["grid[0].arm: unknown key", "'arms'"]),
    (f"{PARITY}.data.modulus", 7, [f"{PARITY}.data.modulus: unknown key;", "label_noise", "n_train"]),
    (f"{VARIANT}.optimizer", {"learningrate": 1}, [".optimizer.learningrate: unknown key", "'learning_rate'"]),
    (f"{ARM}.gama", 1, [f"{ARM}.gama: unknown key, did you mean 'gamma'?", "allowed: gamma, kind, orientation, rho"]),
    (f"{BASE}.rho", 0.5, [f"{BASE}.rho: unknown key; allowed: kind"]),
    (f"{SWEEP}.roh", [1], ["grid[2].arm_sweep.roh: unknown key, did you mean 'rho'?", "allowed: arm, gamma, rho"]),
    (f"{MODEL}.pth", "x", [f"{MODEL}.pth: unknown key, did you mean 'path'?", "allowed: heads, paper, path"]),
    # Numbers out of range, and what is no number.
    (f"{ARM}.rho", 1.5, [f"{ARM}.rho: 1.5 is not allowed; allowed: less than or equal to 1"]),
    ("evaluation.rho", [0.5, 2], ["evaluation.rho[1]: 2", "less than or equal to 1"]),
    ("seeds", [0, -1], ["seeds[1]: -1 is not allowed; allowed: greater than or equal to 0"]),
    ("seeds", [2**31], [f"seeds[0]: {2**31}", "less than 2147483648"]),
    ("seeds", [10**5000], ["seeds[0]: a whole number of 16610 bits is not allowed"]),
    ("analysis.confidence", 1.0, ["analysis.confidence: 1.0", "less than 1"]),
    (f"{ARM}.gamma", math.nan, [f"{ARM}.gamma: nan is not allowed"]),
    (f"{VARIANT}.optimizer", {"learning_rate": "1e999"}, [".learning_rate: '1e999'"]),
    (f"{ARM}.rho", "ten", [f"{ARM}.rho: 'ten' is not allowed; allowed: a valid number"]),
    (f"{ARM}.rho", None, [f"{ARM}.rho: null is not allowed; allowed: a valid number"]),
    ("runs_per_pack", True, ["runs_per_pack: true is not allowed; allowed: a valid integer"]),
    ("runs_per_pack", 2.0, ["runs_per_pack: 2.0 is not allowed; allowed: a valid integer"]),
    ("runs_per_pack", 10**9, ["runs_per_pack: 1000000000", "less than or equal to 1024"]),
    # Words, lists and sections.
    ("device", "gpu", ["device: 'gpu' is not allowed; allowed: 'auto', 'cpu' or 'cuda'"]),
    ("device", b"cpu", ["device: b'cpu' is not allowed; allowed: 'auto', 'cpu' or 'cuda'"]),
    ("scale", datetime.date(2020, 1, 2), ["scale: 2020-01-02 is not allowed", "'paper' or 'demo'"]),
    (f"{VARIANT}.model.norm", "Pre", [".model.norm: 'Pre'", "'pre' or 'post'"]),
    (f"{VARIANT}.noise", {"same_symbol": 1}, [".noise.same_symbol: 1", "a valid boolean"]),
    ("text.path", "a\0b", ["text.path: 'a\\x00b' is not allowed", "text of one line"]),
    ("text.path", "a" * 1001, ["text.path: 'aaa", "text of one line"]),
    ("text.path", "a/{x}.txt", ["text.path: 'a/{x}.txt' is not allowed", "without braces"]),
    ("records", ["a}"], ["records[0]: 'a}' is not allowed", "without braces"]),
    ("seeds", 3, ["seeds: 3 is not allowed; allowed: a valid list"]),
    ("seeds", [], ["seeds: [] is not allowed; allowed: at least 1 item"]),
    ("seeds", list(range(20_000)), ["seeds: [0, 1, 2", "at most 10000 items"]),
    ("seeds", [3, 1, 3], ["seeds: 3 is listed twice", "once"]),
    ("evaluation.rho", [0.5, 0.5], ["evaluation: rho: 0.5 is listed twice", "once"]),
    ("grid.0.seeds", [], ["grid[0].seeds: [] is empty", "at least one seed is needed"]),
    ("grid.0", "all", ["grid[0]: 'all' is not allowed; allowed: a section of keys"]),
    ("theory", 3, ["theory: 3 is not allowed; allowed: a section of keys"]),
    (BASE, 3, [f"{BASE}: 3 is not allowed; allowed: a section of keys"]),
    (f"{MODEL}.heads", [[0, 1]], [f"{MODEL}.heads: [[0, 1]] is not allowed", "at least 2 items"]),
    ("pretrained.models.gpt2.revision", "main", [".gpt2.revision: 'main'", "match pattern '^[0-9a-f]{40}$'"]),
    # Missing keys.
    ("seeds", NOTHING, ["seeds: this key is missing"]),
    ("grid.0.arms", NOTHING, ["grid[0].arms: this key is missing"]),
    (f"{ARM}.rho", NOTHING, [f"{ARM}.rho: this key is missing"]),
    (f"{BASE}.kind", NOTHING, [f"{BASE}.kind: this key is missing"]),
    (f"{MODEL}.source", NOTHING, [f"{MODEL}.source: this key is missing"]),
    # Kinds and names.
    (f"{BASE}.kind", "grokfst", [f"{BASE}.kind: 'grokfst' is not allowed, did you mean 'grokfast'?; allowed: "]),
    (f"{BASE}.kind", 3, [f"{BASE}.kind: '3' is not allowed", "baseline"]),
    (f"{MODEL}.source", "disk", [f"{MODEL}.source: 'disk' is not allowed", "hub, package, folder"]),
    (BASE, {"kind": "grokfast", "alpha": 1, "lamb": 2}, [f"{BASE}.alpha: 1 is not allowed", "less than 1"]),
    ("tasks.modular_addition.arms.a b", {"kind": "baseline"}, ["tasks.modular_addition.arms: 'a b'", "name", NAME]),
    ("tasks.modular_addition.variants.a/b", {}, ["tasks.modular_addition.variants: 'a/b'", NAME]),
    ("tasks.modular_addition.variants", {None: {}}, ["tasks.modular_addition.variants: null", NAME]),
    ("tasks.modular_addition.arms", {"a" * 101: {"kind": "baseline"}}, ["tasks.modular_addition.arms: 'aaa", NAME]),
    ("grid.0.arms", ["baseline", "../x"], ["grid[0].arms[1]: '../x' is not allowed", NAME]),
    # Settings that do not fit each other.
    (f"{PARITY}.data.split", "apart", [f"{PARITY}.data: n_train + n_val + n_test = 80 is more than the 32 strings"]),
    (f"{PARITY}.data.k", 6, [f"{PARITY}.data: k = 6 is more than n = 5", "1 ... n"]),
    (f"{VARIANT}.model", {"d_model": 9, "n_heads": 2}, ["d_model = 9", "n_heads = 2", "multiple"]),
    (f"{VARIANT}.model", {"max_length": 1}, [VARIANT, "2 tokens", "max_length = 1", "at least 2 is allowed"]),
    (f"{VARIANT}.data", {"modulus": 7, "n_train": 30, "n_val": 10, "n_test": 10}, ["= 50", "modulus 7", "at most 49"]),
    (f"{VARIANT}.training.eval_every_steps", 13, ["eval_every_steps = 13", "steps = 12", "at most"]),
    (f"{VARIANT}.optimizer", {"weight_decay": 1, "weight_decay_convention": "per_step"}, ["weight_decay = 1 per step"]),
    (f"{VARIANT}.target", {"threshold": 1.5}, [".target: threshold = 1.5 of metric = 'val_accuracy'", "at most 1"]),
    (f"{NEXT}.data.targets", "last", [f"{NEXT}: model.pooling = 'none' does not fit", "'mean' or 'last'"]),
    (f"{NEXT}.data", {"examples": "rows", "split": "random"}, [f"{NEXT}.data: split = 'random'", "only 'by_text'"]),
    (f"{NEXT}.data", {"examples": "rows"}, [f"{NEXT}.data: examples = 'rows'", "targets = 'every' is allowed"]),
    (f"{NEXT}.data", {"tokenizer": "bpe", "n_symbols": 200}, ["n_symbols = 200 is too small", "at least 257"]),
    ("pretrained.only", ["tiny"], ["pretrained: only: unknown model 'tiny', did you mean 'tiny_causal'?"]),
    ("theory.recurrence.width", 10**5, ["theory.recurrence: n_pairs = ", "array of 1e+10 numbers", "at most 1e+09"]),
    ("theory.patterns.n_tokens", [10**5], ["theory.patterns: n_pairs = ", "at most 1e+09"]),
    ("theory.relu", {"n_pairs": 10**7}, ["theory.relu.n_pairs: 10000000", "less than or equal to 1000000"]),
    ("theory.attention", {"n_draws": 10**6, "n_pairs": 10**4}, ["theory.attention: n_pairs", "1e+13 in all draws"]),
    ("theory.kernels.n_variables", 49, ["theory.kernels.n_variables: 49", "less than or equal to 48"]),
    # How effects are judged.
    (LOOKS, [], [f"{LOOKS}: [] is not allowed", "at least 1 item"]),
    (LOOKS, [8, 12, 12], ["analysis.looks: pairs [8, 12, 12]: ascending numbers are allowed, each once"]),
    (LOOKS, [12, 8], ["analysis.looks: pairs [12, 8]: ascending numbers are allowed, each once"]),
    (LOOKS, [6, 12], ["no p-value below 0.0312, and alpha is 0.018; more pairs or a larger alpha are allowed"]),
    ("analysis.looks", {"alpha": 0}, ["analysis.looks.alpha: 0 is not allowed; allowed: greater than 0"]),
    ("analysis.margin", 0, ["analysis.margin: 0 is not allowed; allowed: greater than 0"]),
    ("analysis.margin", "10%", ["analysis.margin: '10%' is not allowed; allowed: a valid number"]),
    ("analysis.primary", {"sparse_party": COMPARED}, ["analysis.primary: unknown task 'sparse_party', did you mean"]),
    (f"{FIRST}.variant", "calibrate", [f"{FIRST}.variant: unknown variant 'calibrate', did you mean 'calibrated'?"]),
    (f"{FIRST}.arm", "noise_stabilty", [f"{FIRST}.arm: unknown arm 'noise_stabilty', did you mean 'noise_stability'?"]),
    (f"{FIRST}.arm", "baseline", [f"{FIRST}.arm: 'baseline' is a baseline; another arm is allowed"]),
    (FIRST, {"variant": "calibrated"}, [f"{FIRST}.arm: this key is missing"]),
    # The grid against the tasks.
    ("tasks.sparse_parity", None, ["grid[1].task: 'sparse_parity' has no entry under tasks", "tasks.sparse_parity"]),
    ("grid.0.variants", ["tinny"], ["grid[0].variants: unknown variant 'tinny', did you mean 'tiny'?", "calibrated"]),
    ("grid.0.variants", ["tiny", "tiny"], ["grid[0].variants: 'tiny' is listed twice", "once"]),
    ("grid.0.arms", ["baseline", "noise_stabilty"], ["unknown arm 'noise_stabilty', did you mean 'noise_stability'?"]),
    ("grid.0.arms", ["noise_stability"], ["grid[0].arms: ['noise_stability'] has no arm of kind baseline", "add one"]),
    (
        "grid.1",
        {"task": "modular_addition", "variants": ["tiny"], "arms": ["baseline"]},
        ["grid[1]: the cell modular_addition / tiny / baseline is in the grid twice", "once"],
    ),
    # Sweeps and specification curves.
    ("grid.0.sweep", {"data.modulos": [5]}, ["grid[0].sweep.data.modulos: unknown key 'modulos'", "'modulus'"]),
    ("grid.0.sweep", {"data.modulus.x": [5]}, ["grid[0].sweep.data.modulus.x: 'modulus' is no section"]),
    ("grid.0.sweep", {"data.modulus": 7}, ["grid[0].sweep.data.modulus: 7", "a valid list"]),
    ("grid.0.sweep", {"data.modulus": [7, 7]}, ["grid[0].sweep.data.modulus: 7 is listed twice"]),
    ("grid.0.sweep", {"data.modulus": [7, 1]}, ["tiny-modulus1", "data.modulus: 1", "greater than or equal to 2"]),
    ("grid.0.sweep", {"model": [{"d_model": 8}]}, ["grid[0].sweep.model[0]: {'d_model': 8}", "a number, a word"]),
    (f"{SWEEP}.arm", "baseline", [".arm_sweep.arm: 'baseline' is of kind baseline, which has no rho and gamma"]),
    (f"{SWEEP}.gamma", [1e6], ["grid[2].arm_sweep: the name", "gamma1e+06", "plainer numbers"]),
    ("grid.2.arms", ["baseline", "noise_stability"], ["rho = 0.25, gamma = 0.75 is already the arm 'noise_stability'"]),
    (f"{SWEEP}.rho", [1.5], ["grid[2].arm_sweep.rho: 1.5 is not allowed", "less than or equal to 1"]),
    (CHOICE, ["pre", ["post"]], [f"{PLACE}[1]: ['post'] is not allowed", "a number, a word"]),
    (CHOICE, ["pre", "pst"], [f"{PLACE} ('pst').model.norm: 'pst' is not allowed", "'pre' or 'post'"]),
    (CHOICE, ["pre", "pre"], ["grid[3].specifications: model.norm: 'pre' is listed twice"]),
    ("grid.3.specifications.n", 5, ["grid[3].specifications: n = 5 with design = 'one_at_a_time'"]),
    ("grid.3.sweep", {"data.modulus": [7]}, ["grid[3]: sweep of data.modulus with specifications; one of them"]),
    # Absurd sizes, together.
    (f"{VARIANT}.training", {"steps": 10**7, "eval_every_steps": 1}, ["more than 100,000 evaluations", "at least 100"]),
    (f"{VARIANT}.model", {"d_model": 16384, "n_layers": 256}, ["d_model = 16384", "at most 2e+10"]),
    (PARITY, {"data": {"n": 500, "n_train": 10**7}}, ["10002000 examples of 500 tokens", "at most 2e+09"]),
    ("evaluation", {"n_inputs": 10**6, "n_draws": 100}, ["evaluation: 5 rho x n_inputs = 1000000", "20,000,000"]),
    (
        "grid.0.sweep",
        {"data.modulus": list(range(7, 1000)), "training.steps": list(range(4, 1000))},
        ["grid[0]: the grid up to here has 1,978,056 cells (variants x arms); at most 20,000 are allowed"],
    ),
    (
        "grid.3.specifications",
        {"choices": {"noise.n_draws": [*range(1, 81)], "training.batch_size": [*range(1, 81)]}},
        ["grid[3].specifications: the choices make 6,400 specifications; at most 4,096 are allowed"],
    ),
]


JARGON = ["Input should", "discriminator", "dictionary", "pydantic", "[key]", "None", "True"]


@pytest.mark.parametrize(
    ("path", "value", "told"), BAD, ids=[f"{path!s:.60}={show(value):.30}" for path, value, _ in BAD]
)
def test_a_bad_setting_is_told_in_one_sentence(path: Any, value: Any, told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(place(overlaid(TINY), path, value))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for part in told:
        assert part in message
    for word in JARGON:
        assert word not in message


@pytest.mark.parametrize("arm", ["noise_stability", "noise_stability-rho0.5-gamma0.75"])
def test_a_primary_comparison_may_be_of_a_sweep_and_outside_the_grid(arm: str) -> None:
    values = place(overlaid(TINY), FIRST, {"variant": "calibrated-modulus7", "arm": arm})
    assert load(values).analysis.primary["modular_addition"].arm == arm


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_configuration_that_is_no_section_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"^config: .* is not allowed; allowed: a section of keys$"):
        load(values)


def test_sections_named_like_kinds_of_arms_keep_their_names_in_messages() -> None:
    values = overlaid(TINY)
    values["tasks"]["modular_addition"]["variants"]["noise_stability"] = {"data": {"modulus": 1}}
    with pytest.raises(ConfigError, match=r"^tasks\.modular_addition\.variants\.noise_stability\.data\.modulus: 1 "):
        load(values)


def test_names_that_differ_in_case_alone_are_refused() -> None:
    values = overlaid(TINY)
    task = values["tasks"]["modular_addition"]
    task["variants"]["Tiny"] = {**task["variants"]["tiny"], "optimizer": {"learning_rate": 0.5}}
    load(values)  # it is not in the grid
    values["grid"][0]["variants"] = ["tiny", "Tiny"]
    told = r"^grid\[0\]: the cells modular_addition / tiny / baseline and modular_addition / Tiny / baseline differ in "
    with pytest.raises(ConfigError, match=told):
        load(values)


def test_a_configuration_too_long_for_a_command_line_is_refused() -> None:
    values = overlaid(TINY)
    values["tasks"]["modular_addition"]["arms"] |= {f"arm_{at}": {"kind": "baseline"} for at in range(4000)}
    with pytest.raises(ConfigError, match=r"^config: is 1\d\d,\d+ characters with all defaults; at most 100,000 are"):
        load(values)
