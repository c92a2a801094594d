"""Remarks below figures: what was run, which runs were stopped or left out, which arms were chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import nsbench.figures.comparison as comparison
from nsbench.config.cells import by_variant, swept
from nsbench.figures.annotations import Cells, Series, Table
from nsbench.figures.style import KNOWN_TEXTS, arm_text

DATA_SIGNS = {
    "modulus": "K = {}",
    "n": "n = {}",
    "k": "k = {}",
    "label_noise": "label noise {}",
    "n_symbols": "vocabulary of {}",
    "length": "{} tokens per example",
    "patch": "patches of {} pixels a side",
    "n_train": "{} training examples",
}
MOST_NAMED = 4
"""Arms that a remark names each by itself."""
MEDIANS_END = "the median ends with the first of an arm"


def remarks(
    times: Table,
    drawn: Cells,
    scale: str,
    cells: Cells | None = None,
    selections: Table | None = None,
    stopped: str = MEDIANS_END,
) -> list[str]:
    """A footer's last lines: runs that were stopped, arms that were chosen, the text where it is not WikiText-2 under
    its own splits, and the scale.

    times: `schemas.training.TIME_TO_TARGET`; cells, selections: what the cells `drawn` were chosen from; stopped: what
    the end of a stopped run means here, empty where it means nothing.
    """
    lines = []
    found = _counted(drawn, [comparison.of_cell(times, cell)["status"] == "stopped" for cell in drawn])
    if found and stopped:
        lines.append(f"Ended early by training.stop: {found.format('stopped at their target')}; {stopped}.")
    if cells is not None and selections is not None:
        lines += choice_lines(cells, drawn, selections)
    return [*lines, *text_lines(times, drawn), scale_text(drawn, scale)]


def arms_text(cells: Cells) -> str:
    """The arms of cells with their settings, each once."""
    return f"Arms: {'; '.join(dict.fromkeys(map(arm_text, cells)))}."


def text_lines(table: Table, cells: Cells) -> list[str]:
    """What the data were cut from, where it is not WikiText-2; `table` has a column `text` beside those of a cell."""
    texts = dict.fromkeys(text for cell in cells for text in comparison.of_cell(table, cell)["text"].unique())
    labels = [text for text in texts if text not in KNOWN_TEXTS]
    return [f"Data: {'; '.join(labels)}."] if labels else []


def scale_text(cells: Cells, scale: str) -> str:
    """What was run and, where that is not all of it or the scale is not the paper's, that it is not."""
    data = [cell.get("settings", {}).get("data", {}) for cell in cells]
    found = {name: [one[name] for one in data if name in one] for name in DATA_SIGNS}
    parts = [sign.format(span(found[name])) for name, sign in DATA_SIGNS.items() if found[name]]
    parts.append(f"{span([len(cell['seeds']) for cell in cells])} seeds per arm")
    parts.append(f"budget {span([cell['budget_steps'] for cell in cells])} steps")
    part = cells[0].get("partial", "")
    return (f"PARTIAL: {part}, more may change this. " if part else "") + sizes_text(parts, scale)


def sizes_text(sizes: list[str], scale: str) -> str:
    """Sizes in a sentence and, where the scale is not the paper's, that it is not."""
    if scale == "paper":
        return f"Sizes: {', '.join(sizes)}." if sizes else ""
    return f"{scale.upper()} SCALE, not the paper's setting{': ' if sizes else ''}{', '.join(sizes)}."


def span(values: Any) -> str:
    """The least and the largest of some numbers, `10 to 20`; one where they are the same."""
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


def interval_text(confidences: Iterable[float]) -> str:
    """The kind of interval that tables with these levels have, as `95%`."""
    return " or ".join(f"{100 * level:g}%" for level in sorted(set(confidences))) or "confidence"


def choice_lines(cells: Cells, drawn: Cells, selections: Table) -> list[str]:
    """Which regularised arms are `drawn` of all `cells`; none where all are."""
    drawn_of = by_variant(drawn)
    counts: dict[str, set[int]] = {}
    for name, group in by_variant(cells).items():
        n_arms = len(swept(group))
        if len(swept(drawn_of.get(name, []))) < n_arms:
            why = "the first."
            if comparison.selected(group, selections):
                why = "the one that the validation data of all seeds select. That flatters it; choosing on other seeds "
                why += "(leave one out) does not."
            counts.setdefault(why, set()).add(n_arms)
    return [
        f"Of {' or '.join(map(str, sorted(found)))} regularised arms with S = 1 a panel shows {why}"
        for why, found in counts.items()
    ]


def _counted(cells: Cells, chosen: list[Series]) -> str:
    """How many of the cells' runs are chosen, and of which arms, `2 of 8 runs {} (gentle 2)`; empty: none."""
    arms: dict[str, int] = {}
    for cell, here in zip(cells, chosen, strict=True):
        arms[cell["arm"]] = arms.get(cell["arm"], 0) + int(here.sum())
    counts = [f"{arm} {count}" for arm, count in arms.items() if count]
    named = ", ".join(counts) if len(counts) <= MOST_NAMED else f"of {len(counts)} arms"
    return f"{sum(arms.values())} of {sum(map(len, chosen))} runs {{}} ({named})" if counts else ""
