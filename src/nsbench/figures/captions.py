"""Title and caption of every figure, for the report: figure name -> (title, caption)."""

from __future__ import annotations

_FIGURE_05 = (
    "Thin lines are single seeds, bold lines the pointwise median over all seeds of the grid (a diverged run "
    "counts as the worst value from where it ends). The dashed line is the target, fixed before anything ran. "
    "The strip on top of its panel marks when each run first reached the target and held it, a diamond their "
    "median, an arrow runs that did not hold it within the budget. Arms share data, initial weights and batch "
    "order seed by seed."
)
_PROTOCOL = (
    " A variant is a protocol: the paper does not say how the text is cut into examples, whether there is one target "
    "per example or one at each position, nor which targets its accuracy counts. Where there is a target at each "
    "position, Definition 6.1 is applied at each of them and averaged. A protocol whose name is followed by “LEAK ON "
    "PURPOSE” lets validation answers be seen: it shows what accuracy a leak gives, and is no result."
)
_FIGURE_13 = (
    "Each curve is the pointwise median over seeds of one arm: the darker, the larger γ; dashes are ρ. The paper "
    "reports that the regulariser helps for a variety of (ρ, γ), that validation losses with it fall earlier and "
    "fluctuate less, and that the best setting needs a sweep. An arm far above the others leaves the panel, which "
    "then says so."
)
_SWEEP = (
    "Each field compares an arm with the baseline of its variant, pair by pair of seeds: above, steps to target (a run "
    "that did not reach it counts at the budget), below, the lowest validation loss. Blue is better. Bold with a dot: "
    "the interval leaves out zero, with pairs enough for it to mean that. The framed arm is the one that the "
    "validation data select; the best of many fields is lucky as well as good, so read it beside the leave-one-out "
    "row of the sweep's table."
)

CAPTIONS: dict[str, tuple[str, str]] = {
    "figure_05_modular_addition": (
        "Figure 5, modular addition: training with and without the regulariser",
        _FIGURE_05 + " The paper reports about 4,500 steps without and 3,300 with it, which is 26.7% fewer steps, "
        "or 36.4% faster.",
    ),
    "figure_05_sparse_parity": (
        "Figure 5, noisy sparse parity: training with and without the regulariser",
        _FIGURE_05 + " The paper reports a speed-up of about 35%.",
    ),
    "figure_06": (
        "Figure 6, next-token prediction: validation accuracy with and without the regulariser",
        _FIGURE_05.replace("its panel", "each panel")
        + " Blue lines are floors, what an answer without a model reaches on validation data: always the commonest "
        "target, and a table of the last token (bigram). The paper reports 70% accuracy within 1,000 steps with the "
        "regulariser against 4,000 without, which is 75% fewer steps, or 300% faster; the thin solid line is that "
        "level." + _PROTOCOL,
    ),
    "figure_11": (
        "Figure 11, noisy sparse parity: noise stability and validation loss over training",
        "Noise stability at ρ = 1/2 under Definition 6.1 (green, right) beside the validation loss (blue, left). "
        "A symbol is kept with probability (1 + ρ)/2 and otherwise redrawn, which gives it the correlation "
        "κ = (1 + ρ)/2 = 0.75, not ρ. A parity of k bits has stability κᵏ as ±1 decision and (1 + κᵏ)/2 as dot "
        "product of probabilities (dotted); an untrained model that answers 1/2 everywhere has dot product 1/2. "
        "So the dot product rises while the parity is learned, and only the decision can fall towards the "
        "parity's value, the fall that the paper describes with ρᵏ as its end.",
    ),
    "figure_12": (
        "Figure 12, next-token prediction: validation accuracy by which targets are counted",
        "The same runs, counting all targets, those that are no padding, and those that are neither padding nor the "
        "unknown word: these two are easy to guess and lift an accuracy without saying anything about the text. "
        "Blue lines are the floors over the same targets, on validation data. The paper reports 70% accuracy within "
        "1,000 steps with the regulariser against 4,000 without (75% fewer steps, or 300% faster), and does not say "
        "what it counts." + _PROTOCOL,
    ),
    "figure_13_train": (
        "Figure 13, next-token prediction: training loss over the sweep of (ρ, γ)",
        _FIGURE_13 + " The training loss is the cross entropy alone, without the regulariser's term, with dropout.",
    ),
    "figure_13_val": (
        "Figure 13, next-token prediction: validation loss over the sweep of (ρ, γ)",
        _FIGURE_13 + " A dot marks each curve's minimum; the blue line is the loss of a table of the last token "
        "(bigram) on the same targets.",
    ),
    "figure_14": (
        "Figure 14, next-token prediction: noise stability and validation loss over training",
        "Above, the noise stability of Definition 6.1 at ρ = 1/2 on validation data; below, the validation loss of the "
        "same runs. The paper reports that the model without the regulariser becomes less and less stable while "
        "regularised ones stay stable. The regulariser trains directly on a quantity of this kind, so that stability "
        "is higher with it is what was asked for, and by itself no evidence for better learning; that is what the "
        "loss is for. Probabilities that spread over many tokens have a small product whatever the noise does: an "
        "untrained model's stability is about one over the vocabulary size. Where lines are padded, "
        "positions of padding count too: noise hardly moves what is said there, which lifts the mean." + _PROTOCOL,
    ),
    "sweep_modular_addition": ("The sweep of (ρ, γ), modular addition", _SWEEP),
    "sweep_sparse_parity": ("The sweep of (ρ, γ), noisy sparse parity", _SWEEP),
    "sweep_next_token": ("The sweep of (ρ, γ), next-token prediction", _SWEEP + _PROTOCOL),
}


def caption(name: str) -> tuple[str, str]:
    """Title and caption of a figure; a figure without an entry gets its name and no caption."""
    return CAPTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
