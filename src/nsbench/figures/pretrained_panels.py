"""What the figures of pretrained models share: which case a model shows, its panel's head, footers.

A model that cannot be shown gets a panel that says why.
"""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import nsbench.figures.style as style
from nsbench.config.pretrained import PretrainedFigureSpec, Shown
from nsbench.figures.annotations import Axes, Figure, Line2D, Table
from nsbench.schemas.pretrained import WEIGHTS

COLOURS = {"pretrained": style.LOSS_COLOUR, "random": style.MUTED}
NAMES = {"pretrained": "pretrained", "random": "random copy"}
READOUTS = {
    "top_logit_last": "largest logit at the last position",
    "mean_top_logit": "mean over positions of the largest logit",
    "cross_entropy": "cross entropy",
    "pooled_norm": "norm of the mean hidden state",
}
NORMS = {"l1": "L1 norm", "l2": "L2 norm", "squared_l2": "squared L2 norm"}
INPUTS = {
    "text": "text",
    "uniform": "token ids drawn uniformly",
    "gaussian": "normal embeddings with the text's mean and scale",
}
OF_THE_PAPER = {"gpt2": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "gemma": "Gemma"}
NOTHING = ("no influence", "its total over positions is 0, or not finite")
READING = (
    " The paper does not say its readout (the one number of the output whose gradient is taken), its norm, its special "
    "tokens or how the rest was chosen; what stands here is said below the figure, and the table of concentration has "
    "the others. Beside each model stands a copy with random weights: what it shows too was not learned."
)
"""What captions say of all these figures."""
_CHARACTERS = 17.0
"""Of small text, to an inch."""

HeadLine = tuple[str, str, bool]
"""A line above a panel: its text, its colour, and whether it is bold."""


class Subject(NamedTuple):
    """A model as a figure shows it."""

    name: str
    about: str
    """What stands under the name."""
    readout: str
    problem: tuple[str, str]
    """What is wrong and why, instead of the model; empty texts where it was measured."""
    weights: dict[str, str]
    """Of WEIGHTS, those that the tables have in this case: empty where measured, else why not."""


def subjects(models: Table, measured: Table, spec: PretrainedFigureSpec) -> list[Subject]:
    """Every model of the spec, in its order, with the readout that it is shown for.

    `models` and `measured` are of schemas.pretrained.MODEL and MEASURED. The readout is the spec's,
    or its fallback where that one does not apply to the model.
    """
    return [_subject(name, models[models["model"] == name], measured, spec.figures) for name in spec.models]


def _subject(name: str, models: Table, measured: Table, shown: Shown) -> Subject:
    of_model = {row.weights: row for row in models.itertuples(index=False)}
    if "pretrained" not in of_model:
        return Subject(name, "", shown.readout, ("unavailable", "the tables have no row of this model"), {})
    own = of_model["pretrained"]
    paper = f"the paper's {OF_THE_PAPER.get(own.paper, own.paper)}" if own.paper else "not one of the paper's models"
    about = "; ".join(part for part in (paper, own.remark) if part)
    if own.status != "measured":
        return Subject(name, about, shown.readout, (own.status, own.reason), {})
    reasons, word = [], "not applicable"
    for readout in dict.fromkeys((shown.readout, shown.fallback)):
        here = (measured["model"] == name) & (measured["inputs"] == shown.inputs) & (measured["readout"] == readout)
        cases = {row.weights: row for row in measured[here].itertuples(index=False)}
        words = {weights: case.status.replace("_", " ") for weights, case in cases.items()}
        if words.get("pretrained") == "measured":
            order = [weights for weights in WEIGHTS if weights in words]
            return Subject(name, about, readout, ("", ""), {w: words[w].replace("measured", "") for w in order})
        word = words.get("pretrained", word)
        missing = f"the tables have no row of the {READOUTS[readout]}"
        reasons.append(cases["pretrained"].reason if "pretrained" in cases else missing)
    return Subject(name, about, shown.readout, (word, "; ".join(dict.fromkeys(reasons))), {})


def narrowed(table: Table, shown: Shown) -> Table:
    """The rows of the inputs and norm shown; `table` has the columns of schemas.pretrained.SITE."""
    return table[(table["inputs"] == shown.inputs) & (table["norm"] == shown.norm)]


def at(table: Table, subject: Subject, weights: str, site: str) -> Table:
    """The rows of a model's weights, with its readout, at one kind of site; `table` is `narrowed`."""
    here = (table["model"] == subject.name) & (table["weights"] == weights)
    return table[here & (table["readout"] == subject.readout) & (table["site"] == site)]


