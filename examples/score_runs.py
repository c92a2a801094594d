"""Score your own runs by the protocol of docs/scoring.md: `python examples/score_runs.py`.

It prints

```text
20.3% fewer steps [8.5, 27.7]
25.5% faster; 1.59 times the FLOPs
p = 0.031, with Holm's correction 0.031, logrank 0.230
1 of 14 runs censored (baseline 1, arm 0): ratio of restricted means, at most 6,000 steps
fewer steps but not less work: 1.59 times the FLOPs
 effect_percent  spread  n_seeds  power_now
           10.0   0.133     15.0      0.423
           20.0   0.133      6.0      0.956
           35.0   0.133      4.0      1.000
 arm   step  not_reached  at_risk
mine 3500.0        0.286        3
mine 4700.0        0.143        2
mine 5200.0        0.000        1
mine 6000.0        0.000        0
```

The arm was sooner in six of seven pairs, and the baseline's one censored run counts at 6,000 steps: about 20% fewer
steps at 1.6 times the work. The p-value passes alone; a second comparison in the family could double it.
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
        "seeds": [0, 1, 2, 3, 4, 5, 6],
        "target": {"metric": "val_accuracy", "threshold": 0.95, "hold_evaluations": 3, "hold_steps": 0},
        "budget_steps": 6000,
    }
    for arm, kind in (("plain", "baseline"), ("mine", "my_method"))
]

# Your records; here made up: accuracy jumps at a known step, and a step of `mine` costs twice as much.
jumps = {"plain": [4300, 4500, 4700, 4400, 4600, 9999, 4500], "mine": [3200, 3300, 3500, 3100, 4700, 5200, 3300]}
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
effects = statistics.paired_effects(times, runs, 0.95, 9999, np.random.default_rng(0), cells)
row = effects.iloc[0]
low, high = row.fewer_steps_percent_low, row.fewer_steps_percent_high
print(f"{row.fewer_steps_percent:.1f}% fewer steps [{low:.1f}, {high:.1f}]")
print(f"{row.faster_by_percent:.1f}% faster; {row.flops_ratio:.2f} times the FLOPs")
print(f"p = {row.p_value:.3f}, with Holm's correction {row.p_holm:.3f}, logrank {row.p_logrank:.3f}")
print(row.note.replace("; ", "\n"))
print(power(times, 0.95)[["effect_percent", "spread", "n_seeds", "power_now"]].round(3).to_string(index=False))
print(kaplan_meier(times, 0.95)[["arm", "step", "not_reached", "at_risk"]].round(3).tail(4).to_string(index=False))
