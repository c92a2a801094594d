"""Do two engines agree in when runs reach the target? Records of each, for the cells of a configuration:

    python benchmarks/engines.py OLD NEW --configfile config.yaml [OVERLAY]

For each cell that both have it prints the steps to target, paired by seed, and two tests of the hypothesis that both
are of one distribution: Wilcoxon's signed rank test of the pairs, and that of Kolmogorov and Smirnov of the samples.
A run that never reaches the target counts as later than any that does.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import ks_2samp, wilcoxon

from nsbench.config.target import first_held
from nsbench.storage.records import Record, read_records, record_files
from nsbench.workflow.grid import Cell, expand, load_files
from nsbench.workflow.recorded_runs import current, settings_of


def to_target(records: list[Record], cell: Cell) -> dict[int, float]:
    """Seed -> steps to target of the records of a cell; the budget and one more where it is never reached."""
    wanted, target, found = settings_of(cell), cell.settings.target.model_dump(), {}
    for record in records:
        if record.row["task"] == cell.task and current(record.settings) == wanted:
            values, steps = ([row[name] for row in record.row["history"]] for name in (target["metric"], "step"))
            held = first_held(values, steps, target)
            found[record.seed] = float(cell.settings.training.steps + 1 if held is None else steps[held])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs=2, metavar="RECORDS")
    parser.add_argument("--configfile", nargs="+", required=True)
    options = parser.parse_args()
    both = [[record for path in record_files([folder]) for record in read_records(path)] for folder in options.folders]
    for cell in expand(load_files(options.configfile)):
        old, new = (to_target(records, cell) for records in both)
        if seeds := sorted(old.keys() & new.keys()):
            first, second = np.array([old[seed] for seed in seeds]), np.array([new[seed] for seed in seeds])
            print(cell.task, cell.variant, cell.arm)
            print("  seeds", *seeds, "\n  old  ", *first.astype(int), "\n  new  ", *second.astype(int))
            equal = np.array_equal(first, second)
            paired = 1.0 if equal else wilcoxon(first, second).pvalue
            ratio = np.exp(np.mean(np.log(second / first)))
            sampled = ks_2samp(first, second).pvalue
            print(f"  ratio new / old {ratio:.3f}, signed rank p = {paired:.3f}, Kolmogorov-Smirnov p = {sampled:.3f}")


if __name__ == "__main__":
    main()
