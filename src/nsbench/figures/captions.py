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
    "position, Definition 6.1 is applied at each of them and averaged. A protocol whose name is followed by “LEAK” "
    "lets validation answers be seen, on purpose or because the protocol that it follows does; its accuracy shows what "
    "that gives."
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
    "the interval leaves out zero, with pairs enough for it to mean that, and for steps the permutation test agrees. "
    "The framed arm is the one that the validation data select; the best of many fields is lucky as well as good, so "
    "read it beside the leave-one-out row of the sweep's table."
)
_SPECIFICATIONS = (
    "A specification is one answer to each choice that the paper leaves open. Above, the ratio of steps to target, arm "
    "/ baseline, of each, sorted, with its interval: below 1 the regulariser helps. Below, which answer each "
    "specification gives to each choice: a choice that decides the effect has its answers on one side. Only "
    "specifications whose baseline reaches the target in more than half of the pairs count; the others have no time "
    "that could be shorter. Sorted values look like a trend even where they differ by chance alone, so read the "
    "intervals, and the shares in the table."
)
_THEORY = (
    " Lines are formulas: solid where the formula is exact or the limit of large sizes, dashed where it approximates, "
    "dotted where it is the paper's printed form and not right. Points are simulated, with bars of 2 standard errors; "
    "points have the colour of their line."
)
_PRETRAINED = (
    " The paper does not say its readout (the one number of the output whose gradient is taken), its norm, its special "
    "tokens or how the rest was chosen; what stands here is said below the figure, and the table of concentration has "
    "the others. Beside each model stands a copy with random weights: what it shows too was not learned."
)

