"""Numbers in the prose of results stand in published tables: one that these no longer give fails here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nsbench.theory import parity_gradients

PROJECT = Path(__file__).parents[1]
PUBLISHED = PROJECT / "results/published"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
EFFECTS, CELLS, SELECTIONS, LEADS, SCORES = (
    pd.read_csv(PUBLISHED / f"training/{name}.csv")
    for name in ("paired_effect", "cells", "selection", "lead_lag", "score_effect")
)
THEORY = pd.read_csv(PUBLISHED / "theory/theory.csv")
CONCENTRATION = pd.read_csv(PUBLISHED / "pretrained/concentration.csv")
CLAIMS = pd.read_csv(PUBLISHED / "claims.csv")
EVIDENCE = pd.read_csv(PUBLISHED / "claim_evidence.csv").set_index("id")
NO_EFFECT = "no effect larger than 10%"
PAPER = (
    "26.7% fewer (36% faster)", "| 26.7% fewer |", "| about 35% sooner |", "| about 75% fewer |",
    "4,500 to 3,300 steps", "not 1.33 times", "not 4,000", "near 70%", "Theorems 5.1 to 5.3", "settle at 2/(3 pi)",
    "Definition 6.1's", "The paper's four",
)  # fmt: skip
"""What the paper says."""
SETTINGS = (
    "K = 113", "rho = 0.25, gamma = 0.75", "rho = gamma = 0.05", "n = 20, k = 2", "n = 10", "n = 256", "Table 2",
    "at 8, 12, 16 and 20 pairs", "30% of the pairs", "on a tenth of the batch", "in every tenth step", "10,000 steps",
    "every 10 steps", "reaches 95%", "From 95% on training data to 95%", "reaches 70%", "judged at eight",
    "(0.003 and 0.003)", "3,000-step runs", "by more than 10%", "of six probed",
    "ne comparison", "one branch", "of the first 42", "WikiText-2", "SmolLM2", "beyond 10%", "200 specifications",
    "below 1 and", "(95%; next tokens 70%)", "sigma = 1", "training accuracy 0.95", "over 0.9",
    "checkpoints lie 40 apart", "CIFAR-10, SVHN", "at 98.2%", "ranks at 95%", "(Six pairs.)",
    "9 of 12 frequent", "11 of 20 all", "30% of the examples", "none beyond 10%", "beyond 10%",
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


def decides(found: pd.Series) -> str:
    """The end of a line in the table of the comparisons that decide."""
    fewer = found.steps_ratio_low < 1 < found.steps_ratio_high
    interval = across(found) if fewer else f"({ends(found)})"
    outcome = {"more steps": "later", "fewer steps": "sooner"}.get(found.outcome, found.outcome)
    effect = steps(found).removesuffix(" steps")
    return f"| {effect} {interval} | {found.flops_ratio:.2f} times | {found.n_pairs} | {outcome} |"


def percents(name: str, what: str) -> str:
    """A claim's number of percent, where the regulariser has more of something."""
    found = EVIDENCE.loc[[name]].iloc[0]
    return f"{-found.ours:.1f}% {what} ({-found.ours_high:.1f} to {-found.ours_low:.1f}%)"


def share(c: float) -> str:
    """The regulariser's gradient beside the cross entropy's, of a parity of two bits at confidence c."""
    of_loss, of_regularizer = parity_gradients(c, 2, 0.05, 0.05, 0.1)
    return f"{100 * of_regularizer / of_loss:.2f}%"


