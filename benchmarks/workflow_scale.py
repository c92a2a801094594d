"""What a large grid costs before and after its training: planning, a call that has nothing to do, collecting.

    python benchmarks/workflow_scale.py [--parts parse plan noop collect analyse] [--grids paper synthetic]

Prints a table: seconds by the clock, processor seconds (user and system, with all child processes; other work on the
machine disturbs these least), and the peak of memory, summed over the processes of the tree (shared pages count more
than once). Targets stand beside; `plan` has one core and everything else two.

The synthetic grid is config.yaml with another `grid`: variants of modular addition x 2 arms x 5 seeds, in packs of
five, a data set for each variant.

parse: read the Snakefile and expand the grid, which every job on a cluster does for itself, twice (--list-rules).
plan: a dry run in a folder without results.
noop: a dry run, and a run, where all results are there: files without content, since a call that has nothing to do
    reads none, which Snakemake has recorded as made by its jobs (`--touch`). Then it is shown that the call really
    compares: a setting, a rule's command, the contents of a data set and a seed are changed in turn, and each time
    the plan must have the jobs that depend on it.
collect: `nsbench stage collect` of invented packs, a history of 1,000 rows for each run. analyse: `nsbench stage
    analyse` of what that made, with config.yaml's bootstrap.

All is in a temporary folder that is removed; --folder takes one that is kept, and goes on with what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from nsbench.schemas.training import EVALUATION, FLOORS, HISTORY, RUNS
from nsbench.storage.parquet import write_table
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan, digest

PROJECT = Path(__file__).parents[1]
PARTS, GRIDS = ("parse", "plan", "noop", "collect", "analyse"), ("paper", "synthetic")
SEEDS, LEARNING_RATES = 5, 25
RUNS_PER_SIZE = 2 * SEEDS * LEARNING_RATES
"""Runs for each size of the training set: two arms, five seeds, and 25 learning rates."""
ROWS = 1000
CHECKPOINTS = 21
MEASURES = [(name, kind) for name in ("test_accuracy", "test_loss") for kind in ("all", "unpadded", "known")]


class Measured(NamedTuple):
    """What a command took: seconds by the clock and of processors, the peak of memory in MB, and what it said."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    said: str


def measured(command: list[str], folder: Path, cores: int = 2) -> Measured:
    """Run a command on so many cores. Raises RuntimeError with its last words where it fails."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    source = str(Path(sys.modules["nsbench"].__file__).parents[1])
    searched = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = psutil.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": source, "PATH": searched},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        peak = 0
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, memory(process))
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        output.seek(0)
        said = output.read()
    if status:
        raise RuntimeError(f"{' '.join(command)[:200]}: failed\n{said[-3000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss * 1024) / 1e6, said)


def memory(process: psutil.Process) -> int:
    """Bytes that a process and its children hold in memory."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


def show(what: str, limit: str, found: Measured) -> None:
    """One line of the table."""
    numbers = f"{found.seconds:.1f} | {found.processor_seconds:.1f} | {found.peak_mb:,.0f}"
    print(f"| {what} | {limit} | {numbers} |", flush=True)


