"""How often verdicts are wrong, and what they can settle: simulations of the shipped statistics, as Markdown tables.

Runs of a pair share a seed: the logarithms of their times have a part in common (sd 0.25) and one of their own. All
times are shares of the budget. Every table starts from its own seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from nsbench.analysis.statistics.pooled import pool
from nsbench.analysis.statistics.signed_rank import critical_place, typical_ratio, walsh_averages
from nsbench.analysis.statistics.times import crossing
from nsbench.config.sections import Analysis
from nsbench.config.settled import FEWER, MORE, no_effect, outcome

SETTINGS = Analysis()
LOOKS, ALPHA, MARGIN = list(SETTINGS.looks.pairs), SETTINGS.looks.alpha, SETTINGS.margin
NONE = no_effect(MARGIN)
PAPER = 1 / 1.36
"""The ratio of steps of 36% faster."""
OWN, SHARED = 0.15, 0.25
"""Standard deviations of the logarithms of times: of each run, and in common to a pair."""
CHUNK = 2000
"""Experiments at a time: bounds the memory."""
Random = np.random.Generator
Times = tuple[np.ndarray, np.ndarray]
"""Logarithms of the baseline's and the arm's times as shares of the budget, (experiments, pairs), 0 where censored."""


# --- scenarios -----------------------------------------------------------------------------------------


def pairs(random: Random, shape: tuple[int, int], ratio: float, middle: float, own_2EN: np.ndarray) -> Times:
    """Pairs about a baseline of `middle` of the budget whose runs differ by `own_2EN`."""
    shared = math.log(middle) + SHARED * random.standard_normal(shape)
    return np.minimum(shared + own_2EN[0], 0.0), np.minimum(shared + own_2EN[1] + math.log(ratio), 0.0)


def normal(random: Random, shape: tuple[int, int]) -> np.ndarray:
    return OWN * random.standard_normal((2, *shape))


def lognormal(random: Random, shape: tuple[int, int], ratio: float) -> Times:
    return pairs(random, shape, ratio, 0.1, normal(random, shape))


def heavy_tails(random: Random, shape: tuple[int, int], ratio: float) -> Times:
    return pairs(random, shape, ratio, 0.1, OWN * random.standard_t(2, (2, *shape)))


def ties(random: Random, shape: tuple[int, int], ratio: float) -> Times:
    """Times known to the next of evaluations a tenth of the middle time apart."""
    before, after = lognormal(random, shape, ratio)
    return tuple(np.minimum(np.log(np.ceil(np.exp(logs) / 0.01) * 0.01), 0.0) for logs in (before, after))


def late_grokkers(random: Random, shape: tuple[int, int], ratio: float) -> Times:
    late = math.log(3) * (random.random((2, *shape)) < 0.15)
    return pairs(random, shape, ratio, 0.1, normal(random, shape) + late)


def half_censored(random: Random, shape: tuple[int, int], ratio: float) -> Times:
    """Of all runs; of the baseline's more, where the arm is faster."""
    return pairs(random, shape, ratio, ratio**-0.5, normal(random, shape))


SCENARIOS: dict[str, Callable[[Random, tuple[int, int], float], Times]] = {
    "lognormal": lognormal,
    "heavy tails (t, 2 df)": heavy_tails,
    "ties (grid of a tenth)": ties,
    "15% three times later": late_grokkers,
    "half of runs censored": half_censored,
}


# --- the rule --------------------------------------------------------------------------------------------------


def intervals(before: np.ndarray, after: np.ndarray, alpha: float) -> np.ndarray:
    """Both ends of the interval of every experiment's ratio, (experiments, 2), as `typical_ratio` has them."""
    place = critical_place(before.shape[-1], alpha)
    lower, upper = walsh_averages(before, after)
    return np.exp(np.stack([lower[:, place - 1], upper[:, -place]], axis=1))


def check_intervals() -> None:
    """What is simulated is what is shipped."""
    before, after = half_censored(np.random.default_rng(0), (50, 8), PAPER)
    for ends, *logs in zip(intervals(before, after, ALPHA), before, after, strict=True):
        times = [np.where(values < 0, np.exp(values), np.nan) for values in logs]
        shipped = typical_ratio(*times, (np.ones(8), np.ones(8)), 1 - ALPHA)
        np.testing.assert_allclose(ends, [shipped.low, shipped.high], rtol=1e-9)