CALIBRATED, FINE, TEXT = effect("calibrated"), effect("fine"), effect("windows_overlapping")
TURNED, BEST = effect("fine", "noise_stability_s0"), effect("third", "noise_stability-rho0.75-gamma2")
MIRRORED = re.search(r"\d+%", str(CALIBRATED.leaks))[0]
TUNED = SELECTIONS[SELECTIONS["procedure"] == "equal_tuning"].iloc[0]
LOSS = SCORES[SCORES["variant"] == "calibrated"].iloc[0]
GROKKING = EVIDENCE.loc["catalyses_grokking"].iloc[0]
TRIED = len(CELLS[CELLS["variant"].str.startswith("third-")])
THIRD = ("noise_stability_s0", "tenth_of_batch", "every_10th", "one_branch")
FIRST, RUNS, LEAD = leads("calibrated-n20-k2-steps3000")
OUTCOMES = [found.outcome for found in (CALIBRATED, FINE, TEXT)]
TWICE = {2: "twice"}.get(round(FINE.flops_ratio / FINE.steps_ratio, 6), "not twice")
N_TEXT = word(median("windows_overlapping", "n_seeds"))


def loss(end: str = "") -> str:
    return f"{-LOSS[f'best_val_loss_difference{end}']:.4f}".lstrip("0")


def deep_networks() -> str:
    """Where deep ReLU networks are after their last layer, beside the fixed point of Equation 5's linear form."""
    rows = THEORY[THEORY["experiment"] == "feed_forward"]
    last = rows.loc[rows["x"] == rows["x"].max(), "simulated"]
    return "In no reading" if ((last * 3 * math.pi / 2 - 1).abs() > 0.1).all() else "In some reading"


def large(norm: str, readout: str = "", weights: str = "pretrained") -> int:
    """The most positions with a tenth of the influence on text, by readout."""
    rows = CONCENTRATION[(CONCENTRATION["site"] == "embeddings") & (CONCENTRATION["of"] == "mean")]
    rows = rows[(rows["inputs"] == "text") & (rows["norm"] == norm) & (rows["weights"] == weights)]
    return int(rows.loc[(rows["readout"] == readout) | (readout == ""), "n_large"].max())


def short(found: pd.Series) -> str:
    """The same without pairs and outcome."""
    return "|".join(decides(found).split("|")[:3]) + "|"


def counted(group: str = "", source: str = "haris2026") -> str:
    """A line of a paper's claims by verdict; open: undecided, not run, or not testable as stated."""
    rows = CLAIMS.loc[(CLAIMS["source"] == source) & ((CLAIMS["group"] == group) | (group == "")), "verdict"]
    kinds = (["reproduced"], ["partly"], ["not reproduced", "opposite", NO_EFFECT], ["paper in error"])
    found = [int(rows.isin(kind).sum()) for kind in kinds]
    return " | ".join(map(str, [*found, len(rows) - sum(found)])) + " |"


def ranging(variant: str, n: int) -> str:
    """The least and the largest effect of the variant's (rho, gamma), if none of these has one beyond the margin."""
    rows = EFFECTS[(EFFECTS["variant"] == variant) & EFFECTS["arm"].str.contains("-rho")]
    assert len(rows) == n
    assert (rows["outcome"] == NO_EFFECT).all()
    fewer = [100 * (1 - ratio) for ratio in (rows["steps_ratio"].max(), rows["steps_ratio"].min())]
    return f"{-fewer[0]:.1f}% more to {fewer[1]:.1f}%" if fewer[0] < 0 else f"{fewer[0]:.1f} to {fewer[1]:.1f}%"


def those_with(outcome: str) -> str:
    """The tasks whose deciding comparison has this outcome."""
    rows = {"addition": CALIBRATED, "parity": FINE, "next tokens": TEXT}
    return " and ".join(name for name, row in rows.items() if row.outcome == outcome)


def asked(claim: str, setting: str) -> pd.Series:
    """A setting of a claim of the second paper."""
    rows = EVIDENCE.loc[[claim]]
    (row,) = rows[rows["setting"] == setting].to_dict("records")
    return pd.Series(row)


