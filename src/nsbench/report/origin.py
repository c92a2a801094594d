"""The report's last sections: what was run, by which rules, and what everything was made by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

import nsbench.report.rows as rows
from nsbench.report.split import Split
from nsbench.storage import provenance
from nsbench.storage.parquet import read_stamp


def section(
    cells: list[dict[str, Any]],
    runs: pd.DataFrame,
    split: Split,
    files: dict[str, Path],
    spec: str,
    digest: str,
) -> dict[str, Any]:
    """`grid`, `targets`, `provenance` and `files` as texts; `files` names the Parquet files that the page shows."""
    text_of = runs.groupby(["task", "variant"], sort=False)["text"].first()
    grid = pd.DataFrame({"cell": cells}).assign(
        **{name: [cell[name] for cell in cells] for name in ("task", "variant", "arm")},
        text=[text_of.get((cell["task"], cell["variant"]), "") for cell in cells],
    )
    return {
        "grid": split(grid, lambda row: rows.grid_row(row["cell"])),
        "targets": _targets(cells),
        "provenance": _provenance(provenance.stamp(spec, digest), own_runs(cells, runs), len(runs)),
        "files": [_made(name, read_stamp(path)) for name, path in files.items()],
    }


def own_runs(cells: list[dict[str, Any]], runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` without those that are in the grid under a further name (`nsbench.workflow.grid.Cell.shares`)."""
    names = ["task", "variant", "arm"]
    shared = {tuple(cell[name] for name in names) for cell in cells if cell.get("shares")}
    return runs[[key not in shared for key in runs[names].itertuples(index=False, name=None)]]


def duration(seconds: float) -> str:
    """Seconds as minutes, or hours from one on."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def _targets(cells: list[dict[str, Any]]) -> list[str]:
    """Each distinct target of the grid as a phrase, in grid order; variants with the same one together."""
    variants: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        held = rows.hold(cell["target"], cell["settings"]["training"]["eval_every_steps"])
        variants.setdefault((cell["task"], f"{rows.target(cell['target'])}, {held}"), []).append(cell["variant"])
    return [f"{task} / {', '.join(dict.fromkeys(names))}: {phrase}" for (task, phrase), names in variants.items()]


def _provenance(made: dict[str, str], runs: pd.DataFrame, n_named: int) -> list[tuple[str, str]]:
    """(what, value) of everything that identifies code, software and machines.

    runs: each run once; n_named: how many the grid has by name.
    """
    devices = runs["device"].value_counts(sort=False)
    texts = runs.loc[runs["text"] != "", "text"].value_counts(sort=False)
    seconds, flops = runs["seconds"].sum(), runs["flops"].sum()
    ended = f"{len(runs)} collected, {int((runs['status'] == 'diverged').sum())} diverged"
    n_stopped = int((runs["status"] == "stopped").sum())
    found = [
        ("commit of this page", made["commit"]),
        ("source digest of this page", made["source_digest"]),
        ("devices of training", "; ".join(f"{name}: {n} runs" for name, n in devices.items())),
        ("runs", f"{ended}, {n_stopped} stopped at their target" if n_stopped else ended),
        *_further_names(n_named - len(runs)),
        ("time in training steps", f"{seconds:,.0f} s over all runs ({duration(seconds)})"),
        ("work of training steps", f"{flops:.3g} FLOPs over all runs"),
    ]
    found += _records(runs)
    if len(texts):
        found.append(("text", "; ".join(f"{name}: {n} runs" for name, n in texts.items())))
    versions = [(key.removeprefix("version_"), value) for key, value in made.items() if key.startswith("version_")]
    return [*found, ("python", made["python"]), *versions]


def _further_names(count: int) -> list[tuple[str, str]]:
    what = f"{count}: baselines of a specification curve that differ in noise alone, trained and counted here once"
    return [("runs under a further name", what)] if count else []


def _records(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Where runs come from that were not trained in this folder, and what is missing of them."""
    recorded = runs[runs["record"] != ""]
    if recorded.empty:
        return []
    commits = recorded.groupby(["commit", "older_code"], sort=False).size()
    trained = [
        f"{commit}: {n} runs" + f" ({older} by other code than that of this page)" * bool(older)
        for (commit, older), n in commits.items()
    ]
    found = [
        ("runs from records", f"{len(recorded)} of {len(runs)}, from {recorded['record'].nunique()} files"),
        ("they were trained at", "; ".join(trained)),
    ]
    missing = recorded.loc[recorded["no_evaluation"] != "", "no_evaluation"].value_counts(sort=False)
    if len(missing):
        found.append(("without measures", "; ".join(f"{n} runs: {reason}" for reason, n in missing.items())))
    return found


def _made(name: str, stamp: dict[str, str]) -> tuple[str, str, str, str]:
    """A file: name, commit, source digest, device."""
    return name, *(stamp.get(key, "unknown") for key in ("commit", "source_digest", "device"))
