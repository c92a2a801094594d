"""Names that the theory's curves and simulated points share: readings of the paper, and series in them.

A reading is one way to fill what the paper leaves open; figures show readings side by side.
"""

from __future__ import annotations

ATTENTION_SCALINGS = {"logits as printed": False, "logits / √d": True}
"""Figure 2's readings: whether logits are divided by the root of d_model."""
IDENTITY = "W = I"
UNSTRUCTURED = "W ~ N(0, 1)"
SMALL_UNSTRUCTURED = "W ~ N(0, 1/d)"

PATTERNS_READING = "W ~ N(0, 1), logits as printed"

FEED_FORWARD_WEIGHTS = {
    "identity": "W = I",
    "lecun": "W ~ N(0, 1/d)",
    "he": "W ~ N(0, 2/d)",
    "layer_norm": "layer norm, W ~ N(0, 1/d)",
}
"""Figure 4a's readings of the weights of h_l = ReLU(W h_(l-1)): name -> label."""

RECURRENCE_KINDS = {
    "published": "Equation 5",
    "linear": "Equation 5, linear",
    "cosine": "cosine similarity",
    "pearson": "Pearson correlation",
}
"""Figure 4b's series: kind of recurrence -> label."""

RELU_READING = "correlated Gaussians"

VALUE_WEIGHTS = {"identity": "W_V = γ I", "orthogonal": "W_V = γ × orthogonal", "gaussian": "W_V ~ N(0, γ²/d)"}
"""Figure 10's readings of W_V: name -> label."""


def low_rank(rank: int) -> str:
    """Series of W = U U^T with U of `rank` columns."""
    return f"W = UUᵀ, k = {rank}"


def n_tokens(n: int) -> str:
    """Series of sequences of n tokens."""
    return f"n = {n}"


def correlation(rho: float) -> str:
    """Series, or reading, of inputs with correlation rho."""
    return f"ρ = {rho:g}"


def mean(value: float) -> str:
    """Series of Gaussian inputs with this mean and standard deviation 1."""
    return f"mean {value:g}".replace("-", "−")


def value_norm(gamma: float) -> str:
    """Series of value weights whose columns have norm gamma."""
    return f"γ = {gamma:g}"


def logit_scale(scale: float) -> str:
    """Reading with query and key weights of this size."""
    return f"logit scale {scale:g}"


INTERVAL_PARTS = {"attention": "attention", "MLP": "ReLU layer"}
"""Parts of a layer, in order: name -> label."""
INTERVAL_METHODS = {"lemma": "Lemma 12", "range": "ranges alone", "sharp": "sharper bounds"}
"""Ways to bound second moments: name -> label."""
INTERVAL_QUANTITIES = {
    "smallest": "smallest entry moment",
    "mean": "mean moment of an entry with itself",
    "largest": "largest entry moment",
}
"""Of the second moments E[H_ij(X) H_i'j'(Y)] of all pairs of entries: name -> label."""


def entry_moments(part: str, quantity: str) -> str:
    """Series of a quantity of INTERVAL_QUANTITIES after a part of INTERVAL_PARTS."""
    return f"{INTERVAL_PARTS[part]}: {INTERVAL_QUANTITIES[quantity]}"


NETWORKS = {"relu": "ReLU network", "erf": "erf network"}
"""Activation of fully connected networks on the Boolean cube -> label."""
KERNELS = {"conjugate": "conjugate kernel", "tangent": "neural tangent kernel"}
"""Kind of kernel -> label."""
LINEAR_ATTENTION = {
    "linear attention": ("position_symbol", None),
    "linear attention and ReLU layers": ("position_symbol", "relu"),
    "linear attention of x_i e_i and ReLU layers": ("signed_position", "relu"),
}
"""Label -> embedding and activation of `nsbench.theory.attention_kernels`."""
SIGN_READINGS = {"sensitivity": "average sensitivity", "stability": "noise stability"}
"""Quantity of the sign of a random network -> reading."""


def n_layers(count: int) -> str:
    """Series of networks with this many hidden layers."""
    return f"{count} layer{'s' * (count > 1)}"


def spectrum_of(network: str, kernel: str = "conjugate") -> str:
    """Reading with the spectrum of a network's kernel, a key of KERNELS."""
    return f"{network}, {KERNELS[kernel]}"
