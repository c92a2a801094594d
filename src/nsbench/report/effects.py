"""The report's sections on time to target: effects, what they cost, the times, and which seeds to add."""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

import pandas as pd

from nsbench.config.settled import OPEN, settles_flops, settles_steps
from nsbench.config.wording import amount
from nsbench.figures.style import bound
from nsbench.report.pictures import Pictures
from nsbench.report.tables import (
    AGAINST,
    ARM,
    DIRECTIONS,
    NONE,
    PAIRS,
    REACHED,
    Cell,
    Column,
    Record,
    Split,
    confidence,
    number,
    ratio,
)

POWER = ["spread", "spread_low", "spread_high", "note"]
"""Columns of POWER that are the same for all effects and looks of a comparison."""


def section(tables: dict[str, pd.DataFrame], split: Split, pictures: Pictures) -> dict[str, Any]:
    """Effects, costs, times and seeds to add of the analysis' tables, by name, as texts, with their two figures."""
    effects, power = tables["paired_effect"], tables["power"]
    shown = [row for row in effects.to_dict("records") if not split.reason(row)]
    waiting = _to_add(effects, power)
    return {
        "effects": split(effects, EFFECTS, _class),
        "confidence": confidence(effects),
        "looks": _listed([f"{look:g}" for look in sorted(power["look"].unique())]),
        "false": f"{1 - effects.loc[effects['role'].isin(['primary', 'secondary']), 'confidence'].max():.2g}",
        "outcomes": _outcomes(shown),
        "costs": split(effects.assign(note=""), COSTS),
        "work": _work(shown),
        "arms": pictures.take("arms"),
        "times": split(tables["cells"].assign(note=""), TIMES),
        "curves": pictures.take("time_to_target"),
        "seeds": split(waiting, _seed_columns(power)),
        "spent": int((effects["role"].isin(["primary", "secondary"]) & (effects["outcome"] == OPEN)).sum())
        - len(waiting),
    }


def _class(row: Record) -> str:
    """The class of a row by its outcome."""
    return DIRECTIONS[settles_steps(row)] if settles_steps(row) or row["outcome"] == OPEN else "settled"


def _pairs(row: Record) -> tuple[str, str]:
    waiting = f"{number(row['n_waiting'])} {'waiting' if row['next_look'] else 'left over'}"
    return number(row["n_pairs"]), waiting * bool(row["n_waiting"])


def _percent(row: Record) -> tuple[str, str]:
    """The typical ratio by both conventions, in words."""
    at, side = bound(*(row[f"steps_ratio{end}"] for end in ("", "_low", "_high")))
    if not at > 0:
        return NONE, ""
    shares = {"% fewer": 1 - at, "% faster": 1 / at - 1}
    fewer, faster = (amount(100 * share, unit, -side, lambda one: f"{one:.1f}") for unit, share in shares.items())
    return fewer, faster


def _ratio(name: str, shown: str, settles: Any = None) -> Column:
    """What an arm needs of something, relative to its baseline; coloured where that is settled."""

    def cell(row: Record) -> Cell:
        first, small = ratio(row, f"{name}_ratio")
        return Cell(first, (small,), DIRECTIONS[settles(row)] if settles else "")

    return Column(f"{shown}|arm / baseline", cell)


def _median(row: Record) -> tuple[str, str]:
    q25, q75 = row["q25_step"], row["q75_step"]
    quartiles = "" if math.isnan(q25) else f"{number(q25)} to {'late' if math.isnan(q75) else number(q75)}"
    if not math.isnan(row["median_step"]):
        return number(row["median_step"]), quartiles
    return "not reached" if row["n_reached"] else "none reached", quartiles