def outcomes(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The outcome at each look, (experiments, looks)."""
    found = []
    for look in LOOKS:
        ends = intervals(before[:, :look], after[:, :look], ALPHA)
        found.append([outcome(low, high, MARGIN) for low, high in ends.tolist()])
    return np.array(found).T


def chunks(reps: int) -> list[int]:
    return [min(CHUNK, reps - start) for start in range(0, reps, CHUNK)]


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n**{title}**\n")
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


# --- tables ----------------------------------------------------------------------------------------------------


def coverage(reps: int) -> None:
    sizes = {6: 0.05} | dict.fromkeys(LOOKS, ALPHA)
    rows = []
    for name, draw in SCENARIOS.items():
        for place, (n, alpha) in enumerate(sizes.items()):
            cells = []
            for ratio in (1.0, PAPER):
                random, covered, settled = np.random.default_rng(n), 0, 0
                for size in chunks(reps):
                    low, high = intervals(*draw(random, (size, n), ratio), alpha).T
                    covered += ((low <= ratio * (1 + 1e-9)) & (ratio <= high * (1 + 1e-9))).sum()
                    settled += ((high < 1) | (low > 1)).sum()
                cells += [percent(covered / reps), percent(settled / reps)]
            rows.append([name if not place else "", f"{n}, {percent(1 - alpha)}", *cells])
    header = ["scenario", "pairs, confidence", "covers 1", "false effects", "covers 1/1.36", "effects found"]
    show("One look: coverage of the typical ratio's interval, %", header, rows)


def sequences(reps: int) -> None:
    rows = []
    for name, draw in SCENARIOS.items():
        ever = {}
        for ratio in (1.0, 1 / (1 + MARGIN), PAPER):
            random, counts = np.random.default_rng(1), dict.fromkeys((FEWER, MORE, NONE), 0)
            for size in chunks(reps):
                found = outcomes(*draw(random, (size, LOOKS[-1]), ratio))
                counts = {what: count + int((found == what).any(axis=1).sum()) for what, count in counts.items()}
            ever[ratio] = {what: percent(count / reps) for what, count in counts.items()}
        same, edge, paper = ever.values()
        rows.append([name, same[FEWER], same[MORE], same[NONE], edge[NONE], paper[NONE], paper[MORE], paper[FEWER]])
    header = ["scenario", *("0% faster: " + what for what in ("fewer", "more", NONE)), f"10% faster: {NONE}"]
    header += ["36% faster: " + what for what in (NONE, "more", "fewer")]
    show(f"The looks at {LOOKS} pairs together: ever settled, %, by what is true", header, rows)


def power(reps: int) -> None:
    rows = []
    for faster in (0, 10, 20, 36):
        for spread in (0.1, 0.2, 0.3):
            random, found = np.random.default_rng(2), []
            for size in chunks(reps):
                before = math.log(0.1) + SHARED * random.standard_normal((size, LOOKS[-1]))
                ratio = -math.log(1 + faster / 100) + spread * random.standard_normal(before.shape)
                found.append(outcomes(before, before + ratio))
            found_EL = np.concatenate(found)
            wanted = FEWER if faster else NONE
            by_look = np.logical_or.accumulate(found_EL == wanted, axis=1).mean(axis=0)
            settled_EL = np.isin(found_EL, [FEWER, MORE, NONE])
            used = np.where(settled_EL.any(axis=1), np.array(LOOKS)[settled_EL.argmax(axis=1)], LOOKS[-1]).mean()
            rows.append([f"{faster}%", str(spread), wanted, *map(percent, by_look), f"{used:.1f}"])
    header = ["faster by", "spread", "settled as", *(f"by {look}" for look in LOOKS), "pairs used"]
    show("Power by each look, %, and mean pairs used where one stops once settled", header, rows)


def grid(reps: int) -> None:
    """Baselines of mean time 1, evaluations 0.25 apart, a threshold of 0.95 of a logistic rise from 0 to 1."""
    spacing, threshold, n = 0.25, 0.95, 10
    rows = []
    for rise in (0.0, 0.3, 1.0, 2.0, 4.0):
        random = np.random.default_rng(3)
        shared = SHARED * random.standard_normal((reps // 20, n)) - (SHARED**2 + OWN**2) / 2
        logs_2EN = shared + normal(random, shared.shape) + np.array([0.0, math.log(PAPER)])[:, None, None]
        width = rise * spacing / (2 * math.log(9))  # the rise from 10% to 90% takes `rise` spacings
        measured = np.array([_measured(time, width, spacing, threshold) for time in np.exp(logs_2EN).ravel()])
        late_2EN, line_2EN, middle_2EN = measured.T.reshape(3, *logs_2EN.shape)
        cells = []
        for times_2EN in (late_2EN, line_2EN, middle_2EN, np.exp(logs_2EN)):
            before, after = np.log(times_2EN / 1000)
            estimate = np.median(walsh_averages(before, after)[0], axis=1).mean()
            cells.append(f"{100 * math.expm1(-estimate):.1f}")
        rows.append([f"{rise:g}" if rise else "jump", *cells])
    header = ["10% to 90% in spacings", "at the evaluation", "on a line", "in the middle", "exact times"]
    show("Times known to evaluations a quarter of the mean time apart: estimated % faster of a true 36%", header, rows)


def _measured(time: float, width: float, spacing: float, threshold: float) -> tuple[float, float, float]:
    """Of a threshold crossed at `time`: the evaluation that finds it reached, where the line from the one before
    crosses it, and the middle of the two, which is shipped."""
    last = math.ceil(time / spacing)
    steps = spacing * np.array([last - 1, last])
    if width:
        middle = time - width * math.log(threshold / (1 - threshold))
        values = 1 / (1 + np.exp((middle - steps) / width))
    else:
        values = np.array([0.01, 0.99])
    line = steps[0] + spacing * (threshold - values[0]) / (values[1] - values[0])
    return float(steps[1]), float(line), float(crossing(steps[:, None], 1)[0])


def curves(reps: int) -> None:
    """Settings that differ by tau, six seeds that all share, errors of sd 0.2; mean effect -0.2."""
    mean, error, n_seeds = -0.2, 0.2, 6
    laws: dict[str, Callable[[Random, tuple[int, ...]], np.ndarray]] = {
        "normal": lambda random, shape: random.standard_normal(shape),
        "t, 3 df": lambda random, shape: random.standard_t(3, shape) / math.sqrt(3),  # of sd 1 too
    }
    rows = []
    for law, draw in laws.items():
        for tau in (0.0, 0.1, 0.3):
            for sd_seeds in (0.0, 0.1):
                cells = []
                for n in (16, 24, 32):
                    random, covered = np.random.default_rng(4), np.zeros(2)
                    for _ in range(reps // 5):
                        effects_SN = mean + tau * draw(random, (n, 1)) + sd_seeds * random.standard_normal(n_seeds)
                        found = pool(effects_SN + error * draw(random, (n, n_seeds)), SETTINGS.confidence)
                        new = mean + tau * float(draw(random, ()))
                        covered += found.low <= mean <= found.high, found.new_low <= new <= found.new_high
                    cells += map(percent, covered / (reps // 5))
                rows.append([law, f"{tau:g}", f"{sd_seeds:g}", *cells])
    header = ["law", "tau", "sd of seeds", *(f"{n}: {what}" for n in (16, 24, 32) for what in ("mean", "new"))]
    show("Pooled curves: coverage of the mean's and a new setting's interval, %, by settings", header, rows)


def few_seeds(reps: int) -> None:
    """120 settings that differ by 0.2, errors of sd 0.2: what the mean's interval is where fewer seeds are shared."""
    rows = []
    for sd_seeds in (0.0, 0.03, 0.08):
        cells = []
        for n_seeds in (2, 4, 8):
            random, covered, reach = np.random.default_rng(5), 0, []
            for _ in range(reps // 5):
                effects_SN = 0.2 * random.standard_normal((120, 1)) + sd_seeds * random.standard_normal(n_seeds)
                found = pool(effects_SN + 0.2 * random.standard_normal((120, n_seeds)), SETTINGS.confidence)
                covered += found.low <= 0 <= found.high
                reach.append((found.high - found.low) / 2)
            usual, wide = 100 * np.quantile(reach, [0.5, 0.9])
            cells += [percent(covered / (reps // 5)), f"{usual:.1f} ({wide:.1f})"]
        rows.append([f"{sd_seeds:g}", *cells])
    header = ["sd of seeds", *(f"{n}: {what}" for n in (2, 4, 8) for what in ("coverage", "half width"))]
    show("Few seeds: coverage of the mean's interval and its half width (a tenth are wider), %, by seeds", header, rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=20_000, help="experiments; of grids a 20th, of curves a 5th")
    options = parser.parse_args()
    check_intervals()
    for table in (coverage, sequences, power, grid, curves, few_seeds):
        table(options.reps)


if __name__ == "__main__":
    main()
