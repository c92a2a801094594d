"""Numbers of architectures and arms at matched points of training, from the tables on them (`schemas.matched`).

The setting that a claim is judged in is fixed here, before any run: the law that was measured first, training inputs,
and the matching that the claim names. Every other law, input and matching stands beside it, one changed at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from nsbench.analysis.matched import is_control
from nsbench.analysis.matched_effects import first_law, reference
from nsbench.analysis.statistics.intervals import typical
from nsbench.claims.evidence import ASIDE, BESIDE, COUNTS, MISSING, STAND_IN, Evidence, Finding, Missing
from nsbench.claims.registry import Parameters, claim_quantity
from nsbench.claims.training import SIZES
from nsbench.claims.variants import joined
from nsbench.config.cells import model_kind, of_baseline
from nsbench.schemas.matched import MATCHINGS

NOT_MEASURED = "token_sensitivity was not measured in it"
Cells = list[dict[str, Any]]


class OfTasks(Parameters):
    """The task of the paper that a claim is judged in, and what stands in for it where it cannot be had."""

    task: str
    stand_ins: list[str] = Field(default_factory=list)
    """Tasks of ours: evidence that does not count."""
    needs: str = ""
    """What the paper's task needs that is not everywhere."""


def of_tasks(evidence: Evidence, of: OfTasks, find: Callable[[str, Cells], list[Finding]]) -> list[Finding]:
    """What `find` finds in the task, and in those that stand in for it. Raises Missing where the grid has none."""
    found: list[Finding] = []
    for task in (of.task, *of.stand_ins):
        cells = [cell for cell in evidence.cells if cell["task"] == task]
        if cells and task == of.task:
            found += find(task, cells)
        elif cells:
            found += [replace(one, status=STAND_IN) if one.status == COUNTS else one for one in find(task, cells)]
    if not any(cell["task"] == of.task for cell in evidence.cells):
        why = f"no run of {of.task} is in the grid of the configuration" + f"; it needs {of.needs}" * bool(of.needs)
        if not found:
            raise Missing(why, "training")
        found.insert(0, Finding(of.task, status=MISSING, why=why, task=of.task))
    return found


def of_kind(cells: Cells, kind: str) -> Cells:
    """The baselines whose model is of a kind, in grid order; those of permuted labels left out."""
    return [cell for cell in of_baseline(cells) if model_kind(cell) == kind and not is_control(cell)]


class Ratio(OfTasks):
    """Other architectures beside the transformer."""

    against: list[str] = Field(min_length=1)
    """Kinds of model; of each the first variant counts."""
    matching: Literal[tuple(MATCHINGS)] = "train_accuracy"
    """Where in training they are compared."""


@claim_quantity("sensitivity_ratio", *SIZES, all_needed=True)
def _ratio(evidence: Evidence, of: Ratio) -> list[Finding]:
    """Token sensitivity of other architectures over the transformer's, typical pair of seeds; a finding for each.

    `margin_low` and `margin_high`: between which ratios it counts as none.
    """

    def find(task: str, cells: Cells) -> list[Finding]:
        table, found = evidence.table("matched_effect"), []
        law = first_law(table, task)
        first = reference(cells).get(task)
        for kind in of.against:
            variants = of_kind(cells, kind)
            if first is None or not variants:
                without = kind if first else "transformer"
                found.append(Finding(f"{task} / {kind}", status=MISSING, why=f"the grid has no {without} of it"))
                continue
            if not law:
                found.append(Finding(f"{task} / {kind}", status=MISSING, why=NOT_MEASURED))
                continue
            for place, cell in enumerate(variants):
                rows = table[(table["task"] == task) & (table["variant"] == cell["variant"])]
                rows = rows[(rows["arm"] == cell["arm"]) & rows["quantity"].str.startswith("sensitivity")]
                rows = rows[rows["matching"] != "equal_flops"]  # where baselines are at their end
                found += _settings(rows, cell, {"law": law, "matching": of.matching}, place > 0)
        return found

    return of_tasks(evidence, of, find)


