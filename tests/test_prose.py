"""Numbers in the prose of results stand in published tables: one that these no longer give fails here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
PUBLISHED = PROJECT / "results/published"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
EFFECTS, CELLS, SELECTIONS, LEADS, SCORES = (
    pd.read_csv(PUBLISHED / f"training/{name}.csv")
    for name in ("paired_effect", "cells", "selection", "lead_lag", "score_effect")
)
EVIDENCE = pd.read_csv(PUBLISHED / "claim_evidence.csv").set_index("id")
NO_EFFECT = "no effect larger than 10%"
PAPER = (
    "26.7% fewer (36% faster)", "4,500 to 3,300 steps, 26.7% fewer", "not 1.33 times", "not 4,000", "near 70%",
    "Theorems 5.1 to 5.3", "settle at 2/(3 pi)", "Definition 6.1's", "The paper's four",
)  # fmt: skip
"""What the paper says."""
SETTINGS = (
    "K = 113", "rho = 0.25, gamma = 0.75", "rho = gamma = 0.05", "n = 20, k = 2", "n = 10", "n = 256", "Table 2",
    "at 8, 12, 16 and 20 pairs", "30% of the pairs", "on a tenth of the batch", "in every tenth step", "10,000 steps",
    "every 10 steps", "reaches 95%", "From 95% on training data to 95%", "reaches 70%", "judged at eight",
    "(0.003 and 0.003)", "3,000-step runs", "by more than 10%", "of six probed",
    "One comparison", "one branch", "of the first 42", "WikiText-2",
)  # fmt: skip
"""What was run, and how it is judged."""


def word(count: float) -> str:
    return WORDS[int(count)] if count < len(WORDS) else f"{count:g}"


def effect(variant: str, arm: str = "noise_stability") -> pd.Series:
    (row,) = EFFECTS[(EFFECTS["variant"] == variant) & (EFFECTS["arm"] == arm)].to_dict("records")
    return pd.Series(row)


def steps(row: pd.Series) -> str:
    """An effect in percent of steps, in the direction that it has."""
    return f"{100 * abs(row.steps_ratio - 1):.1f}% {'more' if row.steps_ratio > 1 else 'fewer'} steps"


def ends(row: pd.Series) -> str:
    low, high = sorted(100 * abs(end - 1) for end in (row.steps_ratio_low, row.steps_ratio_high))
    assert (row.steps_ratio_low - 1) * (row.steps_ratio_high - 1) > 0
    return f"{low:.1f} to {high:.1f}%"


def across(row: pd.Series) -> str:
    """The ends of an interval that has no effect in it."""
    fewer, more = 100 * (1 - row.steps_ratio_low), 100 * (row.steps_ratio_high - 1)
    assert min(fewer, more) > 0
    return f"({fewer:.1f}% fewer to {more:.1f}% more)"


def median(variant: str, column: str = "median_step") -> float:
    (value,) = CELLS.loc[(CELLS["variant"] == variant) & (CELLS["arm"] == "baseline"), column]
    return float(value)


def reached(variant: str) -> int:
    return int(CELLS.loc[CELLS["variant"] == variant, "n_reached"].sum())


def stability(arm: str, claim: str) -> str:
    rows = EVIDENCE.loc[[claim]]
    (value,) = rows.loc[rows["setting"].str.endswith(f"{arm}, decision_agreement"), "ours"]
    return f"{value:.2f}".lstrip("0")


def settled(variant: str, n: int, *arms: str) -> str:
    """The outcome that these arms, or all n of the variant's (rho, gamma), share."""
    rows = EFFECTS[EFFECTS["variant"] == variant]
    rows = rows[rows["arm"].isin(arms) if arms else rows["arm"].str.contains("-rho")]
    (outcome,) = rows["outcome"].unique()
    assert len(rows) == n
    return outcome


def leads(variant: str) -> tuple[int, int, float]:
    rows = LEADS[(LEADS["variant"] == variant) & (LEADS["arm"] == "baseline")].set_index("series")
    row = rows.loc["decision_agreement"]
    return int(row["n_series_first"]), int(row["n_runs"]), float(row["typical_lead_steps"])


CALIBRATED, FINE, TEXT = effect("calibrated"), effect("fine"), effect("windows_overlapping")
TURNED, BEST = effect("fine", "noise_stability_s0"), effect("third", "noise_stability-rho0.75-gamma2")
MIRRORED = re.search(r"\d+%", str(CALIBRATED.leaks))[0]
TUNED = SELECTIONS[SELECTIONS["procedure"] == "equal_tuning"].iloc[0]
LOSS = SCORES[SCORES["variant"] == "calibrated"].iloc[0]
GROKKING = EVIDENCE.loc["catalyses_grokking"].iloc[0]
TRIED = len(CELLS[CELLS["variant"].str.startswith("third-")])
THIRD = ("noise_stability_s0", "tenth_of_batch", "every_10th", "one_branch")
FIRST, RUNS, LEAD = leads("calibrated-n20-k2-steps3000")
TWICE = {2: "twice"}.get(round(FINE.flops_ratio / FINE.steps_ratio, 6), "not twice")
N_TEXT = word(median("windows_overlapping", "n_seeds"))


def loss(end: str = "") -> str:
    return f"{-LOSS[f'best_val_loss_difference{end}']:.4f}".lstrip("0")


