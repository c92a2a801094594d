"""Score your own runs by the protocol of docs/scoring.md: `python examples/score_runs.py`.

It prints

```text
fewer steps: 25.8% fewer [6.3, 29.9], 8 pairs
34.9% faster; more work: 1.48 times the FLOPs
p = 0.0156; ratio of restricted means 0.80
1 of 16 runs did not reach the target in 6,000 steps (baseline 1, arm 0)
fewer steps but not less work: 1.48 times the FLOPs
 effect_percent  spread  look  power
           20.0    0.13     8   0.60
           20.0    0.13    12   0.89
           20.0    0.13    16   0.99
           20.0    0.13    20   1.00
           35.0    0.13     8   0.74
           35.0    0.13    12   0.96
           35.0    0.13    16   1.00
           35.0    0.13    20   1.00
 arm   step  not_reached  at_risk
mine 4650.0         0.12        2
mine 5150.0         0.00        1
mine 6000.0         0.00        0
```

The arm was sooner in seven of eight pairs, and a baseline that never reached the target is later than its arm however
late: fewer steps are settled at the first look, at 1.5 times the work. Power is what each look could settle.
"""

import numpy as np
import pandas as pd

from nsbench.analysis import statistics
from nsbench.analysis.statistics.power import power
from nsbench.analysis.statistics.survival import kaplan_meier

# Your task: the target and the budget are fixed before anything runs.
cells = [
    {
        "task": "my_task",
        "variant": "my_setting",
        "arm": arm,
        "arm_settings": {"kind": kind},
        "seeds": [0, 1, 2, 3, 4, 5, 6, 7],
        "target": {"metric": "val_accuracy", "threshold": 0.95, "hold_evaluations": 3, "hold_steps": 0},
        "budget_steps": 6000,
    }
    for arm, kind in (("plain", "baseline"), ("mine", "my_method"))
]

# Your records; here made up: accuracy jumps at a known step, and a step of `mine` costs twice as much.
jumps = {
    "plain": [4300, 4500, 4700, 4400, 4600, 9999, 4500, 4200],
    "mine": [3200, 3300, 3500, 3100, 4700, 5200, 3300, 3600],
}
steps, history, runs = np.arange(0, 6001, 100), [], []
for cell in cells:
    for seed, jump in zip(cell["seeds"], jumps[cell["arm"]], strict=True):
        name = {"task": cell["task"], "variant": cell["variant"], "arm": cell["arm"], "seed": seed}
        per_step = 2e9 if cell["arm"] == "mine" else 1e9
        curve = {"val_accuracy": np.where(steps >= jump, 0.99, 0.1), "flops": per_step * steps, "seconds": 0.03 * steps}
        history.append(pd.DataFrame({**name, "step": steps, **curve}))
        whole = {"steps": 6000, "flops": per_step * 6000, "seconds": 0.03 * 6000}
        runs.append({**name, "status": "completed", **whole, "text": ""})
history, runs = pd.concat(history), pd.DataFrame(runs)

times = statistics.time_to_target(history, runs, cells)
row = statistics.paired_effects(times, runs, cells=cells).iloc[0]
low, high = row.fewer_steps_percent_low, row.fewer_steps_percent_high
print(f"{row.outcome}: {row.fewer_steps_percent:.1f}% fewer [{low:.1f}, {high:.1f}], {row.n_pairs} pairs")
print(f"{row.faster_by_percent:.1f}% faster; {row.flops_outcome}: {row.flops_ratio:.2f} times the FLOPs")
print(f"p = {row.p_value:.4f}; ratio of restricted means {row.restricted_mean_ratio:.2f}")
print(row.note.replace("; ", "\n"))
print(power(times)[["effect_percent", "spread", "look", "power"]].tail(8).round(2).to_string(index=False))
print(kaplan_meier(times, 0.95)[["arm", "step", "not_reached", "at_risk"]].tail(3).round(2).to_string(index=False))