def _settings(rows: pd.DataFrame, cell: dict[str, Any], chosen: dict[str, str], aside: bool) -> Iterator[Finding]:
    """The finding that decides, and those in which one choice is another."""
    chosen = {"quantity": "sensitivity", "split": "train"} | chosen
    for row in rows.to_dict("records"):
        other = [name for name, value in chosen.items() if row[name] != value]
        if len(other) > 1:
            continue
        beside = f" / {row[other[0]]}" if other else ""
        status = BESIDE if other or aside else COUNTS
        if status == COUNTS and not row["n_compared"]:
            status = ASIDE
        yield Finding(
            f"{cell['task']} / {cell['variant']}{beside}",
            *(row[f"effect{end}"] for end in ("", "_low", "_high")),
            n=row["n_compared"],
            n_unit="pairs",
            extras=dict(zip(SIZES, (1 / (1 + row["margin"]), 1 + row["margin"]), strict=True)),
            status=status,
            why=row["note"] if status == ASIDE else "",
            text=row["text"],
            note=joined(f"{row['law']}, {row['split']} inputs, {MATCHINGS[row['matching']]}", row["note"]),
            task=cell["task"],
            variant=cell["variant"],
        )


def _typical(evidence: Evidence, setting: str, changes: pd.Series, cell: dict[str, Any], **found: Any) -> Finding:
    """The typical one of some changes, a value per seed; missing ones are left out and said so."""
    known = changes.dropna()
    one = typical(known.to_numpy(float), "pairs", evidence.confidence)
    lost = f"{len(changes) - len(known)} of {len(changes)} pairs without a number" if len(known) < len(changes) else ""
    if not len(known) and found.get("status", COUNTS) == COUNTS:
        found |= {"status": ASIDE, "why": lost or "no seed in common"}
    note = joined(found.pop("note", ""), lost, *one.notes)
    about = {"n": len(known), "n_unit": "pairs", "task": cell["task"], "variant": cell["variant"]}
    return Finding(setting, *one[:3], **about, **found, note=note)


# --- by position, and by what a model follows ------------------------------------------------------------


def _at_end(evidence: Evidence, cell: dict[str, Any], measure: str, ending: str) -> pd.DataFrame:
    """A measure's rows of a cell at the end of its budget, whose reduction is whole `ending` (a regular expression)."""
    table = evidence.records("evaluation")
    here = (table["task"] == cell["task"]) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
    here &= (table["measure"] == measure) & (table["step"] == cell["budget_steps"])
    table = table[here]
    return table[table["reduction"].str.fullmatch(ending)]


@claim_quantity("position_slope")
def _position_slope(evidence: Evidence, of: OfTasks) -> list[Finding]:
    """By how much more sensitivity rises with the position in an LSTM than in the transformer, for each readout.

    A run's slope is that of the straight line through its sensitivity by position, over its mean, from the first
    position (0) to the last (1) that all seeds have; typical pair of seeds.
    """

    def slopes(cell: dict[str, Any]) -> pd.Series:
        rows = _at_end(evidence, cell, "token_sensitivity", r".*-train-position\d+")
        rows = rows.assign(position=rows["reduction"].str.extract(r"(\d+)$")[0].astype(float))
        wide = rows.pivot_table(index="seed", columns="position", values="value").dropna(axis=1)
        wide = wide[wide.mean(axis=1) > 0] if len(wide) else wide
        if wide.shape[1] < 3:
            return pd.Series(dtype=float)
        places = wide.columns.to_numpy(float)
        share = (places - places[0]) / (places[-1] - places[0])
        over_mean = wide.div(wide.mean(axis=1), axis=0)
        return pd.Series(np.polyfit(share, over_mean.to_numpy().T, 1)[0], wide.index)

    def find(task: str, cells: Cells) -> list[Finding]:
        first, lstms, found = reference(cells).get(task), of_kind(cells, "lstm"), []
        if first is None or not lstms:
            return [Finding(task, status=MISSING, why="the grid has no transformer and LSTM of it")]
        own = slopes(first)
        for cell in lstms:
            readout = cell["settings"]["model"].get("readout", "")
            changes = (slopes(cell) - own).reindex(own.index)
            note = f"{first['variant']}: {own.median():.2g}, LSTM: {(changes + own).median():.2g}" if len(own) else ""
            found.append(_typical(evidence, f"{task} / {cell['variant']}, reads {readout}", changes, cell, note=note))
        return found

    return of_tasks(evidence, of, find)


@claim_quantity("frequent_share", all_needed=True)
def _frequent_share(evidence: Evidence, task: str, against: list[str]) -> list[Finding]:
    """Share of swapped examples on which the transformer follows the frequent tokens, less another architecture's.

    At the end of training, typical pair of seeds; a finding for each kind of model in `against`.
    """

    def shares(cell: dict[str, Any]) -> pd.Series:
        return _at_end(evidence, cell, "swapped_accuracy", ".*").set_index("seed")["value"]

    def find(task: str, cells: Cells) -> list[Finding]:
        first, found = reference(cells).get(task), []
        for kind in against:
            others = of_kind(cells, kind)
            if first is None or not others:
                without = kind if first else "transformer"
                found.append(Finding(f"{task} / {kind}", status=MISSING, why=f"the grid has no {without} of it"))
                continue
            own, its = shares(first), shares(others[0])
            note = f"transformer: {own.median():.2g}, {kind}: {its.median():.2g}" if len(own) and len(its) else ""
            found.append(_typical(evidence, f"{task} / {kind}", own - its, others[0], note=note))
        return found

    return of_tasks(evidence, OfTasks(task=task), find)


