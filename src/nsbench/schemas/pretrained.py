"""The Parquet files of the pretrained models: what was measured, influences, concentration, stability, bounds."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import field

PAPER = {
    "gpt2": (0.003, 0.0005),
    "bert": (0.04, 0.02),
    "roberta": (0.19, 0.02),
    "gemma": (0.043, 0.0157),
}
"""Table 1: model -> (tail mass bound from I[f], from Stab_rho(f))."""

WEIGHTS = ("pretrained", "random")
NONE = -1
"""Layer or head of a row that is of none."""

KEY = [
    field("model", pa.string(), "name", "model, as config names it"),
    field("weights", pa.string(), "name", "pretrained, or random: a randomly initialised copy, the control"),
]
CASE = [
    *KEY,
    field("inputs", pa.string(), "name", "text, uniform (token ids) or gaussian (embeddings)"),
    field("readout", pa.string(), "name", "the number of the output that is measured: nsbench.measures.readouts"),
]
SITE = [
    *CASE,
    field("site", pa.string(), "name", "embeddings, layer (what enters it) or head (its output)"),
    field("layer", pa.int64(), "1", "layer from 0; -1 for the embeddings"),
    field("head", pa.int64(), "1", "head from 0; -1 where none"),
    field("norm", pa.string(), "name", "l1, l2 or squared_l2: nsbench.measures.influence"),
]

MODEL = pa.schema(
    [
        *KEY,
        field("status", pa.string(), "name", "measured or unavailable"),
        field("reason", pa.string(), "text", "why it is unavailable, and what to do; else empty"),
        field("source", pa.string(), "name", "hub, package, folder or checkpoint"),
        field("origin", pa.string(), "name", "repository and revision, package and version, or folder"),
        field("weights_sha256", pa.string(), "sha256", "of the weights' files together; empty where unavailable"),
        field("remark", pa.string(), "text", "what config says beside the name, and what its loading found"),
        field("paper", pa.string(), "name", "the model of the paper that these weights are, or empty"),
        field("architecture", pa.string(), "name", "class of the model; empty where unavailable"),
        field("kind", pa.string(), "name", "causal, masked, or encoder (no language-model head)"),
        field("n_parameters", pa.int64(), "1", "parameters; 0 where unavailable"),
        field("n_layers", pa.int64(), "1", "layers"),
        field("n_heads", pa.int64(), "1", "attention heads of a layer"),
        field("d_model", pa.int64(), "1", "width of the embeddings"),
        field("n_vocabulary", pa.int64(), "1", "token ids"),
        field("text", pa.string(), "name", "the text of the inputs"),
        field("n_tokens", pa.int64(), "tokens", "length of a sequence"),
        field("n_special", pa.int64(), "tokens", "special tokens in each sequence of text"),
        field("n_sequences", pa.int64(), "1", "sequences of each kind of inputs"),
        field("scale", pa.float64(), "1", "standard deviation of the text's embeddings, all coordinates together"),
    ]
)

MEASURED = pa.schema(
    [
        *CASE,
        field("status", pa.string(), "name", "measured, unavailable (the model) or not_applicable (the readout)"),
        field("reason", pa.string(), "text", "why not measured; else empty"),
    ]
)

INFLUENCE = pa.schema(
    [
        *SITE,
        field("position", pa.int64(), "1", "token from 0"),
        field("value", pa.float64(), "readout per unit (squared for squared_l2)", "mean over sequences"),
        field("standard_error", pa.float64(), "as value", "over sequences"),
    ]
)

CONCENTRATION = pa.schema(
    [
        *SITE,
        field("of", pa.string(), "name", "mean: of the mean over sequences; each: mean over sequences of each one's"),
        field("total", pa.float64(), "readout per unit (squared for squared_l2)", "sum over positions"),
        field("total_standard_error", pa.float64(), "as total", "over sequences"),
        field("n_positions", pa.int64(), "1", "positions"),
        field("n_large", pa.float64(), "positions", "with at least 0.1 of the total"),
        field("n_half", pa.float64(), "positions", "the fewest that hold half of the total"),
        field("n_zero", pa.float64(), "positions", "with no influence at all"),
        field("first_share", pa.float64(), "1", "share of the first position"),
        field("last_share", pa.float64(), "1", "share of the last position"),
        field("first_rank", pa.float64(), "1", "rank of the first position, 1 the most influential"),
        field("last_rank", pa.float64(), "1", "rank of the last position"),
        field("top_five_share", pa.float64(), "1", "share of the five largest"),
        field("gini", pa.float64(), "1", "Gini coefficient: 0 all equal, near 1 one has all"),
    ]
)
"""No row where the influence is 0 at every position."""

STABILITY = pa.schema(
    [
        *CASE,
        field("noise", pa.string(), "name", "gaussian (Definition 4.1), resampling (6.1) or replacement (one token)"),
        field(
            "reduction",
            pa.string(),
            "name",
            "of the readout: product, normalised, pearson, half_square; of the output, readout `output`: "
            "probability_dot, probability_cosine, decision, probability_distance",
        ),
        field("rho", pa.float64(), "1", "rho as config gives it; NaN for replacement", nullable=True),
        field("correlation", pa.float64(), "1", "the noise's own: (1 + rho) / 2 for resampling", nullable=True),
        field("value", pa.float64(), "1 (product, half_square: readout^2)", "mean; summed over positions: replacement"),
        field("standard_error", pa.float64(), "as value", "over sequences"),
    ]
)

MOMENT = pa.schema(
    [
        *CASE,
        field("mean", pa.float64(), "readout", "mean over sequences"),
        field("norm2", pa.float64(), "readout^2", "mean of the square"),
        field("variance", pa.float64(), "readout^2", "mean of the squared deviation from the mean"),
        field("scale", pa.float64(), "1", "standard deviation of the embeddings: one for all coordinates"),
    ]
)

TAIL = pa.schema(
    [
        *CASE,
        field("bound_from", pa.string(), "name", "influence or stability"),
        field("reading", pa.string(), "name", "what I[f] or the noise is"),
        field("rho", pa.float64(), "1", "of the stability; NaN: influence, or the least over all rho", nullable=True),
        field("divided_by", pa.string(), "name", "norm2, variance (mean removed) or one (as section 3 prints it)"),
        field("proved", pa.bool_(), "1", "whether it is a bound under the law of these inputs"),
        field("degree", pa.int64(), "1", "the bound is on the mass in degrees at least this"),
        field("value", pa.float64(), "1", "the bound, not clipped: above 1 it says nothing"),
        field("published", pa.float64(), "1", "Table 1's number for this model and column; NaN: none", nullable=True),
        field("ratio", pa.float64(), "1", "value / published; NaN without", nullable=True),
    ]
)

PARTS = {
    "models": MODEL,
    "measured": MEASURED,
    "influence": INFLUENCE,
    "concentration": CONCENTRATION,
    "stability": STABILITY,
    "moments": MOMENT,
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
