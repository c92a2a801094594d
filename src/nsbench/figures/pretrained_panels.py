"""What the figures of pretrained models share: which case a model shows, its panel's head, footers.

A model that cannot be shown gets a panel that says why.
"""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.pretrained import PretrainedFigureSpec, Shown
from nsbench.figures.annotations import Axes, Figure, Line2D, Table
from nsbench.schemas.pretrained import INPUTS, NORMS, PAPER_NAMES, READOUTS, WEIGHTS

COLOURS = {"pretrained": style.LOSS_COLOUR, "random": style.MUTED}
NAMES = {"pretrained": "pretrained", "random": "random copy"}
NOTHING = "no influence: its total over positions is 0, or not finite"
READING = (
    " The paper does not say its readout (the one number of the output whose gradient is taken), its norm, its special "
    "tokens or how the rest was chosen; what stands here is said below the figure, and the table of concentration has "
    "the others. Beside each model stands a copy with random weights: what it shows too was not learned."
)
"""What captions say of all these figures."""
CHARACTERS = 17.5
"""Of a legend's text, to an inch."""


class Subject(NamedTuple):
    """A model as a figure shows it."""

    name: str
    about: str
    """What stands under the name."""
    readout: str
    problem: str
    """What is wrong and why, instead of the model; empty where it was measured."""
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
        return Subject(name, "", shown.readout, "unavailable: the tables have no row of this model", {})
    own = of_model["pretrained"]
    paper = f"the paper's {PAPER_NAMES.get(own.paper, own.paper)}" if own.paper else "not one of the paper's models"
    about = "; ".join(part for part in (paper, own.remark) if part)
    if own.status != "measured":
        return Subject(name, about, shown.readout, f"{own.status}: {own.reason}", {})
    reasons = []
    for readout in dict.fromkeys((shown.readout, shown.fallback)):
        here = (measured["model"] == name) & (measured["inputs"] == shown.inputs) & (measured["readout"] == readout)
        cases = {row.weights: row for row in measured[here].itertuples(index=False)}
        if "pretrained" not in cases:
            reasons.append(f"not measured: the tables have no row of the {READOUTS[readout]}")
        elif cases["pretrained"].status != "measured":
            reasons.append(f"{cases['pretrained'].status.replace('_', ' ')}: {cases['pretrained'].reason}")
        else:
            words = {weights: cases[weights].status.replace("_", " ") for weights in WEIGHTS if weights in cases}
            words = {weights: "" if word == "measured" else word for weights, word in words.items()}
            return Subject(name, about, readout, "", words)
    return Subject(name, about, shown.readout, "; ".join(dict.fromkeys(reasons)), {})


def narrowed(table: Table, shown: Shown) -> Table:
    """The rows of the inputs and norm shown; `table` has the columns of schemas.pretrained.SITE."""
    return table[(table["inputs"] == shown.inputs) & (table["norm"] == shown.norm)]


def at(table: Table, subject: Subject, weights: str, **where: Any) -> Table:
    """The rows of a model's weights, with its readout, and with these values; `table` is `narrowed`."""
    for column, value in {"model": subject.name, "weights": weights, "readout": subject.readout, **where}.items():
        table = table[table[column] == value]
    return table


def position_axis(axes: Axes, n_positions: int) -> None:
    """Positions from 0, with ticks at both ends and a few between."""
    last = n_positions - 1
    ticks = [0, *(n_positions * part // 4 for part in (1, 2, 3)), last] if last >= 8 else range(n_positions)
    axes.set_xlim(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    axes.set_xticks(list(ticks))


def wrapped(text: str, width: float, max_lines: int = 4) -> str:
    """Text in lines of `width` inches, with an ellipsis where it is too long."""
    return textwrap.fill(text, int(width * CHARACTERS), max_lines=max_lines, placeholder=" …")


def head(axes: Axes, subject: Subject, width: float, entries: list[Line2D], first: bool = True) -> None:
    """Above a panel: the model's name, what it is and the readout where the panel is its `first`; entries below."""
    about = [subject.about] * first
    if first and not subject.problem:
        about.append(f"readout: {READOUTS[subject.readout]}")
    signs = [style.sign(wrapped(text, width), ls="") for text in about if text]
    name = wrapped(subject.name, 0.75 * width) if first else ""
    style.header(axes, name, [], signs + entries, fontsize=7.5, handlelength=1.0)


def notice(axes: Axes, reason: str, width: float, max_lines: int = 9) -> None:
    """A panel that says why nothing is in it; a reason of more than `max_lines` is cut there."""
    axes.set(xticks=[], yticks=[], facecolor="#F6F6F6")
    axes.minorticks_off()
    for spine in axes.spines.values():
        spine.set(visible=True, linestyle=(0, (4, 3)), color="#B5B5B5")
    look = {"ha": "center", "va": "center", "transform": axes.transAxes, "gid": "notice"}
    axes.text(0.5, 0.5, wrapped(reason, width, max_lines), color=style.WARNING, fontsize=7.5, **look)


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
        sizes = [f"{footers.span(own['n_tokens'])} tokens a sequence", f"{footers.span(own['n_sequences'])} sequences"]
    strange = own.loc[~own["text"].isin(style.KNOWN_TEXTS), "text"]
    if len(strange) and shown.inputs != "uniform":
        of_all = own["text"].nunique() == 1
        texts = [text if of_all else f"{text} ({', '.join(rows.index)})" for text, rows in strange.groupby(strange)]
        lines.append(f"Text: {'; '.join(texts)}.")
    lines.append(footers.sizes_text(sizes, spec.scale))
    style.footer(figure, lines, signs)