# --- arms --------------------------------------------------------------------------------------------------


ARMS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "baseline": lambda arm: arm["kind"] == "baseline",
    "augmentation": lambda arm: arm["kind"] == "augmentation",
    "one_mse": lambda arm: arm["kind"] == "sensitivity" and arm["rho"] is None and arm["divergence"] == "mse_logits",
    "one_agreement": lambda arm: (
        arm["kind"] == "sensitivity" and arm["rho"] is None and arm["divergence"] != "mse_logits"
    ),
    "all_mse": lambda arm: (
        arm["kind"] == "sensitivity" and arm["rho"] is not None and arm["divergence"] == "mse_logits"
    ),
    "all_agreement": lambda arm: arm["kind"] == "noise_stability" and arm["orientation"] == 1,
}
"""What an arm is called here, by what is noised (one token, all) and how outputs are compared -> whether it is that."""
FACTORS = {
    "one token less all": ({"one_mse": 0.5, "one_agreement": 0.5, "all_mse": -0.5, "all_agreement": -0.5}),
    "MSE less agreement": ({"one_mse": 0.5, "all_mse": 0.5, "one_agreement": -0.5, "all_agreement": -0.5}),
}
"""The two factors of the two-by-two: what each of its arms weighs in their effect."""


class Gain(OfTasks):
    """The paper's regulariser beside other arms."""

    against: list[Literal[tuple(ARMS)]] = Field(min_length=1)
    """The arms that it is compared with: a setting each."""
    factors: bool = False
    """Whether the effects of the two-by-two's factors stand beside."""


@claim_quantity("regulariser_gain", all_needed=True)
def _gain(evidence: Evidence, of: Gain) -> list[Finding]:
    """Accuracy on corrupted images with the regulariser (one token, mean squared error of logits) less another arm's.

    In the transformer at the end of training, typical pair of seeds. Test accuracy, and what the baseline has at equal
    FLOPs, stand beside.
    """

    def find(task: str, cells: Cells) -> list[Finding]:
        first, table = reference(cells).get(task), evidence.table("matched_measure")
        group = [cell for cell in cells if first and cell["variant"] == first["variant"]]
        arms = {kind: next((cell for cell in group if fits(cell["arm_settings"])), None) for kind, fits in ARMS.items()}
        texts = table.loc[table["task"] == task, "text"]

        def values(kind: str, quantity: str, matching: str) -> pd.Series:
            cell = arms[kind]
            here = (table["task"] == task) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
            here &= (table["quantity"] == quantity) & (table["matching"] == matching)
            return table[here].set_index("seed")["value"]

        def one(label: str, weights: dict[str, float], quantity: str, matching: str, decides: bool) -> Finding:
            changes = sum(weight * values(kind, quantity, matching) for kind, weight in weights.items())
            setting = f"{task} / {label}" + f" / {quantity}" * (quantity != "corrupted_accuracy")
            setting += f" / {matching}" * (matching != "end")
            status = {} if decides else {"status": BESIDE}
            text = str(texts.iloc[0]) if len(texts) else ""
            return _typical(evidence, setting, changes, arms["one_mse"] or {}, text=text, **status)

        found = []
        for kind in of.against:
            lacks = [name for name in ("one_mse", kind) if arms[name] is None]
            if lacks or table[table["task"] == task].empty:
                why = f"the grid has no arm {' and '.join(lacks)} of the transformer" if lacks else NOT_MEASURED
                found.append(Finding(f"{task} / {kind}", status=MISSING, why=why))
                continue
            weights = {"one_mse": 1.0, kind: -1.0}
            for place, (quantity, matching) in enumerate(
                (
                    ("corrupted_accuracy", "end"),
                    ("corrupted_accuracy", "equal_flops"),
                    ("test_accuracy", "end"),
                )
            ):
                found.append(one(f"less {kind}", weights, quantity, matching, not place))
        if of.factors and all(arms[kind] for kind in FACTORS["one token less all"]):
            for label, weights in FACTORS.items():
                found += [one(label, weights, name, "end", False) for name in ("corrupted_accuracy", "test_accuracy")]
        return found

    return of_tasks(evidence, of, find)