def position_axis(axes: Axes, n_positions: int) -> None:
    """Positions from 0, with ticks at both ends and a few between."""
    last = n_positions - 1
    ticks = [0, *(n_positions * part // 4 for part in (1, 2, 3)), last] if last >= 8 else range(n_positions)
    axes.set_xlim(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    axes.set_xticks(list(ticks))


def title(subject: Subject, width: float) -> list[HeadLine]:
    """A panel's head for `head`: name, what the model is and the readout, wrapped to `width` inches."""
    lines = [(part, style.TEXT, True) for part in textwrap.wrap(subject.name, int(width * _CHARACTERS * 0.75))]
    lines += wrapped(subject.about, width)
    return lines if any(subject.problem) else lines + wrapped(f"readout: {READOUTS[subject.readout]}", width)


def wrapped(text: str, width: float, colour: str = style.TEXT) -> list[HeadLine]:
    """Text in lines of `width` inches, four at most."""
    parts = textwrap.wrap(text, int(width * _CHARACTERS), max_lines=4, placeholder=" …")
    return [(part, colour, False) for part in parts]


def head(axes: Axes, lines: list[HeadLine]) -> None:
    """Put lines above a panel."""
    where = {"bbox_to_anchor": (0.0, 1.0), "bbox_transform": axes.transAxes, "borderpad": 0.35, "pad": 0}
    _block(axes, lines, "lower left", "left", 1.5, "head", **where).set(clip_on=False)


def notice(axes: Axes, word: str, reason: str, width: float, max_lines: int = 9) -> None:
    """A panel that says why nothing is in it; a reason of more than `max_lines` is cut there."""
    axes.set(xticks=[], yticks=[], facecolor="#F6F6F6")
    axes.minorticks_off()
    for spine in axes.spines.values():
        spine.set(visible=True, linestyle=(0, (4, 3)), color="#B5B5B5")
    lines = textwrap.wrap(reason, int(width * (_CHARACTERS - 2)), max_lines=max_lines, placeholder=" …")
    texts = [(word, style.WARNING, True), *((line, style.TEXT, False) for line in lines)]
    _block(axes, texts, "center", "center", 3, "notice")


def _block(axes: Axes, lines: list[HeadLine], loc: str, align: str, sep: float, gid: str, **where: Any) -> Any:
    """Lines of text as one block in or above a panel."""
    from matplotlib.offsetbox import AnchoredOffsetbox, TextArea, VPacker

    def line(text: str, colour: str, bold: bool) -> TextArea:
        # Reasons name variables as $HF_TOKEN: dollars are no mathematics.
        look = {"color": colour, "weight": "bold" if bold else "normal", "size": 9 if bold else 7.5}
        return TextArea(text, textprops=look | {"parse_math": False})

    packed = VPacker(children=[line(*one) for one in lines], pad=0, sep=sep, align=align)
    box = AnchoredOffsetbox(loc, child=packed, frameon=False, **where)
    box.set(gid=gid)
    return axes.add_artist(box)


def foot(
    figure: Figure, what: str, models: Table, spec: PretrainedFigureSpec, signs: list[Line2D] | None = None
) -> None:
    """The key, and in words: readout, norm, inputs, special tokens, text, sizes and, where it is not the paper's,
    the scale."""
    shown = spec.figures
    readout = f"Readout: {READOUTS[shown.readout]}"
    if shown.fallback != shown.readout:
        readout += f" (of a model that has it not: {READOUTS[shown.fallback]})"
    lines = [what, f"{readout}. Norm: {NORMS[shown.norm]} of the gradient. Inputs: {INPUTS[shown.inputs]}."]
    own = models[(models["weights"] == "pretrained") & (models["status"] == "measured")]
    own = own.drop_duplicates("model").set_index("model")
    own = own.loc[[name for name in spec.models if name in own.index]]
    sizes = ["no model was measured"]
    if len(own):
        special = "; ".join(f"{name}: {count}" for name, count in own["n_special"].items())
        lines.append(f"Special tokens in each sequence of text – {special}.")
        sizes = [f"{style.span(own['n_tokens'])} tokens a sequence", f"{style.span(own['n_sequences'])} sequences"]
    strange = own.loc[~own["text"].isin(style.KNOWN_TEXTS), "text"]
    if len(strange) and shown.inputs != "uniform":
        of_all = own["text"].nunique() == 1
        texts = [text if of_all else f"{text} ({', '.join(rows.index)})" for text, rows in strange.groupby(strange)]
        lines.append(f"Text: {'; '.join(texts)}.")
    lines.append(style.sizes_text(sizes, spec.scale))
    columns = max(1, min(len(signs or []), int(figure.get_figwidth() / 2.75)))
    style.footer(figure, lines, signs, n_columns=columns)
