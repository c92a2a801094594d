"""Made-up folders that the ledger reads: training of all tasks, the theory, and pretrained models of the paper."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.claims.definitions import Claim, load_claims
from nsbench.claims.evidence import Evidence, Finding
from nsbench.claims.ledger import write_claims
from nsbench.claims.registry import QUANTITIES
from nsbench.claims.verdicts import judge
from nsbench.config.base import parse
from nsbench.config.theory import ExperimentSpec, Theory
from nsbench.schemas.pretrained import PAPER, TABLES
from nsbench.schemas.theory import THEORY
from nsbench.simulation.curves import compare, formulas
from nsbench.storage import parquet, provenance
from tests import synthetic_pretrained
from tests.synthetic_records import make_cells, make_records, swept, write_results
from tests.synthetic_theory import make

CLAIMS = Path(__file__).parents[2] / "claims.yaml"
STAMP = provenance.stamp("{}", "0")
EXPERIMENTS = ("attention", "patterns", "feed_forward", "recurrence", "relu", "transformer")


@functools.cache
def claims() -> dict[str, Claim]:
    """The claims of the paper by id."""
    return {claim.entry.id: claim for claim in load_claims(CLAIMS)}


def findings(evidence: Evidence, name: str, **parameters: Any) -> list[Finding]:
    """What a quantity finds."""
    return QUANTITIES[name].measure(evidence, parse(QUANTITIES[name].parameters, parameters))


def judged(evidence: Evidence, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ledger's row and evidence of a claim of the paper."""
    return judge(claims()[name], evidence)


def verdict(evidence: Evidence, name: str) -> str:
    return str(judged(evidence, name)[0]["verdict"])


class Folders(NamedTuple):
    """What `write_claims` is given."""

    tables: Path
    collected: Path
    cells: list[dict[str, Any]]
    theory: Path | None = None
    pretrained: Path | None = None

    def evidence(self, scale: str = "paper") -> Evidence:
        return Evidence(self.tables, self.collected, self.cells, scale, self.theory, self.pretrained)

    def write(self, out: Path, scale: str = "paper") -> None:
        write_claims(CLAIMS, self.evidence(scale), out, "{}", "digest")


def training_folder(
    folder: Path,
    cells: list[dict[str, Any]],
    rises: dict[str, dict[tuple[str, int], float]] | None = None,
    **settings: Any,
) -> Folders:
    """Tables and records of these cells; `rises` as of `make_records`, by variant; settings: of the analysis."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(cell["variant"], []).append(cell)
    made = [make_records(group, (rises or {}).get(name), text="WikiText-2") for name, group in groups.items()]
    write_results(folder, cells, {name: pd.concat([one[name] for one in made]) for name in made[0]}, **settings)
    return Folders(folder / "tables", folder / "collected", cells)


def theory_table(path: Path, **factors: float) -> Path:
    """theory.parquet of made-up points near the formulas; of an experiment in `factors` they are that much larger."""
    settings, tables = Theory(), []
    for experiment in EXPERIMENTS:
        own = getattr(settings, experiment)
        _, points, _ = make(experiment, own)
        spec = ExperimentSpec(experiment=experiment, seed=0, settings=own.model_dump())
        found = list(formulas(spec))
        for (reading, series), group in points.groupby(["reading", "series"]):
            names = (reading, series)
            right = [one for one in found if (one.reading, one.series) == names and one.status in ("exact", "limit")]
            if right:
                points.loc[group.index, "value"] = right[0].value(group["x"].to_numpy()) + 0.5 * group["standard_error"]
        points["value"] *= factors.get(experiment, 1.0)
        tables.append(compare(points, found).assign(experiment=experiment))
    parquet.write_table(path, pd.concat(tables, ignore_index=True), THEORY, STAMP)
    return path


def pretrained_folder(folder: Path, papers: dict[str, str], reason: str = "") -> Path:
    """Tables of pretrained models: name -> the model of the paper that it is, or empty.

    `reason`: why those of the paper are unavailable.
    """
    made = {
        name: synthetic_pretrained.Made(paper=paper, reason=reason if paper else "") for name, paper in papers.items()
    }
    synthetic_pretrained.write(synthetic_pretrained.make(made, n_tokens=64), folder)
    there = {name: paper for name, paper in papers.items() if not made[name].reason}
    rows = [row for name, paper in there.items() for row in _bounds(name, paper)]
    parquet.write_table(folder / "table_1.parquet", rows, TABLES["table_1"], STAMP)
    return folder


def _bounds(name: str, paper: str) -> list[dict[str, Any]]:
    """Rows of Table 1: stability's bound is half of influence's, which is 1.5 times the paper's; settled for logits."""
    influence = 1.5 * PAPER[paper][0] if paper else 0.03
    found = []
    for weights, readout, bound in itertools.product(
        ("pretrained", "random"), ("top_logit_last", "pooled_norm"), ("influence", "stability")
    ):
        published = PAPER[paper][bound == "stability"] if paper else np.nan
        value = influence / (2 if bound == "stability" else 1)
        row = {"model": name, "weights": weights, "inputs": "gaussian", "readout": readout, "bound_from": bound}
        row |= {"reading": "spectral" if bound == "influence" else "gaussian", "rho": np.nan, "degree": 15}
        row |= {"divided_by": "norm2", "proved": True, "value": value, "published": published}
        row |= {"standard_error": 0.1 * value, "upper": 1.2 * value, "ratio": value / published}
        over = (0.5, 0.4, 0.6 if readout == "top_logit_last" else 1.1) if bound == "stability" else (np.nan,) * 3
        ends = ("", "_low", "_high")
        found.append(row | {f"over_influence{end}": number for end, number in zip(ends, over, strict=True)})
    return found


def full_folders(folder: Path) -> Folders:
    """All that a ledger can be given: a grid of all tasks with the arms of the paper, the theory, and its models.

    The text has a sweep, and one protocol that leaks.
    """
    given: dict[str, Any] = {"seeds": (0, 1), "budget": 1500}
    text = ("baseline", *swept((0.25, 0.75), (0.05, 0.75)))
    leaks = {"windows_overlapping": ["shared text"]}
    cells = [
        *make_cells("modular_addition", ("as_published", "calibrated"), ("baseline", "gentle", "reversed"), **given),
        *make_cells("sparse_parity", arms=("baseline", *swept((0.05,), (0.05,))), **given),
        *make_cells("next_token", ("windows_causal", *leaks), text, threshold=0.25, leaks=leaks, **given),
    ]
    theory = theory_table(folder / "theory.parquet")
    pretrained = pretrained_folder(folder / "pretrained", {name: name for name in PAPER})
    return training_folder(folder, cells)._replace(theory=theory, pretrained=pretrained)
