"""The report: one self-contained HTML page with figures, tables, rules and provenance.

No script, nothing loaded from elsewhere, no date: the same results give the same page.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nsbench import pretrained_rows, provenance, report_rows, table_1_rows
from nsbench.figures import comparison, style
from nsbench.figures.captions import caption
from nsbench.figures.curves import LEAK
from nsbench.figures.pretrained import FIGURES as PRETRAINED_FIGURES
from nsbench.figures.theory import FIGURES as THEORY_FIGURES
from nsbench.onsets import EARLY_RANK, LEAD_LAG
from nsbench.pretrained_records import TABLES as PRETRAINED_TABLES
from nsbench.records import HISTORY, RUNS, read_stamp, read_table, write_text
from nsbench.scores import SCORE, SCORE_EFFECT, by_variant
from nsbench.selection import SELECTION
from nsbench.statistics import CELL_SUMMARY, PAIRED_EFFECT
from nsbench.theory_records import THEORY

TEMPLATE = Path(__file__).with_name("report.html.j2")
TABLES = {
    "cells": CELL_SUMMARY,
    "paired_effect": PAIRED_EFFECT,
    "score": SCORE,
    "score_effect": SCORE_EFFECT,
    "selection": SELECTION,
    "lead_lag": LEAD_LAG,
    "early_rank": EARLY_RANK,
}
"""The tables that the page reads, and their schemas."""
COUNTED = {
    "all": "All targets",
    "unpadded": "Targets that are no padding",
    "known": "Targets that are neither padding nor the unknown word",
}


def write_report(
    out: Path | str,
    figures: list[Path],
    tables_folder: Path | str,
    collected_folder: Path | str,
    cells: list[dict[str, Any]],
    scale: str,
    spec: str,
    digest: str,
    theory_table: Path | str | None = None,
    pretrained_tables: Path | str | None = None,
) -> None:
    """Write the page to `out`, whole or not at all, with the PNG `figures` in the order given.

    Reads TABLES, `history` and `runs` of the collected records, the theory's table, and the folder with the
    tables of pretrained models, each where it is given: figures of the last two stand with them. Raises
    records.RecordError for a missing table, FileNotFoundError for a missing figure.
    """
    collected = Path(collected_folder)
    tables = {name: read_table(Path(tables_folder) / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    runs = read_table(collected / "runs.parquet", RUNS)
    history = read_table(collected / "history.parquet", HISTORY)
    split = _Split(cells, tables["selection"])
    text_of = runs.groupby(["task", "variant"], sort=False)["text"].first()
    grid = pd.DataFrame({"cell": cells}).assign(
        **{name: [cell[name] for cell in cells] for name in ("task", "variant", "arm")},
        text=[text_of.get((cell["task"], cell["variant"]), "") for cell in cells],
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        scale=scale,
        overview=_overview(cells, runs, history),
        effects=split(tables["paired_effect"], report_rows.effect),
        effects_confidence=_confidence(tables["paired_effect"]),
        summary=split(tables["cells"], report_rows.summary),
        scores=_scores(tables["score"], split),
        sweep=_sweep(tables["selection"], tables["score_effect"], split),
        onsets=_onsets(tables["lead_lag"], tables["early_rank"], split),
        grid=split(grid, lambda row: report_rows.grid_row(row["cell"])),
        targets=_targets(cells),
        figures=[
            _figure(Path(path)) for path in figures if Path(path).stem not in {*THEORY_FIGURES, *PRETRAINED_FIGURES}
        ],
        theory=_theory(theory_table, figures),
        pretrained=_pretrained(pretrained_tables, figures),
        provenance=_provenance(provenance.stamp(spec, digest), read_stamp(collected / "runs.parquet"), runs),
        spec=spec,
    )
    write_text(out, page)


class _Split:
    """Makes a table's rows texts, and sets apart those of a sweep's arms that nothing selected."""

    def __init__(self, cells: list[dict[str, Any]], selections: pd.DataFrame) -> None:
        groups = by_variant(cells)
        self.leaks = {name: [LEAK + leak for leak in group[0]["leaks"]] for name, group in groups.items()}
        self.shown = {
            (*name, cell["arm"]) for name, group in groups.items() for cell in comparison.shown(group, selections)
        }

    def __call__(self, table: pd.DataFrame, texts: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """`shown` and `folded` rows, in order, and the `labels` of texts that are not the paper's.

        `table` has task, variant and text, and may have arm.
        """
        found: dict[str, Any] = {"shown": [], "folded": []}
        for row in table.to_dict("records"):
            name = (row["task"], row["variant"])
            place = "shown" if "arm" not in row or (*name, row["arm"]) in self.shown else "folded"
            found[place].append({"note": "", "leaks": self.leaks.get(name, []), **texts(row)})
        strange = table[~table["text"].isin(style.KNOWN_TEXTS)]
        tasks = strange.groupby("text", sort=False)["task"].unique()
        found["labels"] = [f"Text: {text} (rows of {', '.join(names)})." for text, names in tasks.items()]
        return found


def _overview(cells: list[dict[str, Any]], runs: pd.DataFrame, history: pd.DataFrame) -> list[tuple[str, str]]:
    """The page's key numbers: (number, what it counts)."""
    diverged = int((runs["status"] == "diverged").sum())
    hours = runs["seconds"].sum() / 3600
    return [
        (f"{len({(cell['task'], cell['variant']) for cell in cells})}", "variants of tasks"),
        (f"{len(cells)}", "cells (task × variant × arm)"),
        (f"{sum(len(cell['seeds']) for cell in cells)}", "runs in the grid"),
        (f"{diverged}", "of them diverged"),
        (f"{len(history):,}", "evaluations"),
        (f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min", "in training steps, over all runs"),
    ]


def _confidence(table: pd.DataFrame) -> str:
    """The confidence of a table's intervals."""
    return f"{100 * table['confidence'].iloc[0]:g}%" if len(table) else ""


def _scores(table: pd.DataFrame, split: _Split) -> list[tuple[str, dict[str, Any]]]:
    """(title, rows) for each kind of targets, of the tasks that have floors; a kind that counts the same
    targets as the one before is left out."""
    with_floors = table[table["task"].isin(table.loc[table["commonest_accuracy"].notna(), "task"])]
    counts = with_floors.pivot(index=["task", "variant", "arm"], columns="targets", values="n_targets")
    found, before = [], None
    for kind, title in COUNTED.items():
        if kind in counts and (before is None or not counts[kind].equals(counts[before])):
            found.append((title, split(with_floors[with_floors["targets"] == kind], report_rows.score)))
            before = kind
    return found


def _sweep(selections: pd.DataFrame, effects: pd.DataFrame, split: _Split) -> dict[str, Any]:
    """The choices of each sweep, and what every arm of it changes in the scores."""
    swept = pd.MultiIndex.from_frame(selections[["task", "variant"]])
    here = effects[pd.MultiIndex.from_frame(effects[["task", "variant"]]).isin(swept)]
    return {
        "choices": split(selections, report_rows.choice),
        "effects": split(here, report_rows.score_effect),
        "criterion": "; ".join(selections["criterion"].unique()),
        "confidence": _confidence(selections),
    }


def _onsets(leads: pd.DataFrame, ranks: pd.DataFrame, split: _Split) -> dict[str, Any]:
    """Which curve moves first in a run, and which early value tells how runs end."""
    return {
        "leads": split(leads, report_rows.lead),
        "ranks": split(ranks, report_rows.rank),
        "share": f"{100 * leads['share'].iloc[0]:g}%" if len(leads) else "",
        "confidence": _confidence(leads),
    }


def _targets(cells: list[dict[str, Any]]) -> list[str]:
    """Each distinct target of the grid as a phrase, in grid order."""
    phrases = []
    for cell in cells:
        target = cell["target"]
        hold = target["hold_evaluations"]
        held = f"held for {hold} evaluations in a row" if hold > 1 else "at one evaluation"
        phrases.append(f"{cell['task']} / {cell['variant']}: {report_rows.target(target)}, {held}")
    return list(dict.fromkeys(phrases))


def _theory(table_file: Path | str | None, figures: list[Path]) -> dict[str, Any]:
    """Rows that say how each formula fits the simulation, by what the formula is to it, and the figures."""
    if table_file is None:
        return {}
    table = read_table(table_file, THEORY)
    named = {experiment: name for name, experiment in THEORY_FIGURES.items()}

    def rows(*statuses: str) -> list[dict[str, Any]]:
        groups = table[table["status"].isin(statuses)].groupby(
            ["experiment", "reading", "formula", "status"], sort=False
        )
        return [
            {"figure": named[key[0]], "reading": key[1], "formula": key[2], "status": key[3]}
            | report_rows.formula(group)
            for key, group in groups
        ]

    bounds = table[table["status"].isin(("lower", "upper"))].groupby(["reading", "formula"], sort=False)
    return {
        "right": rows("exact", "limit"),
        "printed": rows("published", "approximation"),
        "bounds": [{"reading": key[0], "formula": key[1]} | report_rows.bounds(group) for key, group in bounds],
        "figures": [_figure(Path(path)) for path in figures if Path(path).stem in THEORY_FIGURES],
    }


def _pretrained(folder: Path | str | None, figures: list[Path]) -> dict[str, Any]:
    """The rows of pretrained models, and their figures."""
    if folder is None:
        return {}
    # The influences are for the figures alone.
    tables = {
        name: read_table(Path(folder) / f"{name}.parquet", schema)
        for name, schema in PRETRAINED_TABLES.items()
        if name != "pretrained_influence"
    }
    rows = pretrained_rows.Rows(tables["pretrained_models"], tables["pretrained_measured"])
    return {
        **pretrained_rows.section(rows, tables),
        **table_1_rows.section(rows, tables["table_1"]),
        "figures": [_figure(Path(path)) for path in figures if Path(path).stem in PRETRAINED_FIGURES],
    }


def _figure(path: Path) -> dict[str, str]:
    """A figure with its caption, its image as base64 text."""
    title, text = caption(path.stem)
    return {"name": path.stem, "title": title, "caption": text, "data": base64.b64encode(path.read_bytes()).decode()}


def _provenance(made: dict[str, str], collected: dict[str, str], runs: pd.DataFrame) -> list[tuple[str, str]]:
    """(what, value) of everything that identifies code, software and machines."""
    devices = runs["device"].value_counts(sort=False)
    texts = runs.loc[runs["text"] != "", "text"].value_counts(sort=False)
    rows = [
        ("commit of this page", made["commit"]),
        ("commit of the collected records", collected.get("commit", "unknown")),
        ("source digest of this page", made["source_digest"]),
        ("source digest of the collected records", collected.get("source_digest", "unknown")),
        ("devices of training", "; ".join(f"{name}: {n} runs" for name, n in devices.items())),
        ("runs", f"{len(runs)} collected, {int((runs['status'] == 'diverged').sum())} diverged"),
        ("python", made["python"]),
    ]
    if len(texts):
        rows.insert(-1, ("text", "; ".join(f"{name}: {n} runs" for name, n in texts.items())))
    versions = [(key.removeprefix("version_"), value) for key, value in made.items() if key.startswith("version_")]
    return rows + versions
