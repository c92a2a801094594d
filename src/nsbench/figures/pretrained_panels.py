"""What the figures of pretrained models share: which case a model shows, its panel's head, footers.

A model that cannot be shown gets a panel that says why.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea, VPacker

from nsbench.config.pretrained import PretrainedFigureSpec, Shown
from nsbench.figures import style
from nsbench.schemas.pretrained import WEIGHTS

COLOURS = {"pretrained": style.LOSS_COLOUR, "random": style.MUTED}
NAMES = {"pretrained": "pretrained", "random": "random copy"}
READOUTS = {
    "top_logit_last": "largest logit at the last position",
    "mean_top_logit": "mean over positions of the largest logit",
    "cross_entropy": "cross entropy",
    "pooled_norm": "norm of the mean hidden state",
}
NORMS = {
    "l1": "L1 norm of the gradient",
    "l2": "L2 norm of the gradient",
    "squared_l2": "squared L2 norm of the gradient",
}
INPUTS = {
    "text": "text",
    "uniform": "token ids drawn uniformly",
    "gaussian": "normal embeddings with the text's mean and scale",
}
OF_THE_PAPER = {"gpt2": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "gemma": "Gemma"}
NOTHING = ("no influence", "its total over positions is 0, or not finite")
INK = "#222222"
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


def subjects(models: pd.DataFrame, measured: pd.DataFrame, spec: PretrainedFigureSpec) -> list[Subject]:
    """Every model of the spec, in its order, with the readout that it is shown for.

    `models` and `measured` are of pretrained_records.MODEL and MEASURED. The readout is the spec's,
    or its fallback where that one does not apply to the model.
    """
    return [_subject(name, models[models["model"] == name], measured, spec.figures) for name in spec.models]


def _subject(name: str, models: pd.DataFrame, measured: pd.DataFrame, shown: Shown) -> Subject:
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
        case = cases.get("pretrained")
        if case is not None and case.status == "measured":
            found = {
                weights: "" if cases[weights].status == "measured" else cases[weights].status.replace("_", " ")
                for weights in WEIGHTS
                if weights in cases
            }
            return Subject(name, about, readout, ("", ""), found)
        word = case.status.replace("_", " ") if case is not None else word
        reasons.append(case.reason if case is not None else f"the tables have no row of the {READOUTS[readout]}")
    return Subject(name, about, shown.readout, (word, "; ".join(dict.fromkeys(reasons))), {})


def narrowed(table: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """The rows of the inputs and norm shown; `table` has the columns of pretrained_records.SITE."""
    return table[(table["inputs"] == shown.inputs) & (table["norm"] == shown.norm)]


def at(table: pd.DataFrame, subject: Subject, weights: str, site: str) -> pd.DataFrame:
    """The rows of a model's weights, with its readout, at one kind of site; `table` is `narrowed`."""
    rows = table
    for column, value in {"model": subject.name, "weights": weights, "readout": subject.readout, "site": site}.items():
        rows = rows[rows[column] == value]
    return rows


