"""What `nsbench.measure` found: three sentences, tables, a figure, a page."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from nsbench.analysis.statistics.signed_rank import typical_value
from nsbench.config.pretrained import PretrainedFigureSpec, Shown
from nsbench.figures.registry import FIGURES, caption
from nsbench.measures.estimate import LEAST_INPUTS
from nsbench.pretrained.sources import ModelError
from nsbench.report.page import environment
from nsbench.schemas.pretrained import PARTS, READOUTS
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import read_table

if TYPE_CHECKING:
    from nsbench.figures.annotations import Figure

FEW, SOME = 0.1, 0.25
"""Shares of the positions: half of the influence on no more is concentrated, or partly; equal influences need 0.5."""
CONFIDENCE = 0.95
NOT_SETTLED = "It is not settled whether it is"
STABLER = NOT_SETTLED + " stabler"
EXACT = 200
"""Sequences up to which differences are tested by exact signed ranks; of more, their mean is normal enough."""
COLUMNS = {
    "at least 0.1": ("n_large", "{:.0f}"),
    "hold half": ("n_half", "{:.0f}"),
    "none": ("n_zero", "{:.0f}"),
    "first": ("first_share", "{:.1%}"),
    "last": ("last_share", "{:.1%}"),
    "top 5": ("top_five_share", "{:.1%}"),
    "Gini": ("gini", "{:.2f}"),
}
"""Of the table of influences: title -> column of `concentration`, and how its numbers are written."""
CASE = ["weights", "inputs", "readout"]


class Measured:
    """A measured model: what `nsbench.measure` returns, or what the folder that it wrote has.

    `tables` has the tables of `nsbench.schemas.pretrained.PARTS` as data frames, by name. `shown` is what the sentences
    and the figure are of: the first kind of inputs, and the mean over positions of the top logit where there is one.
    """

    def __init__(self, folder: Path | str) -> None:
        """Raises RecordError for a file that is missing or damaged, ModelError where no readout was measured."""
        self.tables = {part: read_table(Path(folder) / f"{part}.parquet", PARTS[part]) for part in PARTS}
        cases = self.tables["measured"]
        first = cases[(cases["status"] == "measured") & (cases["inputs"] == cases["inputs"].iloc[0])]
        if first.empty:
            readouts = ", ".join(cases["readout"].unique())
            raise ModelError(f"none of the readouts {readouts} can be read off this model; add pooled_norm")
        there = list(first["readout"])
        readout = Shown().readout if Shown().readout in there else there[0]
        self.shown = Shown(readout=readout, fallback=readout, inputs=first["inputs"].iloc[0])

    def __str__(self) -> str:
        return self.summary()

    def summary(self, full: bool = False) -> str:
        """What was measured, warnings, and three sentences: is influence concentrated, more than in a random copy, and
        is the output stabler? full: all tables below.
        """
        lines = [*self._about(), "", *self.findings()]
        if full:
            lines += [*self._gaps(), *self._unknown()]
            for title, table in self._long().items():
                lines += ["", f"{title}:", table.to_string(index=False)]
        return "\n".join(lines)

    def findings(self) -> list[str]:
        """The three sentences, of the inputs and the readout of `shown`."""
        return [*self._concentration(), self._stability()]

    def to_pandas(self) -> pd.DataFrame:
        """Every estimate: weights, inputs, readout, quantity, rho, value, standard_error; NaN for what is not known.

        Quantities: noise and reduction of `tables["stability"]`; the total influence and the positions that hold half
        of it at the embeddings, by norm, the latter a mean over sequences.
        """

        stability, totals = self.tables["stability"], self.tables["concentration"]
        totals = totals[(totals["site"] == "embeddings") & (totals["of"] == "mean")]
        halves = self.tables["sequences"].groupby([*CASE, "norm"], sort=False)["n_half"].agg(["mean", "sem"])
        frames = (
            halves.reset_index().assign(quantity=lambda rows: "positions that hold half, " + rows["norm"]),
            totals.assign(quantity="total influence, " + totals["norm"]),
            stability.assign(quantity=stability["noise"] + " " + stability["reduction"]),
        )
        names = {"mean": "value", "sem": "standard_error"}
        names |= {"total": "value", "total_standard_error": "standard_error"}
        columns = [*CASE, "quantity", "rho", "value", "standard_error"]
        return pd.concat([frame.rename(columns=names).reindex(columns=columns) for frame in frames], ignore_index=True)

    def plot(self) -> Figure:
        """The influence of each position, the random copy behind: a matplotlib Figure (Figure 1 of the paper)."""
        drawing, models = FIGURES["figure_01"], list(self.tables["models"]["model"].unique())
        spec = PretrainedFigureSpec(models=models, figures=self.shown, scale="paper")
        return drawing(**{name: self.tables[name] for name in drawing.tables}, spec=spec, **drawing.options)

    def to_html(self, path: Path | str | None = None) -> str:
        """One page with the sentences, the figure and all tables, which opens offline; written to `path` if given."""
        picture = io.BytesIO()
        self.plot().savefig(picture, format="png", dpi=150)
        page = environment().get_template("measured.html.j2")
        text = page.render(
            claims=None,
            about=self._about(),
            findings=self.findings(),
            gaps=[*self._gaps(), *self._unknown()],
            picture=base64.b64encode(picture.getvalue()).decode(),
            caption=caption("figure_01")[1],
            tables=self._long(),
        )
        if path is not None:
            write_text(path, text)
        return text

    def _about(self) -> list[str]:
        """What was measured, and what to beware of."""
        first, rows = self.tables["models"].iloc[0], self.tables["influence"]
        remark = f"; {first.remark}" if first.remark else ""
        lines = [
            f"{first.model}: {first.architecture}, {first.kind}, {first.n_parameters / 1e6:.1f}M parameters{remark}",
            f"{first.n_sequences} sequences of {first.n_tokens} tokens of {first.text}, ± standard error over them",
            f"shown: {READOUTS[self.shown.readout]}; {self.shown.inputs}; {self.shown.norm} norm of the gradient",
        ]
        own, copy = (rows.loc[rows["weights"] == weights, "value"].to_numpy() for weights in ("pretrained", "random"))
        if own.size and own.size == copy.size and np.allclose(own, copy, rtol=1e-5, atol=0.0):
            lines.append("WARNING: the model equals its random copy: its weights are untrained")
        return lines

    def _concentration(self) -> list[str]:
        """Is influence concentrated, and more than in the copy?"""
        rows, shown = self.tables["sequences"], self.shown
        here = (rows["inputs"] == shown.inputs) & (rows["readout"] == shown.readout) & (rows["norm"] == shown.norm)
        by_sequence = rows[here].pivot(index="input", columns="weights", values="n_half")
        if "pretrained" not in by_sequence:
            return ["Influence is 0 at every position."]
        own, n_tokens = by_sequence["pretrained"].dropna(), int(self.tables["models"]["n_tokens"].iloc[0])
        low, high, _ = _interval(own)
        word = "It is not settled whether influence is concentrated"
        if high <= SOME * n_tokens:
            word = "Influence is concentrated" if high <= FEW * n_tokens else "Influence is partly concentrated"
        elif low > SOME * n_tokens:
            word = "Influence is not concentrated"
        found = [
            f"{word}: half of it lies on {_mean(own)} of {n_tokens} positions ({_ends(low, high, '.1f')}; up to "
            f"{FEW:.0%} of positions are few, up to {SOME:.0%} partly; equal influences need 50%)."
        ]
        if "random" not in by_sequence:
            return [*found, "Whether that was learned is not known: no random copy was measured."]
        paired = by_sequence.dropna()
        change = paired["random"] - paired["pretrained"]
        low, high, test = _interval(change)
        words = (f"{is_it} concentrated than" for is_it in ("It is more", "It is less", NOT_SETTLED + " more"))
        found.append(
            f"{_settled(low, high, *words)} in a random copy, where half lies on {_mean(paired['random'])} positions "
            f"(difference {change.mean():+.1f}, {_ends(low, high, '+.1f')}, {test})."
        )
        return found

    def _stability(self) -> str:
        """Is the output, or where there is none the readout, stabler than the copy's? At the first rho."""
        rows, shown = self.tables["stability"], self.shown
        rows = rows[rows["inputs"] == shown.inputs]
        answers = rows[(rows["reduction"] == "decision") & (rows["noise"] == "resampling")]
        if answers.empty:
            rows = rows[(rows["readout"] == shown.readout) & (rows["reduction"] == "pearson")]
            of_tokens = rows[rows["noise"] == "resampling"]
            rows, form, scale, signed = rows if of_tokens.empty else of_tokens, "{:.3f}", 1, "+.3f"
            what = f"correlation of {READOUTS[shown.readout]} with and without noise"
        else:
            rows, form, scale, signed = answers, "{:.1%}", 100, "+.1f"
            what = "positions at which the most likely output stays the same"
        rho, noise = rows["rho"].iloc[0], rows["noise"].iloc[0]
        found = rows[rows["rho"] == rho].set_index("weights")
        if found["value"].isna().any():
            return f"How stable it is is not known: {self._why_unknown()}."
        texts = dict(zip(found.index, _texts(found, form, form), strict=True))
        kind = f"{50 * (1 - rho):g}% of tokens redrawn" if noise == "resampling" else "Gaussian noise on embeddings"
        kind = f"{what}; ρ = {rho:g}, {kind}"
        if "random" not in found.index:
            return f"How stable it is: {texts['pretrained']} ({kind})."
        change = scale * (found.loc["pretrained", "value"] - found.loc["random", "value"])
        n_sequences = int(self.tables["models"]["n_sequences"].iloc[0])
        # The sum of two standard errors is no less than that of the difference, however the two go together.
        margin = scale * stats.t.ppf((1 + CONFIDENCE) / 2, n_sequences - 1) * found["standard_error"].sum()
        low, high = (change - margin, change + margin) if n_sequences >= LEAST_INPUTS else (math.nan, math.nan)
        narrower = "" if math.isnan(low) else " or narrower"
        words = (f"{is_it} than its random copy" for is_it in ("It is stabler", "It is less stable", STABLER))
        return (
            f"{_settled(low, high, *words)}: {texts['pretrained']} against {texts['random']} ({kind}; difference "
            f"{change:{signed}}, {_ends(low, high, signed)}{narrower})."
        )

    def _gaps(self) -> list[str]:
        """What could not be measured, and why."""
        rows = self.tables["measured"].drop_duplicates(["inputs", "readout", "status"])
        return [
            f"{row.readout} on {row.inputs}: {row.status} ({row.reason})"
            for row in rows.itertuples()
            if row.status != "measured"
        ]

    def _stabilities(self) -> pd.DataFrame:
        rows = self.tables["stability"]
        return rows[rows["reduction"].isin(["pearson", "probability_cosine", "decision"]) & rows["rho"].notna()]

    def _why_unknown(self) -> str:
        n_sequences = self.tables["models"]["n_sequences"].iloc[0]
        few = n_sequences < LEAST_INPUTS
        return f"{n_sequences} sequences; at least {LEAST_INPUTS} are needed" if few else "outputs do not vary"

    def _unknown(self) -> list[str]:
        rows = self._stabilities()
        names = rows.loc[rows["value"].isna(), "reduction"].unique()
        return [f"no {', '.join(names)} where it is not shown: {self._why_unknown()}"] if len(names) else []

    def _long(self) -> dict[str, pd.DataFrame]:
        """The long tables by title, numbers as texts."""
        influence, stability = self.tables["concentration"], self._stabilities().dropna(subset="value")
        here = (
            (influence["site"] == "embeddings") & (influence["norm"] == self.shown.norm) & (influence["of"] == "mean")
        )
        columns = {title: influence[here][name].map(form.format) for title, (name, form) in COLUMNS.items()}
        tables = {
            f"influence of positions ({self.shown.norm}), mean over sequences": influence[here][CASE].assign(**columns)
        }
        if len(stability):
            texts = stability.assign(
                measure=stability["noise"] + " " + stability["reduction"], value=_texts(stability, "{:.3f}", "{:.3f}")
            )
            wide = texts.pivot(index=[*CASE, "measure"], columns="rho", values="value")
            wide.columns = [f"ρ = {rho:.12g}" for rho in wide.columns]
            tables["noise stability ± standard error over sequences"] = wide.reset_index()
        replaced = self.tables["stability"]
        replaced = replaced[replaced["noise"] == "replacement"]
        if len(replaced):
            texts = replaced.assign(value=_texts(replaced, "{:.4g}", "{:.2g}"))
            title = "average sensitivity, one token replaced, summed over positions"
            tables[title] = texts[[*CASE, "reduction", "value"]]
        return tables


def _texts(rows: pd.DataFrame, form: str, of_error: str) -> pd.Series[str]:
    return rows["value"].map(form.format) + rows["standard_error"].map(f" ±{of_error}".format)


def _mean(values: pd.Series[Any]) -> str:
    return f"{values.mean():.1f} ± {values.sem():.1f}"


def _interval(values: pd.Series[Any]) -> tuple[float, float, str]:
    """Ends of the 95% interval of the typical value, NaN where there are too few; and in words the test of 0."""
    if len(values) <= EXACT:
        found = typical_value(values.to_numpy(float), CONFIDENCE)
        return found.low, found.high, f"{_p(found.p_value)}, signed-rank test"
    found = stats.ttest_1samp(values, 0.0)
    return *found.confidence_interval(CONFIDENCE), f"{_p(found.pvalue)}, t-test"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _ends(low: float, high: float, form: str) -> str:
    if math.isnan(low):
        return "too few sequences for an interval"
    return f"{CONFIDENCE:.0%} interval {low:{form}} to {high:{form}}"


def _settled(low: float, high: float, above: str, below: str, neither: str) -> str:
    return above if low > 0 else below if high < 0 else neither
