"""Bad settings: one clear sentence for each, before anything is planned."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from nsbench.config.base import ConfigError
from nsbench.config.errors import show
from nsbench.workflow import config
from nsbench.workflow.grid import load
from tests.config.test_config import NOTHING, TINY, overlaid, place

VARIANT, PARITY = "tasks.modular_addition.variants.tiny", "tasks.sparse_parity.variants.tiny"
ARM, BASE = "tasks.modular_addition.arms.noise_stability", "tasks.modular_addition.arms.baseline"
CHEAP = {"kind": "cheap_noise_stability", "rho": 0, "gamma": 1}
SEED = "a whole number in 0 ... 2147483647"
NAME = "a name of at most 100 letters, digits"
MODEL = "pretrained.models.tiny_causal"
CHOICE, PLACE = ["grid", 3, "specifications", "choices", "model.norm"], "grid[3].specifications.choices.model.norm"
NEXT, SWEEP = "tasks.next_token.variants.tiny", "grid.2.arm_sweep"

BAD: list[tuple[str, Any, list[str]]] = [
    # Unknown keys at every level, with the nearest known one.
    ("sedes", [0], ["sedes: unknown key, did you mean 'seeds'?", "allowed: analysis, checkpoints, cluster, device"]),
    ("checkpoints.cuont", 3, ["checkpoints.cuont: unknown key", "'count'", "allowed: count, dtype, keep"]),
    ("evaluation.n_draw", 3, ["evaluation.n_draw: unknown key", "'n_draws'"]),
    ("analysis.confidance", 0.9, ["analysis.confidance: unknown key", "'confidence'"]),
    ("theory.attension", {}, ["theory.attension: unknown key, did you mean 'attention'?"]),
    ("theory.relu.rho", [0.5, 0.5], ["theory.relu: rho: 0.5 is listed twice"]),
    ("theory.attention.rho", [-0.5], ["theory.attention.rho[0]: -0.5 is not allowed; allowed: a number in 0 ... 1"]),
    ("theory.attention.ranks", [], ["theory.attention.ranks: [] is not allowed", "non-empty list"]),
    ("theory.feed_forward.n_draws", 1, ["theory.feed_forward.n_draws: 1 is not allowed", "in 2 ... 1000000"]),
    ("theory.max_values", 5, ["theory.max_values: 5 is not allowed", "a whole number in 1000 ... 10000000000"]),
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
    (f"{ARM}.gamma", -0.1, [f"{ARM}.gamma: -0.1", "a number in 0 ... 1000000"]),
    (f"{ARM}.orientation", 2, [f"{ARM}.orientation: 2", "a whole number in 0 ... 1"]),
    ("evaluation.rho", [0.5, 2], ["evaluation.rho[1]: 2", "a number in -1 ... 1"]),
    (f"{PARITY}.data.n", 0, [f"{PARITY}.data.n: 0", "a whole number in 1 ... 4096"]),
    (
        f"{VARIANT}.training.margin_evaluations",
        -1,
        [".training.margin_evaluations: -1", "whole number in 0 ... 100000"],
    ),
    (f"{VARIANT}.target", {"hold_steps": -1}, [".target.hold_steps: -1", "a whole number in 0 ... 10000000"]),
    (f"{PARITY}.data.label_noise", 0.5, [".label_noise: 0.5", "a number at least 0 and below 0.5"]),
    (f"{VARIANT}.model.dropout", 1, [f"{VARIANT}.model.dropout: 1", "a number in 0 ... 0.99"]),
    (f"{VARIANT}.training.batch_size", 0, [".training.batch_size: 0", "a whole number in 1 ... 1000000"]),
    ("analysis.confidence", 1.0, ["analysis.confidence: 1.0", "a number above 0 and below 1"]),
    ("analysis.n_resamples", 98, ["analysis.n_resamples: 98", "a whole number in 99 ... 1000000"]),
    ("checkpoints.count", 1, ["checkpoints.count: 1", "a whole number in 2 ... 10000"]),
    ("processes_per_gpu", 0, ["processes_per_gpu: 0", "a whole number in 1 ... 64"]),
    ("progress_every_seconds", 0, ["progress_every_seconds: 0", "a number above 0 and at most 1000000"]),
    ("seeds", [0, -1], ["seeds[1]: -1", SEED]),
    ("seeds", [2**31], [f"seeds[0]: {2**31}", SEED]),
    # Not numbers at all.
    (f"{ARM}.gamma", math.nan, [f"{ARM}.gamma: nan is not allowed", "a number in 0 ... 1000000"]),
    (f"{ARM}.gamma", math.inf, [f"{ARM}.gamma: inf is not allowed", "a number in 0 ... 1000000"]),
    (f"{VARIANT}.target", {"threshold": math.nan}, [".target.threshold: nan", "a number in 0 ... 1000"]),
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
    ("cluster.max_minutes", 10, ["cluster.max_minutes: 10", "whole number in 20 ..."]),
    ("cluster.gflops.cpu", 0, ["cluster.gflops.cpu: 0", "above 0"]),
    ("cluster.gflops", 5, ["cluster.gflops: 5"]),
    ("scale", None, ["scale: null is not allowed", "'paper' or 'demo'"]),
    (f"{VARIANT}.data.split", "apart", [".data.split: 'apart'", "'pairs' or 'unordered_pairs'"]),
    (f"{PARITY}.data.split", "pairs", [".data.split: 'pairs'", "'independent' or 'apart'"]),
    (f"{VARIANT}.training.stop", "at_target", [".training.stop: 'at_target'", "'never' or 'after_target'"]),
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
    ("grid.0.variants", [], ["grid[0].variants: []", "a non-empty list of names of at most 100 letters"]),
    ("grid.0.arms", "baseline", ["grid[0].arms: 'baseline'", "a non-empty list of names of at most 100 letters"]),
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
    (f"{BASE}.kind", NOTHING, [f"{BASE}.kind: this key is missing", "'baseline' or 'entropy'"]),
    # Kinds and names.
    (f"{BASE}.kind", "drop", [f"{BASE}.kind: 'drop' is not allowed", "'baseline'", "'cheap_noise_stability'"]),
    (f"{BASE}.kind", "grokfst", [f"{BASE}.kind: 'grokfst' is not allowed, did you mean 'grokfast'?"]),
    (f"{BASE}.kind", 3, [f"{BASE}.kind: 3 is not allowed", "'baseline'"]),
    (BASE, {"kind": "dropout"}, [f"{BASE}.rate: this key is missing", "a number in 0 ... 0.99"]),
    (BASE, {"kind": "dropout", "rate": 1}, [f"{BASE}.rate: 1 is not allowed", "a number in 0 ... 0.99"]),
    (BASE, {"kind": "weight_decay", "value": -1}, [f"{BASE}.value: -1 is not allowed", "a number"]),
    (BASE, {"kind": "grokfast", "alpha": 1, "lamb": 2}, [f"{BASE}.alpha: 1 is not allowed", "below 1"]),
    (BASE, {"kind": "grokfast", "alpha": 0.9, "lamb": -2}, [f"{BASE}.lamb: -2 is not allowed"]),
    (BASE, {"kind": "entropy", "gamma": 1, "rho": 1}, [f"{BASE}.rho: unknown key", "allowed: gamma, kind"]),
    (BASE, {"kind": "augmentation", "rho": 1.5, "gamma": 1}, [f"{BASE}.rho: 1.5 is not allowed", "-1 ... 1"]),
    (BASE, {**CHEAP, "every": 0}, [f"{BASE}.every: 0 is not allowed", "in 1 ... 10000000"]),
    (BASE, {**CHEAP, "every": 1.5}, [f"{BASE}.every: 1.5 is not allowed", "a whole number"]),
    (BASE, {**CHEAP, "share": 0}, [f"{BASE}.share: 0 is not allowed", "above 0 and at most 1"]),
    (BASE, {**CHEAP, "branch": "nosy"}, [f"{BASE}.branch: 'nosy' is not allowed", "'noisy'"]),
    (BASE, {**CHEAP, "evry": 2}, [f"{BASE}.evry: unknown key, did you mean 'every'?"]),
    ("tasks.modular_addition.arms.a b", {"kind": "baseline"}, ["tasks.modular_addition.arms: 'a b'", "name", NAME]),
    ("tasks.modular_addition.variants.a/b", {}, ["tasks.modular_addition.variants: 'a/b'", NAME]),
    ("tasks.modular_addition.variants.-x", {}, ["tasks.modular_addition.variants: '-x'", NAME]),
    # Settings that do not fit each other.
    (
        f"{PARITY}.data.split",
        "apart",
        [
            f"{PARITY}.data: n_train + n_val + n_test = 80 is more than the 32 strings of n = 5 bits",
            "at most 32 is all",
        ],
    ),
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
    (
        "grid.0.sweep",
        {"data.modulus": []},
        ["grid[0].sweep.data.modulus: []", "a non-empty list of values, each a number, a word, true, false or null"],
    ),
    (
        "grid.0.sweep",
        {"data.modulus": 7},
        ["grid[0].sweep.data.modulus: 7", "a non-empty list of values, each a number, a word, true, false or null"],
    ),
    ("grid.0.sweep", {"data.modulus": [7, 7]}, ["grid[0].sweep.data.modulus: 7 is listed twice"]),
    ("grid.0.sweep", {"data.modulus": [7, 1]}, ["tiny-modulus1", "data.modulus: 1", "in 2 ... 4096"]),
    ("grid.0.sweep", {"data.modulus": [7, 5]}, ["tiny-modulus5", "n_train + n_val + n_test", "at most 25"]),
    (
        "grid.0.sweep",
        {"model": [{"d_model": 8}]},
        ["grid[0].sweep.model[0]: {'d_model': 8} is not allowed; allowed: a number, a word"],
    ),
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
    (f"{SWEEP}.gamma", [-1], ["grid[2].arm_sweep.gamma: -1.0 is not allowed", "a number in 0"]),
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
    # Sources of models, which `source` tells apart.
    (f"{MODEL}.source", "disk", [f"{MODEL}.source: 'disk' is not allowed", "'hub' or 'package' or 'folder'"]),
    (f"{MODEL}.source", NOTHING, [f"{MODEL}.source: this key is missing", "'hub' or 'package' or 'folder'"]),
    (f"{MODEL}.path", 3, [f"{MODEL}.path: 3 is not allowed", "text of one line"]),
    (f"{MODEL}.pth", "x", [f"{MODEL}.pth: unknown key, did you mean 'path'?", "allowed: heads, paper, path"]),
    (f"{MODEL}.heads", [[0, 1]], [f"{MODEL}.heads: [[0, 1]] is not allowed", "a non-empty list of"]),
    ("pretrained.models.gpt2.revision", "main", [".gpt2.revision: 'main'", "text that matches ^[0-9a-f]{40}$"]),
    ("pretrained.only", ["tiny"], ["pretrained: only: 'tiny' is none of the models, did you mean 'tiny_causal'?"]),
    # What YAML makes of unquoted words, and names that are none.
    ("scale", datetime.date(2020, 1, 2), ["scale: 2020-01-02 is not allowed", "'paper' or 'demo'"]),
    ("seeds", [datetime.date(2020, 1, 2)], ["seeds[0]: 2020-01-02 is not allowed", SEED]),
    ("grid.0.variants", [None], ["grid[0].variants[0]: null is not allowed", NAME]),
    ("grid.0.variants", [True], ["grid[0].variants[0]: true is not allowed", NAME]),
    ("grid.0.arms", ["baseline", "../x"], ["grid[0].arms[1]: '../x' is not allowed", NAME]),
    ("tasks.modular_addition.variants", {None: {}}, ["tasks.modular_addition.variants: null", NAME]),
    ("tasks.modular_addition.variants", {3: {}}, ["tasks.modular_addition.variants: 3 is not allowed", NAME]),
    ("tasks.modular_addition.arms", {"/": {"kind": "baseline"}}, ["tasks.modular_addition.arms: '/'", NAME]),
    ("tasks.modular_addition.arms", {"a" * 101: {"kind": "baseline"}}, ["tasks.modular_addition.arms: 'aaa", NAME]),
    ("tasks.modular_addition.arms", {"": {"kind": "baseline"}}, ["tasks.modular_addition.arms: ''", NAME]),
    ("text.path", "a\0b", ["text.path: 'a\\x00b' is not allowed", "text of one line"]),
    ("text.path", "a" * 1001, ["text.path: 'aaa", "text of one line"]),
    ("text.path", ["a"], ["text.path: ['a'] is not allowed", "text of one line or null"]),
    ("device", b"cpu", ["device: b'cpu' is not allowed", "'auto' or 'cpu' or 'cuda'"]),
    ("a" * 500, 1, ["unknown key", "allowed: analysis"]),
    ("a\nb", 1, ["'a\\nb': unknown key; allowed: analysis"]),
    ("SEEDS", [1], ["SEEDS: unknown key, did you mean 'seeds'?"]),
    (
        "grid.0",
        {
            "task": "modular_addition",
            "variants": ["tiny"],
            "arms": ["baseline"],
            "sweep": {"model.mask": ["none", "Causal"]},
        },
        ["grid[0].sweep (tiny-maskCausal).model.mask: 'Causal' is not allowed", "'none' or 'causal'"],
    ),
    # Absurd sizes, alone.
    ("seeds", list(range(20_000)), ["seeds: [0, 1, 2", "at most 10000 of them"]),
    ("seeds", list(range(300_000)), ["seeds: has more than 200,000 values"]),
    ("seeds", [10**5000], ["seeds[0]: a whole number of 16610 bits is not allowed", SEED]),
    ("runs_per_pack", 10**9, ["runs_per_pack: 1000000000", "in 1 ... 1024"]),
    ("processes_per_gpu", 1000, ["processes_per_gpu: 1000", "in 1 ... 64"]),
    ("progress_every_seconds", 1e300, ["progress_every_seconds: 1e+300", "at most 1000000"]),
    ("checkpoints.count", 10**6, ["checkpoints.count: 1000000", "in 2 ... 10000"]),
    ("analysis.n_resamples", 10**9, ["analysis.n_resamples: 1000000000", "in 99 ... 1000000"]),
    ("evaluation.n_draws", 10**9, ["evaluation.n_draws: 1000000000", "in 1 ... 100000"]),
    (f"{VARIANT}.training.steps", 10**12, [".training.steps: 1000000000000", "in 1 ... 10000000"]),
    (f"{VARIANT}.training.batch_size", 10**9, [".training.batch_size: 1000000000", "in 1 ... 1000000"]),
    (f"{VARIANT}.model.d_model", 10**6, [".model.d_model: 1000000", "in 1 ... 16384"]),
    (f"{VARIANT}.model.n_layers", 10**6, [".model.n_layers: 1000000", "in 1 ... 256"]),
    (f"{VARIANT}.model.dropout", 0.999999, [".model.dropout: 0.999999", "in 0 ... 0.99"]),
    (f"{VARIANT}.optimizer", {"learning_rate": 1e300}, [".learning_rate: 1e+300", "at most 1e+38"]),
    (f"{VARIANT}.noise", {"n_draws": 10**6}, [".noise.n_draws: 1000000", "in 1 ... 1024"]),
    (f"{PARITY}.data.n_train", 10**9, [".data.n_train: 1000000000", "in 1 ... 10000000"]),
    (f"{PARITY}.data.n", 10**6, [".data.n: 1000000", "in 1 ... 4096"]),
    (f"{NEXT}.data.n_symbols", 10**7, [".data.n_symbols: 10000000", "in 2 ... 65536"]),
    (f"{ARM}.gamma", 1e300, [f"{ARM}.gamma: 1e+300", "in 0 ... 1000000"]),
    ("theory.relu.n_pairs", 10**12, ["theory.relu.n_pairs: 1000000000000", "in 1 ... 100000000"]),
    ("theory.feed_forward.depth", 10**6, ["theory.feed_forward.depth: 1000000", "in 1 ... 10000"]),
    ("theory.max_values", 10**15, ["theory.max_values: 1000000000000000", "in 1000 ... 10000000000"]),
    ("pretrained.measurement.n_tokens", 10**9, ["pretrained.measurement.n_tokens: 1000000000", "in 4 ... 100000"]),
    ("pretrained.measurement.degree", 10**9, ["pretrained.measurement.degree: 1000000000", "in 1 ... 100000"]),
    # Absurd sizes, together.
    (
        f"{VARIANT}.training",
        {"steps": 10**7, "eval_every_steps": 1},
        [f"{VARIANT}.training: steps = 10000000", "more than 100,000 evaluations", "at least 100 is allowed"],
    ),
    (
        f"{VARIANT}.model",
        {"d_model": 16384, "n_layers": 256},
        [
            f"{VARIANT}.model: d_model = 16384, n_layers = 256 and ffn_width = null make ",
            "parameters; at most 2e+10 are allowed",
        ],
    ),
    (
        NEXT,
        {
            "data": {"targets": "every"},
            "model": {"mask": "causal", "pooling": "none"},
            "training": {"batch_size": 10**6},
        },
        [f"{NEXT}: training.batch_size = 1000000", "numbers a step; at most 5e+10"],
    ),
    (
        PARITY,
        {"data": {"n": 500, "n_train": 10**7}},
        [f"{PARITY}: data.n_train", "10002000 examples of 500 tokens", "at most 2e+09"],
    ),
    (
        "evaluation",
        {"n_inputs": 10**6, "n_draws": 100},
        ["evaluation: 5 rho x n_inputs = 1000000", "at most 20,000,000"],
    ),
    (
        "theory.relu",
        {"n_pairs": 10**8, "n_draws": 10**6},
        ["theory: relu: n_draws = 1000000 x n_pairs = 100000000", "at most 1e+13 are allowed"],
    ),
    (
        "grid.0.sweep",
        {"data.modulus": list(range(7, 1000)), "training.steps": list(range(4, 1000))},
        ["grid[0]: the grid up to here has 1,978,056 cells (variants x arms); at most 20,000 are allowed"],
    ),
    (
        "grid.2.arm_sweep",
        {"arm": "noise_stability", "rho": [i / 1000 for i in range(1000)], "gamma": [i / 10 for i in range(1000)]},
        ["the grid up to here has 1,000,0", "cells", "at most 20,000"],
    ),
    (
        "grid.0",
        {
            "task": "modular_addition",
            "variants": ["tiny"],
            "arms": ["baseline"],
            "sweep": {"training.steps": [*range(8, 28)]},
        }
        | {"seeds": list(range(10_000))},
        ["grid[0]: the grid up to here has 100,000 packs (variants x arms x seeds / runs_per_pack); at most 50,000"],
    ),
    # Specification curves.
    ("grid.3.specifications.choices", {}, ["grid[3].specifications.choices: {} is not allowed", "a section"]),
    (CHOICE, ["pre"], [f"{PLACE}: ['pre'] is not allowed", "list of values, each a number"]),
    (CHOICE, 3, [f"{PLACE}: 3 is not allowed", "list of values, each a number"]),
    (CHOICE, ["pre", ["post"]], [f"{PLACE}[1]: ['post'] is not allowed", "a number, a word"]),
    (CHOICE, ["pre", "pst"], [f"{PLACE} ('pst').model.norm: 'pst' is not allowed", "'pre' or 'post'"]),
    (CHOICE, ["pre", "pre"], ["grid[3].specifications: model.norm: 'pre' is listed twice"]),
    (CHOICE, ["post", "post "], [f"{PLACE} ('post ').model.norm: 'post ' is not allowed"]),
    ("grid.3.specifications.n", 5, ["grid[3].specifications: n = 5 with design = 'one_at_a_time'"]),
    ("grid.3.specifications.design", "half", ["grid[3].specifications.design: 'half'", "'one_at_a_time'"]),
    (
        "grid.3.specifications",
        {"choices": {"noise.n_draws": [*range(1, 81)], "training.batch_size": [*range(1, 81)]}},
        ["grid[3].specifications: the choices make 6,400 specifications; at most 4,096 are allowed"],
    ),
    (
        "grid.3.specifications",
        {"design": "fraction", "n": 4, "choices": {f"c{at}": [*range(100)] for at in range(32)}},
        ["grid[3].specifications: the choices make 1e+64 combinations; fewer than 2^62"],
    ),
    # Settings that contradict each other.
    (f"{VARIANT}.target", {"threshold": 1.5}, [".target: threshold = 1.5 of metric = 'val_accuracy'", "at most 1"]),
    (f"{VARIANT}.target", {"threshold": 0}, [".target: threshold = 0 of metric = 'val_accuracy'", "above 0"]),
    (
        "grid.0",
        {"task": "modular_addition", "variants": ["tiny", "calibrated"], "arms": ["baseline"]}
        | {"specifications": {"choices": {"model.norm": ["pre", "post"]}}},
        ["grid[0]: variants = ['tiny', 'calibrated'] with specifications; one variant"],
    ),
    ("grid.3.sweep", {"data.modulus": [7]}, ["grid[3]: sweep of data.modulus with specifications; one of them"]),
]


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
    from nsbench.config.errors import _Schema

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


def test_resamples_of_many_seeds_are_refused() -> None:
    values = overlaid(TINY) | {"seeds": list(range(1000)), "runs_per_pack": 100, "analysis": {"n_resamples": 10**6}}
    with pytest.raises(ConfigError, match=r"^analysis\.n_resamples: 1000000 for the 1000 seeds .* at most 200000 is"):
        load(values)


def test_every_limit_leaves_a_hundred_times_what_is_shipped() -> None:
    """A grid a hundred times as costly in any one way is allowed: limits are for what no machine could do."""
    base = overlaid("workflow/config/published.yaml", "workflow/config/pretrained.yaml")
    for path, value in [
        ("analysis.n_resamples", 999_900),
        ("evaluation.n_inputs", 50_000),
        ("evaluation.n_draws", 800),
        ("checkpoints.count", 2100),
        ("seeds", list(range(600))),
        ("theory.max_values", 400_000_000),
        ("theory.attention", {"n_draws": 10_000}),
        ("theory.relu", {"n_pairs": 10_000_000}),
        ("pretrained.measurement.n_tokens", 25_600),
        ("pretrained.measurement.n_sequences", 6400),
        ("pretrained.max_memory_gb", 400),
        ("tasks.sparse_parity.variants.calibrated.training.steps", 1_500_000),
        ("tasks.sparse_parity.variants.calibrated.training.batch_size", 25_600),
        ("tasks.sparse_parity.variants.calibrated.data.n_train", 5_000_000),
        ("tasks.modular_addition.variants.calibrated.model", {"d_model": 1280, "n_layers": 200}),
    ]:
        load(place(base, path, value))