def settings(grid: str, n_runs: int) -> dict:
    """config.yaml's, or those of the synthetic grid."""
    values = yaml.safe_load((PROJECT / "config.yaml").read_text(encoding="utf-8"))
    if grid == "synthetic":
        sweep = {
            "optimizer.learning_rate": [round(1e-4 * (place + 1), 6) for place in range(LEARNING_RATES)],
            "data.n_train": [1000 + 50 * place for place in range(n_runs // RUNS_PER_SIZE)],
        }
        arms, seeds = ["baseline", "noise_stability"], list(range(SEEDS))
        block = {"task": "modular_addition", "variants": ["calibrated"], "sweep": sweep, "arms": arms, "seeds": seeds}
        values["grid"] = [block]
    return values


def prepare(folder: Path, values: dict) -> None:
    """The workflow in `folder`, as it is now; results that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "claims.yaml"):
        shutil.copy2(PROJECT / name, folder / name)
    for name in ("workflow", "profiles"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(PROJECT / name, folder / name)
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def snakemake(folder: Path, *options: str, cores: int = 2) -> Measured:
    """A call of Snakemake."""
    command = [sys.executable, "-m", "snakemake", "--cores", "16", "--resources", "gpu=16", *options]
    return measured(command, folder, cores)


def planned(said: str) -> dict[str, int]:
    """The jobs of a dry run, by rule."""
    table = said.rsplit("Job stats:", 1)[1] if "Job stats:" in said else ""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


@contextlib.contextmanager
def changed(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """A text file with other contents, for a while; then as it was, its time included."""
    text, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(change(text), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def show_triggers(folder: Path, values: dict) -> None:
    """Change what jobs depend on, one thing at a time. Raises RuntimeError where a change goes unseen."""
    plan = Plan(load(values))
    task, variant, _, pack = plan.packs[0]
    n_of_data = sum((task, variant, pack) == (found[0], found[1], found[3]) for found in plan.packs)
    n_packs = len(plan.packs)
    config, data = folder / "config.yaml", folder / f"results/datasets/{task}/{variant}/{pack}.safetensors"

    def with_setting(text: str) -> str:
        found = yaml.safe_load(text)
        return yaml.safe_dump({**found, "evaluation": {**found["evaluation"], "n_draws": 7}}, sort_keys=False)

    def with_seed(text: str) -> str:
        found = yaml.safe_load(text)
        found["grid"][0]["seeds"] = [*found["grid"][0].get("seeds", found["seeds"]), 1000]
        return yaml.safe_dump(found, sort_keys=False)

    n_more = len({*Plan(load(yaml.safe_load(with_seed(config.read_text())))).packs} - {*plan.packs})
    for what, path, change, rule, count in (
        ("a measure's setting", config, with_setting, "evaluate_pack", n_packs),
        ("a seed more", config, with_seed, "train_pack", n_more),
        ("the command of training", folder / "workflow/rules/train.smk", command_edited, "train_pack", n_packs),
        (f"{task} / {variant} / {pack}: its data", data, lambda _: "other", "train_pack", n_of_data),
    ):
        with changed(path, change):
            found = planned(snakemake(folder, "--dry-run").said)
        if found.get(rule) != count:
            raise RuntimeError(f"{what} changed: {found.get(rule, 0)} jobs of {rule} are planned, not {count}")
        print(f"  changed {what}: {found['total']:,} jobs, {count:,} of them {rule}", flush=True)


def command_edited(text: str) -> str:
    return text.replace('"nsbench stage train', '"nsbench  stage train', 1)


def show_noop(grid: str, folder: Path, values: dict, limit: str) -> None:
    """Make all results, then measure calls that have nothing to do."""
    for line in snakemake(folder, "--summary").said.splitlines():
        if line.startswith("results/"):
            made = folder / line.split("\t")[0]
            made.parent.mkdir(parents=True, exist_ok=True)
            made.touch()
    show(f"{grid}: all files recorded as made", "", snakemake(folder, "--touch", "--forceall", "--quiet", "all"))
    for what, options in (("dry run", ["--dry-run"]), ("run", [])):
        found = snakemake(folder, *options)
        if "Nothing to be done" not in found.said:
            raise RuntimeError(f"{grid}: there is something to do: {planned(found.said)}")
        show(f"{grid}: {what}, nothing to do", limit, found)
    show_triggers(folder, values)


def make_packs(folder: Path, plan: Plan) -> None:
    """Invented records of every pack, and no floors: modular addition has none."""
    generator = np.random.default_rng(0)
    for task, variant, pack in plan.datasets():
        write_table(folder / f"results/datasets/{task}/{variant}/{pack}.floors.parquet", [], FLOORS, {})
    for key in plan.packs:
        task, variant, arm, pack = key
        seeds, budget = plan.seeds[pack], plan.cells[task, variant, arm].settings.training.steps
        names = {"task": task, "variant": variant, "arm": arm}
        for name, schema, given in (
            ("history", HISTORY, {"step": np.linspace(0, budget, ROWS).astype(int)}),
            ("runs", RUNS, {"status": ["completed"], "steps": [budget], "secret": [None]}),
            (
                "evaluation",
                EVALUATION,
                {
                    "step": np.repeat(np.linspace(0, budget, CHECKPOINTS).astype(int), len(MEASURES)),
                    "measure": [measure for measure, _ in MEASURES] * CHECKPOINTS,
                    "reduction": [kind for _, kind in MEASURES] * CHECKPOINTS,
                },
            ),
        ):
            n_rows = len(next(iter(given.values())))
            columns = [
                column(field, n_rows * len(seeds), {**names, "seed": np.repeat(seeds, n_rows)}, given, generator)
                for field in schema
            ]
            path = folder / "results/packs" / Path(*key) / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def column(field: pa.Field, n_rows: int, fixed: dict, given: dict, generator: np.random.Generator) -> pa.Array:
    """A column of a pack: a run's own value, `given` for each of its runs, or random."""
    if field.name in fixed:
        value = fixed[field.name]
        return pa.array([value] * n_rows if isinstance(value, str) else value, field.type)
    if field.name in given:
        return pa.array(list(given[field.name]) * (n_rows // len(given[field.name])), field.type)
    if pa.types.is_string(field.type):
        return pa.array([""] * n_rows)
    if pa.types.is_integer(field.type):
        return pa.array(generator.integers(1, 1000, n_rows), field.type)
    return pa.array(generator.random(n_rows), field.type)


def stage(name: str, plan: Plan, *sections: str) -> list[str]:
    """The beginning of a stage's command."""
    return [
        sys.executable,
        "-m",
        "nsbench.cli",
        "stage",
        name,
        "--spec",
        plan.grid(*sections),
        "--digest",
        digest(name),
    ]


def show_collecting(folder: Path, values: dict, parts: list[str]) -> None:
    """Collect invented packs, and make the tables."""
    plan = Plan(load(values))
    if not (folder / "results/packs").is_dir():
        make_packs(folder, plan)
    collected = [f"results/collected/{name}.parquet" for name in ("history", "runs", "evaluation", "floors")]
    if "collect" in parts:
        places = ["--packs", "results/packs", "--datasets", "results/datasets", "--out", "results/collected"]
        found = measured([*stage("collect", plan, "runs_per_pack"), *places], folder)
        n_rows, n_more = (pq.read_metadata(folder / collected[place]).num_rows for place in (0, 2))
        what = f"collect {len(plan.packs):,} packs: {n_rows:,} rows of histories, {n_more:,} of evaluations"
        show(what, "60 s, 1,000 MB", found)
    if "analyse" in parts:
        places = ["--collected", "results/collected", "--out", "results/tables"]
        show("analyse them", "", measured([*stage("analyse", plan, "analysis"), *places], folder))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--grids", nargs="+", default=list(GRIDS), choices=GRIDS)
    parser.add_argument(
        "--runs", type=int, default=10_000, help=f"of the synthetic grid; a multiple of {RUNS_PER_SIZE}"
    )
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    options = parser.parse_args()
    if options.runs < RUNS_PER_SIZE or options.runs % RUNS_PER_SIZE:
        parser.error(f"--runs: {options.runs} is no multiple of {RUNS_PER_SIZE}")
    load_before = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load before: {load_before}")
    print("| what | target | seconds | processor seconds | peak MB |\n|---|---|---|---|---|", flush=True)
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for grid in options.grids:
            values = settings(grid, options.runs)
            if "parse" in options.parts or "plan" in options.parts:
                prepare(folder / f"{grid}_empty", values)
            if "parse" in options.parts:
                show(f"{grid}: parse", "", snakemake(folder / f"{grid}_empty", "--list-rules", cores=1))
            if "plan" in options.parts:
                limit = "60 s, 2,000 MB" if grid == "synthetic" else ""
                show(f"{grid}: plan", limit, snakemake(folder / f"{grid}_empty", "--dry-run", cores=1))
            if "noop" in options.parts:
                prepare(folder / grid, values)
                show_noop(grid, folder / grid, values, "60 s" if grid == "synthetic" else "5 s")
        if {"collect", "analyse"} & set(options.parts):
            (folder / "collected").mkdir(parents=True, exist_ok=True)
            show_collecting(folder / "collected", settings("synthetic", options.runs), options.parts)


if __name__ == "__main__":
    main()