def numbers(claim: str, setting: str, sign: int = 1, digits: int = 2) -> str:
    """Its number and the ends of its interval, times `sign`."""
    row = asked(claim, setting)
    low, high = sorted(sign * end for end in (row.ours_low, row.ours_high))
    return f"{sign * row.ours:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def verdict(claim: str) -> str:
    (found,) = CLAIMS.loc[CLAIMS["id"] == claim, "verdict"]
    return f"**{'open' if found == 'undecided' else found}**"


def follows_frequent(kind: str, model: str) -> str:
    """How often a model of the token mixture follows the frequent tokens, as its claim's note tells."""
    shares = dict(re.findall(r"(\w+): ([\d.]+)", asked("frequent_tokens", f"token_mixture / {kind}").note))
    return f"{100 * float(shares[model]):.0f}%"


README = [
    f"more steps on {those_with('more steps')}, an effect beyond 10% ruled out on {those_with(NO_EFFECT)}",
    f"with {100 * CALIBRATED.confidence:g}% intervals",
    f"| modular addition, {CALIBRATED.n_pairs} | 26.7% fewer {short(CALIBRATED)}",
    f"| sparse parity, {FINE.n_pairs} | about 35% sooner {short(FINE)}",
    f"| next tokens, {TEXT.n_pairs}; training windows overlap validation's | about 75% fewer {short(TEXT)}",
    f"{SELECTIONS.n_arms[0]} settings of rho and gamma take {ranging('third', SELECTIONS.n_arms[0])} fewer steps",
    f"makes it {median('third') / median('third-learning_rate0.003-weight_decay0.003'):.1f} times faster",
    f"four settings take {ranging('third_tuned', 4)} fewer steps",
    f"[{len(re.findall('^[|] [0-9]', (PROJECT / 'docs/errata.md').read_text(), re.MULTILINE))} errata]",
    *(f"| {group} | {counted(group)}" for group in ("training", "measure", "theory", "statement of numbers")),
    f"| pretrained ([other models]) | {counted('pretrained')}",
    f"| second paper, with four questions of ours | {counted(source='vasudeva2025')}",
]
RESULTS = [
    f"in {word(OUTCOMES.count('more steps'))} the regulariser takes more steps, in "
    f"{word(OUTCOMES.count(NO_EFFECT))} it changes nothing beyond 10%, and each step costs {TWICE} the operations",
    f"| modular addition | 26.7% fewer {decides(CALIBRATED)}",
    f"| sparse parity | about 35% sooner {decides(FINE)}",
    f"| next tokens | about 75% fewer {decides(TEXT)}",
    f"`calibrated`, {word(CALIBRATED.n_pairs)} pairs: **later**. {steps(CALIBRATED)} ({100 * CALIBRATED.confidence:g}% "
    f"interval {ends(CALIBRATED)})",
    f"{MIRRORED} of validation pairs stand mirrored",
    f"takes {GROKKING.ours:g} steps more ({GROKKING.ours_low:g} to {GROKKING.ours_high:g})",
    f"{loss()} lower ({100 * LOSS.confidence:g}% interval {loss('_high')} to {loss('_low')})",
    f"(`as_published`, {word(effect('as_published').n_pairs)} pairs): "
    f"{'no run' if reached('as_published') == 0 else 'a run'} of either arm",
    f"(`third`, {word(BEST.n_pairs)} pairs each): with all {SELECTIONS.n_arms[0]} (rho, gamma) "
    f"**{settled('third', SELECTIONS.n_arms[0])}**",
    f"through one branch alone: {'none either' if settled('third', 4, *THIRD) == NO_EFFECT else 'not that'}",
    f"rho = 0.75 and gamma = 2, takes {steps(BEST)} ({ends(BEST)})",
    f"of {TRIED} settings of learning rate and decay",
    f"takes {median('third-learning_rate0.003-weight_decay0.003'):g} steps instead of {median('third'):,g}",
    f"takes {TUNED.val_steps_ratio:.1f} times the steps "
    f"({TUNED.val_steps_ratio_low:.1f} to {TUNED.val_steps_ratio_high:.1f}",
    f"on {word(effect('third_tuned', 'noise_stability-rho0.9-gamma2').n_pairs)} pairs that chose nothing "
    f"(`third_tuned`): **{settled('third_tuned', 4)}** with any of four (rho, gamma)",
    f"doubling the decay takes {steps(effect('calibrated_fine', 'double_weight_decay'))}",
    f"tripling it {steps(effect('calibrated_fine', 'more_weight_decay')).partition(' ')[0]} "
    f"({word(effect('calibrated_fine', 'more_weight_decay').n_pairs)} pairs, open)",
    f"(`fine`, {FINE.n_pairs} pairs): **{FINE.outcome}**",
    f"with its sign turned {steps(TURNED).removesuffix(' steps')} {across(TURNED)}",
    f"{word(effect('calibrated-n20-k2-steps3000').n_pairs).capitalize()} pairs each",
    f"in {'all' if FIRST == RUNS else word(FIRST) + ' of'} {word(RUNS)} baselines of parity's `calibrated`, by "
    f"{LEAD:g} steps",
    f"({re.search(r'[0-9]+%', str(effect('as_published-n10-k2-steps1000').leaks))[0]} of the validation strings are",
    "in {} of {} of `as_published`".format(*map(word, leads("as_published-n10-k2-steps1000")[:2])),
    f"{N_TEXT.capitalize()} pairs, judged at {word(TEXT.n_pairs)}: **later**. {steps(TEXT)} ({ends(TEXT)})",
    f"at {median('windows_overlapping', 'min_step'):g} to {median('windows_overlapping', 'max_step'):g} steps",
    f"validation loss has {percents('validation_loss', 'more area')}",
    f"fluctuates {percents('steadier_training', 'more')}",
    f"to {stability('baseline', 'baseline_becomes_unstable')} of its highest value without and "
    f"{stability('noise_stability', 'regularised_stays_stable')} with the regulariser",
    f"{deep_networks()} tried does a deep ReLU network settle at 2/(3 pi)",
    f"{'no' if large('l1') == 0 else 'a'} position has a tenth of the influence in the L1 norm",
    "In the squared norm SmolLM2 looks like a junta, as do random copies"
    if 0 < large("squared_l2", "top_logit_last") < 3 and 0 < large("squared_l2", weights="random") < 3
    else "neither looks like one",
    f"derived to be {share(0.1)} to {share(0.7)} of the cross entropy's",
]