CAPTIONS: dict[str, tuple[str, str]] = {
    "figure_01": (
        "Figure 1: geometric influence of each position, by model",
        "The influence of a position is the mean norm of the readout's gradient at that token's embedding, here as "
        "share of the sum over positions. The paper sees 5 to 10 positions with at least 0.1 I[f] (dashed), the first "
        "and the last most influential, and none without influence. At most 10 positions can have a tenth of the "
        "total, whatever the function: few such positions are no sign of concentration by themselves, which is why "
        "the fewest positions that hold half of the total are counted beside them. Counts and ranks are of the mean "
        "over sequences; a sequence by itself can be more concentrated than the mean." + _PRETRAINED,
    ),
    "figure_07": (
        "Figure 7: geometric influence by layer and position, by model",
        "Each row is the influence of what enters a layer, from the embeddings upwards, relative to the total at the "
        "embeddings of the same weights; to the right of each map are the layers' totals. The paper sees a very "
        "influential middle layer in Gemma-2-2B; of RoBERTa and GPT-2 it says that “the few layers are more "
        "influential”, where a word is missing, probably “first”. Gradients at different layers have different units: "
        "a layer whose inputs are large can have small gradients for that reason alone." + _PRETRAINED,
    ),
    "figure_08": (
        "Figure 8: geometric influence of each position on two attention heads, by model",
        "As Figure 1, with the gradient at the output of one attention head for each token, as share of that head's "
        "sum. The paper sees the same in two heads of each of four models, few positions with most of the influence, "
        "the first and the last above all, and does not say which heads it shows; which are shown here is a setting. "
        "At most 10 positions can have a tenth of the total (dashed)." + _PRETRAINED,
    ),
    "figure_02": (
        "Figure 2: stability of one attention layer, by the kind of W",
        "Noise stability of attention with W_V = I against the correlation ρ of its inputs. With W = W_Q W_Kᵀ = I "
        "each token attends to itself and the stability is ρ (Theorem 5.2). With independent entries each token "
        "attends to one at random, and the stability is ρ s(ρ), s(ρ) being the chance that it is the same token for "
        "both inputs (Theorem 5.3). The paper lets low rank reduce to the identity wherever k is far below d; k must "
        "also be well above log n, so that small ranks fall below the line. The paper prints logits without 1/√d: "
        "both readings are shown. Theorem 5.3 needs entries of variance 1 once logits are divided by √d: with "
        "variance 1/d attention then stays spread over many tokens." + _THEORY,
    ),
    "figure_03": (
        "Figure 3: attention patterns of an input and of its noisy copy",
        "Attention matrices A_X and A_Y for W with entries N(0, 1), nearly one token a row each. Diamonds mark rows "
        "that attend most to the same token in both; n s(ρ) such rows are to be expected, which is about 1 where ρ is"
        " near 0, by chance alone. Right, the share of such rows over many pairs beside s(ρ) of Theorem 5.3, and what"
        " is left between them: s(ρ) is the limit for large d." + _THEORY,
    ),
    "figure_04a": (
        "Figure 4a: second moment after each layer of a deep ReLU network, by its weights",
        "The paper does not say which weights its network has, and they decide what is seen. With W = I the value "
        "stays where the first layer puts it; with variance 1/d it falls by about half in each layer; with variance "
        "2/d it rises to the inputs' own second moment, as the two outputs align; with layer norm before each W it "
        "goes to 1/(2π). None settles at 2/(3π) ≈ 0.2122, the weak dampening that the paper reads from Equation 5."
        + _THEORY,
    ),
    "figure_04b": (
        "Figure 4b: Equation 5 and its corrected forms, iterated",
        "Equation 5 maps the correlation of two Gaussian inputs to E[ReLU(X) ReLU(Y)], which is no correlation: it "
        "takes 1 to 1/2. Iterated, it settles at 0.2172; the paper gives 2/(3π) = 0.2122, the fixed point of the "
        "linear form (the lower row enlarges both). The cosine similarity of a layer's outputs goes to 1 instead, the"
        " Pearson correlation to 0 unless it starts at 1. Points of Equation 5 iterate Monte Carlo means; the others "
        "are measured in random networks, W ~ N(0, 2/d) for the cosine similarity, layer norm and W ~ N(0, 1/d) for "
        "the Pearson correlation." + _THEORY,
    ),
    "figure_09": (
        "Figure 9: stability of one ReLU, exact and quadratic",
        "Theorem 5.1 and its quadratic approximation, Equation 4, on all of [−1, 1]. The cubic term is 0; the "
        "approximation is at most 1/4 − 3/(4π) ≈ 0.0113 too low, at both ends, and at −1 it is negative. Below, what "
        "is left when the exact formula is subtracted. Other means of the inputs have an exact form as well." + _THEORY,
    ),
    "figure_10": (
        "Figure 10: second moment after each layer of a transformer, by W_V and its norm γ",
        "The paper sees full dampening for γ < 1 and weak dampening for γ = 1, and has candidate fixed points 2/(π(4 "
        "− γ²)) from Equation 8, s(γ²ρ). The factor belongs outside: one step gives γ² s(ρ), and a signal that "
        "shrinks by γ² in each layer has no fixed point but 0. The paper's pattern needs W_V = γ I, where after l "
        "layers γ²ˡ s(ρ) is left; a random W_V, orthogonal or Gaussian, dampens fully at γ = 1 too." + _THEORY,
    ),
    "intervals": (
        "Bounds on second moments after each layer of a small network",
        "Lower and upper bounds on E[H(X) H(Y)], carried from layer to layer through one small random network, beside"
        " the simulated moments of the same network (points, with bars of 2 standard errors), by the size of its "
        "query and key weights. A bound is worth what lies between it and its points: one that does not use the "
        "correlation may be as tight as one that does, and one that is far off says nothing about the network. A "
        "method whose conditions no longer hold after some layer has no bound from there on.",
    ),
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
    "time_to_target": (
        "Time to target: share of runs that have reached it, by step",
        "Kaplan-Meier curves of each variant's arms, with pointwise intervals. A run that does not hold the target "
        "within its budget is censored there, a diverged one too, and counts in the denominator all along. Where a "
        "curve rises first its arm is sooner; where it ends below 1 runs were left over. The curves leave the pairs of "
        "seeds out of account: the table of effects has them.",
    ),
    "arms": (
        "Cheaper arms and controls: steps and FLOPs to target against the baseline",
        "Each arm's ratio to the baseline of its variant, paired by seed: left in steps, right in FLOPs, below 1 the "
        "arm needs less. Cheaper arms regularise in every tenth step, on a tenth of the batch, or through one branch, "
        "scaled to keep the strength. Controls do something else that a reader will ask for: resampled inputs as plain "
        "data augmentation, an entropy penalty without noise, Grokfast, more dropout, more weight decay. A control "
        "that does as well says that noise stability is not what helps. Filled marks are settled, hollow ones open.",
    ),
    **{
        f"specification_curve_{task}": (f"Specification curve, {name}", _SPECIFICATIONS)
        for task, name in (("modular_addition", "modular addition"), ("sparse_parity", "noisy sparse parity"))
    },
    "specification_curve_next_token": ("Specification curve, next-token prediction", _SPECIFICATIONS + _PROTOCOL),
}


def caption(name: str) -> tuple[str, str]:
    """Title and caption of a figure; a figure without an entry gets its name and no caption."""
    return CAPTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