EFFECTS = [
    AGAINST,
    Column("outcome|role", "{outcome}|{role}", "name effect"),
    Column("pairs|judged", _pairs),
    Column(REACHED.head, f"{REACHED.form}|sooner {{n_baseline_sooner}} : {{n_arm_sooner}}"),
    Column("typical ratio|of steps", lambda row: ratio(row, "steps_ratio"), "n effect"),
    Column("of means|of steps", "{restricted_mean_ratio:.2f}"),
    Column("steps|speed", _percent),
    Column("p|q", "{p_value:p}|{q_value:p}"),
]
COSTS = [
    AGAINST,
    PAIRS,
    _ratio("steps", "steps", settles_steps),
    _ratio("flops", "FLOPs", settles_flops),
    _ratio("seconds", "seconds"),
    Column("settled|steps", "{outcome}", "name"),
    Column("settled|FLOPs", "{flops_outcome}", "name"),
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


def _to_add(effects: pd.DataFrame, power: pd.DataFrame) -> pd.DataFrame:
    """Open comparisons that have a look to come, with the seeds up to it and, as `chances`, their rows of power by
    effect and look."""
    of_arm = dict(iter(power.groupby(["task", "variant", "arm"])))
    found = []
    for row in effects[(effects["outcome"] == OPEN) & (effects["next_look"] > 0)].to_dict("records"):
        rows = of_arm.get((row["task"], row["variant"], row["arm"]), power.iloc[:0])
        spread = rows[POWER].iloc[0].to_dict() if len(rows) else dict.fromkeys(POWER[:-1], math.nan) | {"note": ""}
        now = row["n_pairs"] + row["n_waiting"]
        chances = rows.set_index(["effect_percent", "look"]).to_dict("index")
        found.append({**row, **spread, "now": now, "add": row["next_look"] - now, "chances": chances})
    return pd.DataFrame(found, columns=[*effects.columns, *POWER[:-1], "now", "add", "chances"])


def _chance(row: Record, effect: float) -> tuple[str, str]:
    """The chance to settle an effect by the next look, and by the last, with their ends."""
    looks = [look for of, look in row["chances"] if of == effect]
    found = [row["chances"][effect, look] for look in dict.fromkeys((row["next_look"], *looks[-1:])) if look in looks]
    if math.isnan(sum(one["power"] for one in found)) or not found:
        return NONE, ""
    ends = (f"{number(100 * one['power_low'])} to {number(one['power_high'], '.0%')}" for one in found)
    return ", ".join(number(one["power"], ".0%") for one in found), ", ".join(ends)


def _seed_columns(power: pd.DataFrame) -> list[Column]:
    """The columns of the table of seeds to add."""
    return [
        AGAINST,
        Column("pairs|now", "{now}"),
        Column("next look|at pairs", "{next_look}"),
        Column("seeds|to add", "{add}", "n effect"),
        Column("spread|of log ratios", "{spread:.3f} ±"),
        *(
            Column(f"{effect:g}% fewer steps|by the next look, the last", functools.partial(_chance, effect=effect))
            for effect in sorted(power["effect_percent"].unique())
        ),
    ]


def _outcomes(rows: list[dict[str, Any]]) -> str:
    """What the comparisons settle, in a sentence."""
    counts = Counter(row["outcome"] for row in rows)
    n_open = counts.pop(OPEN, 0)
    parts = [f"{n} {'settles' if n == 1 else 'settle'} {found}" for found, n in sorted(counts.items())]
    parts += [f"{n_open} {'is' if n_open == 1 else 'are'} open"] * bool(n_open)
    return f"Of {len(rows)} comparison{'s' * (len(rows) != 1)} shown here {_listed(parts)}." if rows else ""


def _work(rows: list[dict[str, Any]]) -> str:
    """Whether fewer steps are less work, in a sentence."""
    fewer = [settles_flops(row) for row in rows if settles_steps(row) < 0]
    if not fewer:
        return "No comparison shown here settles that an arm needs fewer steps." if rows else ""
    less, more, neither = (fewer.count(side) for side in (-1, 1, 0))
    parts = [f"{less} {'settles' if less == 1 else 'settle'} less work (FLOPs)", f"{more} more", f"{neither} neither"]
    which = f"Of the {len(fewer)} comparisons" if len(fewer) > 1 else "Of the one comparison"
    return f"{which} shown here that {'settle' if len(fewer) > 1 else 'settles'} fewer steps {_listed(parts)}."


def _listed(parts: list[str]) -> str:
    """Some texts as a list in a sentence."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