def position_axis(axes: Axes, n_positions: int) -> None:
    """Positions from 0, with ticks at both ends and a few between."""
    last = n_positions - 1
    ticks = [0, *(n_positions * part // 4 for part in (1, 2, 3)), last] if last >= 8 else range(n_positions)
    axes.set_xlim(-0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    axes.set_xticks(list(ticks))


def title(subject: Subject, width: float) -> list[HeadLine]:
    """A panel's head for `head`: name, what the model is and the readout, wrapped to `width` inches."""
    wide = int(width * _CHARACTERS)
    lines = [(part, INK, True) for part in textwrap.wrap(subject.name, int(wide * 0.75))]
    lines += [(part, INK, False) for part in textwrap.wrap(subject.about, wide, max_lines=4, placeholder=" …")]
    if not any(subject.problem):
        lines += [(part, INK, False) for part in textwrap.wrap(f"readout: {READOUTS[subject.readout]}", wide)]
    return lines


def head(axes: Axes, lines: list[HeadLine]) -> None:
    """Put lines above a panel."""
    block = VPacker(children=[_line(*line) for line in lines], pad=0, sep=1.5, align="left")
    where = {"bbox_to_anchor": (0.0, 1.0), "bbox_transform": axes.transAxes, "borderpad": 0.35}
    box = AnchoredOffsetbox("lower left", child=block, pad=0, frameon=False, **where)
    box.set(gid="head", clip_on=False)
    axes.add_artist(box)


def notice(axes: Axes, word: str, reason: str, width: float, max_lines: int = 9) -> None:
    """A panel that says why nothing is in it; a reason of more than `max_lines` is cut there."""
    axes.set(xticks=[], yticks=[], facecolor="#F6F6F6")
    axes.minorticks_off()
    for spine in axes.spines.values():
        spine.set(visible=True, linestyle=(0, (4, 3)), color="#B5B5B5")
    lines = textwrap.wrap(reason, int(width * (_CHARACTERS - 2)), max_lines=max_lines, placeholder=" …")
    texts = [_line(word, style.WARNING, True), *(_line(line, INK, False) for line in lines)]
    box = AnchoredOffsetbox("center", child=VPacker(children=texts, pad=0, sep=3, align="center"), frameon=False)
    box.set(gid="notice")
    axes.add_artist(box)


def _line(text: str, colour: str, bold: bool) -> TextArea:
    # Reasons name variables as $HF_TOKEN: dollars are no mathematics.
    looks = {"color": colour, "weight": "bold" if bold else "normal", "size": 9 if bold else 7.5, "parse_math": False}
    return TextArea(text, textprops=looks)


def foot(
    figure: Figure, what: str, models: pd.DataFrame, spec: PretrainedFigureSpec, signs: list[Line2D] | None = None
) -> None:
    """The key, and in words: readout, norm, inputs, special tokens, text, sizes and, where it is not the paper's,
    the scale."""
    shown = spec.figures
    readout = f"Readout: {READOUTS[shown.readout]}"
    if shown.fallback != shown.readout:
        readout += f" (of a model that has it not: {READOUTS[shown.fallback]})"
    lines = [what, f"{readout}. Norm: {NORMS[shown.norm]}. Inputs: {INPUTS[shown.inputs]}."]
    own = models[(models["weights"] == "pretrained") & (models["status"] == "measured")]
    own = own.drop_duplicates("model").set_index("model")
    own = own.loc[[name for name in spec.models if name in own.index]]
    if len(own):
        special = "; ".join(f"{name}: {count}" for name, count in own["n_special"].items())
        lines.append(f"Special tokens in each sequence of text – {special}.")
    strange = own.loc[~own["text"].isin(style.KNOWN_TEXTS), "text"]
    if len(strange) and shown.inputs != "uniform":
        of_all = own["text"].nunique() == 1
        texts = [text if of_all else f"{text} ({', '.join(rows.index)})" for text, rows in strange.groupby(strange)]
        lines.append(f"Text: {'; '.join(texts)}.")
    sizes = [_span(own[name], unit) for name, unit in (("n_tokens", "tokens"), ("n_sequences", "sequences"))]
    told = " a sequence, ".join(sizes) if len(own) else "no model was measured"
    start = "Sizes: " if spec.scale == "paper" else f"{spec.scale.upper()} SCALE, not the paper's setting: "
    lines.append(f"{start}{told}.")
    columns = max(1, min(len(signs or []), int(figure.get_figwidth() / 2.75)))
    style.footer(figure, lines, signs, n_columns=columns)


def _span(values: pd.Series, unit: str) -> str:
    ends = sorted({values.min(), values.max()}) if len(values) else []
    return f"{' to '.join(f'{value:,}' for value in ends)} {unit}"
