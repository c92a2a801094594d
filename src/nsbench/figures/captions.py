"""Title and caption of every figure, for the report: figure name -> (title, caption)."""

from __future__ import annotations

_FIGURE_05 = (
    "Thin lines are single seeds, bold lines the pointwise median over all seeds of the grid (a diverged run "
    "counts as the worst value from where it ends). The dashed line is the target, fixed before anything ran. "
    "The strip on top of its panel marks when each run first reached the target and held it, a diamond their "
    "median, an arrow runs that did not hold it within the budget. Arms share data, initial weights and batch "
    "order seed by seed."
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
    "figure_11": (
        "Figure 11, noisy sparse parity: noise stability and validation loss over training",
        "Noise stability at ρ = 1/2 under Definition 6.1 (green, right) beside the validation loss (blue, left). "
        "A symbol is kept with probability (1 + ρ)/2 and otherwise redrawn, which gives it the correlation "
        "κ = (1 + ρ)/2 = 0.75, not ρ. A parity of k bits has stability κᵏ as ±1 decision and (1 + κᵏ)/2 as dot "
        "product of probabilities (dotted); an untrained model that answers 1/2 everywhere has dot product 1/2. "
        "So the dot product rises while the parity is learned, and only the decision can fall towards the "
        "parity's value, the fall that the paper describes with ρᵏ as its end.",
    ),
}


def caption(name: str) -> tuple[str, str]:
    """Title and caption of a figure; a figure without an entry gets its name and no caption."""
    return CAPTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