IMAGES, SNIPPETS = "fashion_mnist", "movie_snippets"
OF_RUNS = pd.read_csv(PUBLISHED / "training/time_to_target.csv")
SECOND = OF_RUNS["task"].isin([IMAGES, SNIPPETS, "token_mixture"]) | (OF_RUNS["variant"] == "grokking")
MLP, LSTM, GAIN = f"{IMAGES} / mlp", f"{SNIPPETS} / lstm", f"{IMAGES} / less baseline"


def moves(claim: str, over: str) -> list[str]:
    """Steps by which S moves first, and the ends of their interval."""
    row = asked(claim, f"grokking / {over}")
    return [f"{row.ours:g}", f"{row.ours_low:,.0f} to {row.ours_high:,.0f}"]


def slope(setting: str, of: str = "LSTM") -> str:
    """How far sensitivity by position rises from the first to the last, as a share of its mean."""
    row = asked("sensitivity_by_position", setting)
    assert (row.n, math.isnan(row.ours_low)) == (6, True)
    return re.search(rf"{of}: (\S+?)[,;]?(?: |$)", row.note)[1]


def one_less_all() -> list[str]:
    """What noising one token loses of clean accuracy beside noising all, and the ends of its interval."""
    row = asked("better_regulariser", f"{IMAGES} / one token less all / test_accuracy")
    assert row.ours < 0 < row.ours_high < 0.0005
    return [f"{-row.ours:.3f}", f"{-row.ours_low:.3f} less to {row.ours_high:.3f} more"]


