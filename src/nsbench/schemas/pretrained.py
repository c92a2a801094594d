"""The Parquet files of the pretrained models: what was measured, influences, concentration, stability, bounds."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import count, field, label, number

PAPER = {
    "gpt2": (0.003, 0.0005),
    "bert": (0.04, 0.02),
    "roberta": (0.19, 0.02),
    "gemma": (0.043, 0.0157),
}
"""Table 1: model -> (tail mass bound from I[f], from Stab_rho(f))."""

PAPER_NAMES = {"gpt2": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "gemma": "Gemma"}
READOUTS = {
    "top_logit_last": "largest logit at the last position",
    "mean_top_logit": "mean over positions of the largest logit",
    "cross_entropy": "cross entropy",
    "pooled_norm": "norm of the mean hidden state",
}
INPUTS = {
    "text": "text",
    "uniform": "token ids drawn uniformly",
    "gaussian": "normal embeddings with the text's mean and scale",
}
NORMS = {"l1": "L1 norm", "l2": "L2 norm", "squared_l2": "squared L2 norm"}

WEIGHTS = ("pretrained", "random")
NONE = -1
"""Layer or head of a row that is of none."""

KEY = [
    label("model", "model, as config names it"),
    label("weights", "pretrained, or random: a randomly initialised copy, the control"),
]
CASE = [
    *KEY,
    label("inputs", "text, uniform (token ids) or gaussian (embeddings)"),
    label("readout", "the number of the output that is measured: nsbench.measures.readouts"),
]
SITE = [
    *CASE,
    label("site", "embeddings, layer (what enters it) or head (its output)"),
    count("layer", "1", "layer from 0; -1 for the embeddings"),
    count("head", "1", "head from 0; -1 where none"),
    label("norm", "l1, l2 or squared_l2: nsbench.measures.influence"),
]

MODEL = pa.schema(
    [
        *KEY,
        label("status", "measured or unavailable"),
        label("reason", "why it is unavailable, and what to do; else empty", "text"),
        label("source", "hub, package, folder, memory or checkpoint"),
        label("origin", "repository and revision, package and version, or folder"),
        label("weights_sha256", "of the weights' files together; empty where unavailable", "sha256"),
        label("remark", "what config says beside the name, and what its loading found", "text"),
        label("paper", "the model of the paper that these weights are, or empty"),
        label("architecture", "class of the model; empty where unavailable"),
        label("kind", "causal, masked, or encoder (no language-model head)"),
        count("n_parameters", "1", "parameters; 0 where unavailable"),
        count("n_layers", "1", "layers"),
        count("n_heads", "1", "attention heads of a layer"),
        count("d_model", "1", "width of the embeddings"),
        count("n_vocabulary", "1", "token ids"),
        label("text", "the text of the inputs"),
        count("n_tokens", "tokens", "length of a sequence"),
        count("n_special", "tokens", "special tokens in each sequence of text"),
        count("n_sequences", "1", "sequences of each kind of inputs"),
        number("scale", "1", "standard deviation of the text's embeddings, all coordinates together"),
    ]
)

MEASURED = pa.schema(
    [
        *CASE,
        label("status", "measured, unavailable (the model) or not_applicable (the readout)"),
        label("reason", "why not measured; else empty", "text"),
    ]
)

INFLUENCE = pa.schema(
    [
        *SITE,
        count("position", "1", "token from 0"),
        number("value", "readout per unit (squared for squared_l2)", "mean over sequences"),
        number("standard_error", "as value", "over sequences"),
    ]
)

CONCENTRATION = pa.schema(
    [
        *SITE,
        label("of", "mean: of the mean over sequences; each: mean over sequences of each one's"),
        number("total", "readout per unit (squared for squared_l2)", "sum over positions"),
        number("total_standard_error", "as total", "over sequences"),
        count("n_positions", "1", "positions"),
        number("n_large", "positions", "with at least 0.1 of the total"),
        number("n_half", "positions", "the fewest that hold half of the total"),
        number("n_zero", "positions", "with no influence at all"),
        number("first_share", "1", "share of the first position"),
        number("last_share", "1", "share of the last position"),
        number("first_rank", "1", "rank of the first position, 1 the most influential"),
        number("last_rank", "1", "rank of the last position"),
        number("top_five_share", "1", "share of the five largest"),
        number("gini", "1", "Gini coefficient: 0 all equal, near 1 one has all"),
    ]
)
"""No row where the influence is 0 at every position."""

SEQUENCE = pa.schema(
    [
        *CASE,
        label("norm", "l1, l2 or squared_l2: nsbench.measures.influence"),
        count("input", "1", "sequence from 0"),
        count("n_half", "positions", "the fewest that hold half of its influence, at the embeddings"),
    ]
)
"""What a model and its control are compared by, sequence by sequence; no row where the influence is 0 everywhere."""

STABILITY = pa.schema(
    [
        *CASE,
        label("noise", "gaussian (Definition 4.1), resampling (6.1) or replacement (one token)"),
        label(
            "reduction",
            "of the readout: product, normalised, pearson, half_square; of the output, readout `output`: "
            "probability_dot, probability_cosine, decision, probability_distance",
        ),
        number("rho", "1", "rho as config gives it; NaN for replacement", nullable=True),
        number("correlation", "1", "the noise's own: (1 + rho) / 2 for resampling", nullable=True),
        number("value", "1 (product, half_square: readout^2)", "mean; summed over positions: replacement"),
        number("standard_error", "as value", "over sequences"),
    ]
)

MOMENT = pa.schema(
    [
        *CASE,
        number("mean", "readout", "mean over sequences"),
        number("norm2", "readout^2", "mean of the square"),
        number("variance", "readout^2", "mean of the squared deviation from the mean"),
        number("scale", "1", "standard deviation of the embeddings: one for all coordinates"),
    ]
)

PER_INPUT = pa.schema(
    [
        *CASE,
        label("quantity", "readout: f; influence: its mean is I[f]; half_square: (f - f under noise)^2 / 2"),
        number("correlation", "1", "the noise's, of half_square; else NaN", nullable=True),
        count("input", "1", "sequence from 0"),
        number("value", "readout^2 (readout: readout)", "influence: of standard units, or of tokens redrawn"),
    ]
)
"""Of inputs under whose law bounds are proved (gaussian, uniform): what their intervals in Table 1 are made of."""

TAIL = pa.schema(
    [
        *CASE,
        label("bound_from", "influence or stability"),
        label("reading", "what I[f] or the noise is"),
        number("rho", "1", "of the stability; NaN: influence, or the least over all rho (below)", nullable=True),
        label("divided_by", "norm2, variance (mean removed) or one (as section 3 prints it)"),
        field("proved", pa.bool_(), "1", "whether it is a bound under the law of these inputs"),
        count("degree", "1", "the bound is on the mass in degrees at least this"),
        number("value", "1", "the bound, not clipped: above 1 it says nothing"),
        number("standard_error", "1", "over inputs; here and below NaN where not proved and at a rho", nullable=True),
        number("upper", "1", "upper 95% confidence limit of the bound", nullable=True),
        number("over_influence", "1", "of stability: its bound over that from influence", nullable=True),
        number("over_influence_low", "1", "lower end of its 99% interval, paired by input", nullable=True),
        number("over_influence_high", "1", "upper end", nullable=True),
        number("published", "1", "Table 1's number for this model and column; NaN: none", nullable=True),
        number("ratio", "1", "value / published; NaN without", nullable=True),
    ]
)
"""The least over all rho is of a proved bound that at the rho which the other half of the inputs chooses, so that no
input chooses for itself; else the smallest value."""

PARTS = {
    "models": MODEL,
    "measured": MEASURED,
    "influence": INFLUENCE,
    "concentration": CONCENTRATION,
    "sequences": SEQUENCE,
    "stability": STABILITY,
    "moments": MOMENT,
    "per_input": PER_INPUT,
}
"""The files of one measured model, `<part>.parquet` in its folder, and their schemas."""

TABLES = {
    "pretrained_models": MODEL,
    "pretrained_measured": MEASURED,
    "pretrained_influence": INFLUENCE,
    "concentration": CONCENTRATION,
    "pretrained_stability": STABILITY,
    "table_1": TAIL,
}
"""The tables of all models, in `results/tables/`, and their schemas; all but the influences as CSV too."""