README = [
    f"({word(CALIBRATED.n_pairs)} pairs; {MIRRORED} of validation pairs stand mirrored in training): "
    f"{steps(CALIBRATED).replace('more', '*more*')} ({ends(CALIBRATED)}) at {CALIBRATED.flops_ratio:.2f} times",
    f"{'no' if settled('third', SELECTIONS.n_arms[0]) == NO_EFFECT else 'a'} (rho, gamma) of "
    f"{SELECTIONS.n_arms[0]} changes",
    f"makes it {median('third') / median('third-learning_rate0.003-weight_decay0.003'):.1f} times faster",
    f"({word(FINE.n_pairs)} pairs): {FINE.outcome}",
    f"({word(TEXT.n_pairs)} pairs of a leaky protocol",
    steps(TEXT).replace("more", "*more*"),
    f"{TWICE} the operations a step",
    f"{'no' if settled('third_tuned', 4) == NO_EFFECT else 'a'} (rho, gamma) of four adds 10% to that",
    f"[{len((PROJECT / 'src/nsbench/report/errata.json').read_text().splitlines())} errata]",
]
RESULTS = [
    f"`calibrated`, {word(CALIBRATED.n_pairs)} pairs: **later**. {steps(CALIBRATED)} ({100 * CALIBRATED.confidence:g}% "
    f"interval {ends(CALIBRATED)}), {CALIBRATED.flops_ratio:.2f} times the FLOPs",
    f"{MIRRORED} of validation pairs stand mirrored",
    f"takes {GROKKING.ours:g} steps more ({GROKKING.ours_low:g} to {GROKKING.ours_high:g})",
    f"{loss()} lower ({100 * LOSS.confidence:g}% interval {loss('_high')} to {loss('_low')})",
    f"(`as_published`, {word(effect('as_published').n_pairs)} pairs): "
    f"{'no run' if reached('as_published') == 0 else 'a run'} of either arm",
    f"(`third`, {word(BEST.n_pairs)} pairs each): with all {SELECTIONS.n_arms[0]} (rho, gamma) "
    f"**{settled('third', SELECTIONS.n_arms[0])}**",
    f"through one branch alone: {'none either' if settled('third', 4, *THIRD) == NO_EFFECT else 'not that'}",
    f"rho = 0.75 and gamma = 2, takes {steps(BEST)} ({ends(BEST)})",
    f"Of {TRIED} settings of learning rate and decay",
    f"takes {median('third-learning_rate0.003-weight_decay0.003'):g} steps instead of {median('third'):,g}",
    f"takes {TUNED.val_steps_ratio:.1f} times the steps "
    f"({TUNED.val_steps_ratio_low:.1f} to {TUNED.val_steps_ratio_high:.1f}",
    f"on {word(effect('third_tuned', 'noise_stability-rho0.9-gamma2').n_pairs)} pairs that chose nothing "
    f"(`third_tuned`): **{settled('third_tuned', 4)}** with any of four (rho, gamma)",
    f"doubling the decay takes {steps(effect('calibrated_fine', 'double_weight_decay'))}",
    f"tripling it {steps(effect('calibrated_fine', 'more_weight_decay')).partition(' ')[0]} "
    f"({word(effect('calibrated_fine', 'more_weight_decay').n_pairs)} pairs, open)",
    f"(`fine`, {FINE.n_pairs} pairs): **{FINE.outcome}**. {steps(FINE)} {across(FINE)}, {TWICE} the FLOPs",
    f"with its sign turned {steps(TURNED).removesuffix(' steps')} {across(TURNED)}",
    f"{word(effect('calibrated-n20-k2-steps3000').n_pairs).capitalize()} pairs each",
    f"in {'all' if FIRST == RUNS else word(FIRST) + ' of'} {word(RUNS)} baselines of `calibrated`, by {LEAD:g} steps",
    f"({re.search(r'[0-9]+%', str(effect('as_published-n10-k2-steps1000').leaks))[0]} of the validation strings are",
    "in {} of {} of `as_published`".format(*map(word, leads("as_published-n10-k2-steps1000")[:2])),
    f"{N_TEXT.capitalize()} pairs, judged at {word(TEXT.n_pairs)}: **later**. {steps(TEXT)} ({ends(TEXT)}), "
    f"{TEXT.flops_ratio:.2f} times the FLOPs",
    f"at {median('windows_overlapping', 'min_step'):g} to {median('windows_overlapping', 'max_step'):g} steps",
    f"to {stability('baseline', 'baseline_becomes_unstable')} of its highest value without and "
    f"{stability('noise_stability', 'regularised_stays_stable')} with the regulariser",
]


def prose(name: str, first: str, last: str) -> str:
    """Some sections of a page in one line, without the targets of links."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert first in text
    part = text.partition(first)[2].partition(last)[0]
    return " ".join(re.sub(r"\]\([^)]*\)", "]", part).split())


PAGES: dict[str, tuple[list[str], Callable[[], str]]] = {
    "README.md": (README, lambda: prose("README.md", "## Results so far", "\n## ")),
    "docs/results.md": (RESULTS, lambda: prose("docs/results.md", "## Training", "\n## Theory")),
}


@pytest.mark.parametrize(("page", "sentence"), [(page, one) for page, (found, _) in PAGES.items() for one in found])
def test_a_number_in_prose_is_the_tables(page: str, sentence: str) -> None:
    assert sentence in PAGES[page][1]()


@pytest.mark.parametrize("page", PAGES)
def test_no_other_number_stands_there(page: str) -> None:
    sentences, text = PAGES[page][0], PAGES[page][1]()
    for known in sorted((*sentences, *PAPER, *SETTINGS), key=len, reverse=True):
        text = text.replace(known, "")
    rest = re.findall(r".{0,40}(?:\d|\b(?:" + "|".join(WORDS[2:]) + r") (?:pairs|runs|of)).{0,40}", text)
    assert not rest