CONTROLS = pd.read_csv(PUBLISHED / "low_sensitivity/controls/matched_effect.csv")
CONTROLS = CONTROLS[(CONTROLS["quantity"] == "sensitivity") & (CONTROLS["split"] == "train") & CONTROLS["kept"].isna()]


def control(variant: str, law: str = "resample") -> str:
    """S over the plain transformer's at training accuracy 0.95, with its interval."""
    found = CONTROLS[(CONTROLS["variant"] == variant) & (CONTROLS["law"] == law)]
    (row,) = found[found["matching"] == "train_accuracy"].itertuples()
    assert row.n_compared == 6
    return f"{row.effect:.2f} ({row.effect_low:.2f} to {row.effect_high:.2f})"


def every_lstm_has_more() -> str:
    fitted = ("lstm", "lstm_wide", "lstm_deep")
    assert all(float(control(name, "embedding_gaussian-1").split()[1][1:]) > 1 for name in fitted)
    permuted = CONTROLS[CONTROLS["variant"] == "lstm_permuted"]
    assert (permuted.loc[permuted["matching"] == "train_accuracy", "n_compared"] == 0).all()
    at_end = permuted[permuted["matching"] == "end"]
    assert (at_end.loc[at_end["law"] == "embedding_gaussian-1", "effect_low"] > 1).all()
    return (
        "on the vectors every LSTM has more than the plain transformer; the one on permuted labels, which does not fit "
        "them to 0.95, at the end of training"
    )


