"""The report's sections on time to target: effects, what they cost, the times, and how many seeds are needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nsbench.config.settled import settles_steps
from nsbench.report.pictures import Pictures
from nsbench.report.tables import (
    AGAINST,
    ARM,
    DIRECTIONS,
    PAIRS,
    REACHED,
    Cell,
    Column,
    Record,
    Split,
    confidence,
    number,
    probability,
    settled,
)

PARTS_OF_BUDGET = {"¼ of it": 0.25, "½": 0.5, "¾": 0.75, "all": 1.0}
"""Where the table of Kaplan-Meier shares reads the curves."""
STEPS = {-1: "fewer steps", 0: "steps open", 1: "more steps"}
WORK = {-1: "less work", 0: "work open", 1: "more work"}


def section(tables: dict[str, pd.DataFrame], split: Split, pictures: Pictures) -> dict[str, Any]:
    """Effects, costs, times and power of the analysis' tables, by name, as texts, with their two figures."""
    effects, power = tables["paired_effect"], tables["power"]
    asked = [f"{effect:g}%" for effect in sorted(power["effect_percent"].unique())]
    shown = [row for row in effects.to_dict("records") if not split.reason(row)]
    return {
        "effects": split(effects, EFFECTS, lambda row: DIRECTIONS[settles_steps(row)]),
        "confidence": confidence(effects),
        "costs": split(effects.assign(note=""), COSTS),
        "answer": _answer([(settles_steps(row), settled(row, "flops_ratio", 1.0)) for row in shown]),
        "arms": pictures.take("arms"),
        "times": split(tables["cells"].assign(note=""), TIMES),
        "waiting": split(_by_part(tables["kaplan_meier"]), WAITING),
        "curves": pictures.take("time_to_target"),
        "power": split(_powers(power), _power_columns(asked)),
        "wanted": "" if power.empty else f"{100 * power['power_wanted'].iloc[0]:g}%",
    }


def _ratio(name: str, shown: str) -> Column:
    """What an arm needs of something, relative to its baseline; coloured where that is settled."""
    column = Column(f"{shown}|arm / baseline", f"{{{name}_ratio:.2f}} ±")

    def cell(row: Record) -> Cell:
        side = settles_steps(row) if name == "steps" else settled(row, f"{name}_ratio", neutral=1.0)
        return column.cell(row)._replace(css=DIRECTIONS[side])

    return column._replace(form=cell)


def _settled(row: Record) -> str:
    """Whether fewer steps are less work."""
    steps, flops = settles_steps(row), settled(row, "flops_ratio", neutral=1.0)
    if math.isnan(row["steps_ratio"]):
        return "no run reached the target"
    return f"{STEPS[steps]}, {WORK[flops]}" if steps or flops else "open"


def _median(row: Record) -> tuple[str, str]:
    q25, q75 = row["q25_step"], row["q75_step"]
    quartiles = "" if math.isnan(q25) else f"{number(q25)} to {'late' if math.isnan(q75) else number(q75)}"
    if not math.isnan(row["median_step"]):
        return number(row["median_step"]), quartiles
    return "not reached" if row["n_reached"] else "none reached", quartiles


def _holm(row: Record) -> tuple[str, str]:
    return probability(row["p_holm"]), f"of {row['n_family']}" * bool(row["n_family"])


EFFECTS = [
    AGAINST,
    PAIRS,
    REACHED,
    Column("sooner|arm : baseline", "{n_arm_sooner} : {n_baseline_sooner}"),
    Column("fewer steps", "{fewer_steps_percent:+.1f}% ±", "n effect"),
    Column("faster by", "{faster_by_percent:+.1f}% ±", "n effect"),
    Column("p|permutation", "{p_value:p}|log-rank {p_logrank:p}"),
    Column("Holm's p|of comparisons", _holm),
]
COSTS = [
    AGAINST,
    PAIRS,
    _ratio("steps", "steps"),
    _ratio("flops", "FLOPs"),
    _ratio("seconds", "seconds"),
    Column("settled|steps, FLOPs", _settled, ""),
]
TIMES = [
    ARM,
    Column("reached|of runs", "{n_reached} / {n_seeds}|{reached_share_low:.0%} to {reached_share_high:.0%}"),
    Column("diverged|runs", "{n_diverged}"),
    Column("step|median", _median),
    Column("steps|range of reached", "{min_step} to {max_step}").where(lambda row: row["n_reached"]),
    Column("steps|restricted mean", "{restricted_mean_steps}"),
    Column("FLOPs|median", "{median_flops:.2e}"),
    Column("seconds|median", "{median_seconds:,.1f}"),
]
WAITING = [
    ARM,
    Column("budget|steps", "{budget}"),
    *(Column(head, f"{{at_{at}:.0%}} ±") for at, head in enumerate(PARTS_OF_BUDGET)),
]


def _by_part(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell with what its Kaplan-Meier curve says at parts of the budget."""
    found = []
    for _, curve in curves.groupby(["task", "variant", "arm"], sort=False):
        steps, budget = curve["step"].to_numpy(), curve["step"].max()
        row = curve[["task", "variant", "arm", "text", "note"]].iloc[0].to_dict() | {"budget": budget}
        for at, part in enumerate(PARTS_OF_BUDGET.values()):
            point = curve.iloc[max(int(np.searchsorted(steps, part * budget, side="right")) - 1, 0)]
            row |= {f"at_{at}": point["not_reached"], f"at_{at}_low": point["low"], f"at_{at}_high": point["high"]}
        found.append(row)
    return pd.DataFrame(found)


def _powers(power: pd.DataFrame) -> pd.DataFrame:
    """A row for each comparison with the rows for each effect asked about."""
    found = []
    for _, group in power.groupby(["task", "variant", "arm", "baseline", "text"], sort=False):
        of = group.sort_values("effect_percent").to_dict("records")
        notes = dict.fromkeys(part for row in of for part in row["note"].split("; ") if part)
        found.append(of[0] | {"of": of, "note": "; ".join(notes)})
    return pd.DataFrame(found)


def _power_columns(asked: list[str]) -> list[Column]:
    """The columns of the table of power; asked: the effects asked about."""
    seeds = Column("", "{n_seeds} ±")
    return [
        AGAINST,
        PAIRS,
        Column("spread", "{spread:.3f} ±"),
        Column("censored|runs", "{censored_share:.0%}"),
        *(
            Column(f"seeds for {effect}|fewer steps", lambda row, at=at: seeds.cell(row["of"][at]))
            for at, effect in enumerate(asked)
        ),
        Column(
            f"power now|for {', '.join(asked)}",
            lambda row: ", ".join(dict.fromkeys(number(found["power_now"], ".0%") for found in row["of"])),
        ),
    ]


def _answer(signs: list[tuple[int, int]]) -> str:
    """Whether fewer steps is less work, in a sentence; signs: what is settled of steps and FLOPs, -1 being fewer."""
    fewer = [flops for steps, flops in signs if steps < 0]
    if not fewer:
        return "No comparison shown here settles that an arm needs fewer steps." if signs else ""
    less, more = fewer.count(-1), fewer.count(1)
    needs = {count: "needs" if count == 1 else "need" for count in (less, more)}
    return (
        f"Of {len(signs)} comparisons shown here {len(fewer)} {'settles' if len(fewer) == 1 else 'settle'} that an arm "
        f"needs fewer steps. Of these {less} also {needs[less]} less work (FLOPs), {more} {needs[more]} more, and for "
        f"{fewer.count(0)} it is open."
    )
