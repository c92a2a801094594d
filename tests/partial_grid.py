"""A tiny grid of made-up packs that carry what real ones carry, and the stages that report on the finished part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.cli import parser as cli
from nsbench.schemas.training import EVALUATION, FLOORS, HISTORY, RUN_STATE, RUNS
from nsbench.storage.parquet import read_table, write_table
from nsbench.storage.run_folder import order_key
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan, grid_cells
from tests.config.test_config import TINY, overlaid, place
from tests.synthetic_records import make_floors, make_records

PROJECT = Path(__file__).parents[1]
SCHEMAS = {"history": HISTORY, "runs": RUNS, "evaluation": EVALUATION}
BUDGET = 48
DIVERGED = ("sparse_parity", "noise_stability", 1)
"""Task, arm and seed of a run that ends early."""
Pack = tuple[str, str, str, str]


def tiny_plan(**changes: Any) -> Plan:
    """The tiny grid, a pack for each seed, each run long enough for curves."""
    values = overlaid(TINY) | {"theory": None, "pretrained": None, "runs_per_pack": 1} | changes
    for task in ("modular_addition", "sparse_parity", "next_token"):
        values = place(values, f"tasks.{task}.variants.tiny.training.steps", BUDGET)
    return Plan(load(values))


class PartialGrid:
    """The packs of a plan under `root`, of which any can be taken away."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        cells = grid_cells(plan.config)
        records: dict[str, list[pd.DataFrame]] = {name: [] for name in SCHEMAS}
        for cell in cells:
            lost = ((cell["arm"], DIVERGED[2]),) if (cell["task"], cell["arm"]) == DIVERGED[:2] else ()
            for name, table in make_records([cell], diverged=lost, every=4, text="made-up text").items():
                records[name].append(table)
        self.tables = {name: pd.concat(tables, ignore_index=True) for name, tables in records.items()}
        floors = make_floors(cells)
        for pack in plan.packs:
            self.write(pack)
        for task, variant, name in plan.datasets():
            of_data = floors[(floors["task"] == task) & (floors["variant"] == variant)]
            rows = of_data[of_data["seed"].isin(plan.seeds[name])].to_dict("records")
            stamp = {
                "spec": plan.dataset(task, variant, name),
                "source_digest": self.plan.code("dataset", task, variant),
            }
            write_table(root / "datasets" / task / variant / f"{name}.floors.parquet", rows, FLOORS, stamp)

    def path(self, pack: Pack, name: str) -> Path:
        return self.root.joinpath("packs", *pack) / f"{name}.parquet"

    def write(self, pack: Pack, names: tuple[str, ...] = tuple(SCHEMAS), **stamp: str) -> None:
        """Write files of a pack; stamp: what they say of their origin in place of what is right."""
        task, variant, arm, seeds = pack
        for name in names:
            rows = self.tables[name]
            cell = (rows["task"] == task) & (rows["variant"] == variant) & (rows["arm"] == arm)
            rows = rows[cell & rows["seed"].isin(self.plan.seeds[seeds])].to_dict("records")
            evaluated = name == "evaluation"
            spec = self.plan.evaluate(*pack) if evaluated else self.plan.train(*pack)
            code = self.plan.code("evaluate" if evaluated else "train", *pack[:3])
            right = {"spec": spec, "source_digest": code}
            write_table(self.path(pack, name), rows, SCHEMAS[name], right | stamp)

    def take_away(self, *packs: Pack) -> None:
        for pack in packs:
            shutil.rmtree(self.root.joinpath("packs", *pack))

    def begin(self, pack: Pack, share: float, digest_of: str = "") -> None:
        """Say in each run's folder how much of its training is done."""
        spec = json.loads(self.plan.train(*pack))
        for seed in self.plan.seeds[pack[-1]]:
            folder = self.root.joinpath("runs", *pack[:3], f"seed-{seed}")
            folder.mkdir(parents=True, exist_ok=True)
            order = order_key(spec, seed, digest_of or self.plan.code("train", *pack[:3]))
            (folder / "status.json").write_text(json.dumps({"order": order, "share": share}))

    # --- stages ---

    def finished(self, *more: str) -> int:
        """Exit status of `nsbench stage finished`."""
        out = ["--out", self._at("partial/finished.parquet"), "--missing", self._at("partial/missing.csv")]
        spec = self.plan.grid("runs_per_pack", "records", "text", "checkpoints", "evaluation")
        return cli.main(["stage", "finished", "--spec", spec, "--results", str(self.root), *out, *more])

    def states(self) -> pd.DataFrame:
        return read_table(self.root / "partial/finished.parquet", RUN_STATE)

    def report(self, tables_alone: bool = False, partial: bool = True, out: str = "partial") -> None:
        """Run what follows, each stage by its command; partial: of the finished part."""
        spec = self.plan.grid("analysis", "runs_per_pack", "records", "text", "checkpoints", "evaluation")
        common = ["--spec", spec]
        common += ["--finished", self._at("partial/finished.parquet")] if partial else []
        collected, tables, claims = self._at(f"{out}/collected"), self._at(f"{out}/tables"), self._at(out)
        read = ["--collected", collected, "--tables", tables]
        places = ["--packs", self._at("packs"), "--datasets", self._at("datasets")]
        pictures = self.root / out / "figures"
        # Of what shows no run, one part is not made yet, and one is made otherwise.
        aside = ["--theory", self._at("none/theory.parquet"), "--pretrained", self._at("none")]
        aside += ["--outdated", "pretrained"]
        calls = [
            ["collect", *common, *places, "--out", collected],
            ["analyse", *common, "--collected", collected, "--out", tables],
            ["claims", *common, "--claims", str(PROJECT / "claims.yaml"), *read, "--out", claims, *aside],
            ["figures", *common, "--results", self._at(out), "--out", str(pictures)],
            [
                *("report", *common, "--figures", str(pictures), *read, "--claims", claims),
                *("--out", self._at(f"{out}/report.html"), *aside[-2:]),
            ],
        ]
        for call in calls[:2] if tables_alone else calls:
            assert cli.main(["stage", *call]) == 0, call[0]

    def _at(self, place: str) -> str:
        return str(self.root / place)