LOW_SENSITIVITY = [
    f"{SECOND.sum()} runs, and {6 * (CONTROLS['variant'].nunique() - 1)} of controls, in",
    "it has {} times ({} where words are redrawn".format(
        *numbers("sensitivity_text", f"{LSTM} / equal_test_accuracy").split(" (")
    ),
    "controls], six pairs)",
    f"twice the width has {control('transformer_wide')}, twice the depth {control('transformer_deep')}; an LSTM",
    f"of twice the width {control('lstm_wide')}, of twice the depth {control('lstm_deep')}. Without",
    f"positions a transformer has {control('transformer_no_positions')}, trained",
    f"on permuted labels {control('transformer_permuted')}",
    every_lstm_has_more(),
    f"the MLP's S over the transformer's: {numbers('sensitivity_fashion_mnist', MLP)}, "
    f"{verdict('sensitivity_fashion_mnist')}",
    f"at sigma = 2 it is {numbers('sensitivity_fashion_mnist', f'{MLP} / patch_gaussian-2')}",
    f"at sigma = 0.5 it is {numbers('sensitivity_fashion_mnist', f'{MLP} / patch_gaussian-0.5')}",
    f"the released code {numbers('sensitivity_fashion_mnist', f'{MLP} / scattered_gaussian-1')}",
    "they have {} times the transformer's S ({}".format(
        *numbers("sensitivity_fashion_mnist", f"{IMAGES} / cnn / equal_test_accuracy").split(" (")
    ),
    "the LSTM has {} times the transformer's S ({}".format(*numbers("sensitivity_text", LSTM).split(" (")),
    "and {} times ({}".format(*numbers("sensitivity_text", f"{LSTM} / embedding_gaussian-1").split(" (")),
    f"rises, from the first position to the last, by {slope(f'{SNIPPETS} / lstm_last, reads last')} times its mean, "
    f"the transformer's by {slope(f'{SNIPPETS} / lstm, reads mean', 'transformer')}.",
    f"it falls, by {slope(f'{SNIPPETS} / lstm, reads mean')[1:]}; "
    f"by {slope(f'{IMAGES} / lstm, reads mean')[1:]} on Fashion-MNIST",
    "(Typical of six pairs, which have no interval here.)",
    f"Token mixture, {word(asked('frequent_tokens', 'token_mixture / mlp').n)} pairs: {verdict('frequent_tokens')}",
    f"in {follows_frequent('mlp', 'transformer')} of the swapped examples",
    f"the MLP in {follows_frequent('mlp', 'mlp')}, the LSTM in {follows_frequent('lstm', 'lstm')}",
    f"{verdict('robust_if_insensitive')}: partial rank correlation {numbers('robust_if_insensitive', IMAGES)}",
    f"nothing is seen: {numbers('robust_if_insensitive', f'{IMAGES} / train_accuracy')}",
    f"{verdict('flat_if_insensitive')}: {numbers('flat_if_insensitive', IMAGES)}",
    f"it is the reverse: {numbers('flat_if_insensitive', f'{IMAGES} / other_patch')}",
    f"{verdict('same_ranking').replace('open', 'Open')}: Kendall's tau is "
    + numbers("same_ranking", f"{IMAGES}, 50% kept"),
    f"{numbers('same_ranking', f'{IMAGES}, 25% kept')} where a quarter is",
    f"most: {numbers('same_ranking', f'{IMAGES}, 50% kept / other_patch')}",
    f"{word(asked('regulariser_robust', GAIN).n)} pairs: {verdict('regulariser_robust')}",
    "It has {} more accuracy on corrupted images than the baseline ({}".format(
        *numbers("regulariser_robust", GAIN, digits=3).split(" (")
    ),
    "and {} more than augmentation by the same noise ({}".format(
        *numbers("regulariser_robust", f"{IMAGES} / less augmentation", digits=3).split(" (")
    ),
    "it has {} more than the baseline ({}".format(
        *numbers("regulariser_robust", f"{GAIN} / test_accuracy", digits=3).split(" (")
    ),
    "{}: S moves {} steps before noise stability ({}; ".format(
        verdict("better_progress").replace("open", "Open"), *moves("better_progress", "stability")
    ),
    "S {} steps before the raw test loss ({}), ".format(*moves("sensitivity_leads_loss", "test_loss"))
    + verdict("sensitivity_leads_loss"),
    "and {} before the norm of the weights ({}), ".format(*moves("sensitivity_leads_norm", "weight_norm"))
    + verdict("sensitivity_leads_norm"),
    "{}: on corrupted images that of S has {} more accuracy than that of noise stability ({}".format(
        verdict("better_regulariser").replace("open", "Open"),
        *numbers("better_regulariser", f"{IMAGES} / less all_agreement", digits=3).split(" ("),
    ),
    "squared error of logits has {} more than agreement ({}".format(
        *numbers("better_regulariser", f"{IMAGES} / MSE less agreement / test_accuracy", digits=3).split(" (")
    ),
    "one token {} less than all ({})".format(*one_less_all()),
    "its partial correlation is by {} ({} the stronger".format(
        *numbers("better_predictor", f"{IMAGES}, 50% kept").split(" (")
    ),
    "at sigma = 2 it is the weaker by "
    + numbers("better_predictor", f"{IMAGES}, 50% kept / patch_gaussian-2", sign=-1),
    f"on test inputs by {numbers('better_predictor', f'{IMAGES}, 50% kept / test', sign=-1)}",
]


def prose(name: str, first: str, last: str) -> str:
    """Some sections of a page in one line, without the targets of links."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert first in text
    part = text.partition(first)[2].partition(last)[0]
    return " ".join(re.sub(r"\]\([^)]*\)", "]", part).split())


PAGES: dict[str, tuple[list[str], Callable[[], str]]] = {
    "README.md": (README, lambda: prose("README.md", "## Results so far", "\n## ")),
    "docs/low_sensitivity.md": (LOW_SENSITIVITY, lambda: prose("docs/low_sensitivity.md", "## Results", "\n## Limits")),
    "docs/results.md": (RESULTS, lambda: prose("docs/results.md", "# Results", "\n## What would change")),
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
