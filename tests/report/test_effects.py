"""The report's sections on time to target: effects with their outcomes, costs, shares over time, seeds to add."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nsbench.report.page import TABLES
from nsbench.report.tables import ratio
from nsbench.storage.parquet import read_table, write_table
from tests.report.pages import IMAGE, flat, report, section
from tests.synthetic_records import make_cells, make_records, write_results


def changed(results: Path, folder: Path, name: str, how: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    """The page with one table changed."""
    tables = shutil.copytree(results / "tables", folder / "tables")
    path = tables / f"{name}.parquet"
    write_table(path, how(read_table(path, TABLES[name])), TABLES[name], {})
    return report(results, folder / "report.html", tables=tables)


def row(part: str, arm: str) -> str:
    """The text of the first row of an arm."""
    return flat(part.partition(f"<b>{arm}</b>")[2].partition("</tr>")[0])


def test_effects_have_ratios_bounds_and_outcomes(plain: str) -> None:
    part = section(plain, "effects")
    gentle, reversed_arm = row(part, "gentle"), row(part, "reversed")
    ratio = r"fewer steps secondary 6 6 → 6 sooner 0 : 6 (0\.\d\d) (0\.\d\d) to (0\.\d\d)"
    value, low, high = map(float, re.search(ratio, gentle).groups())
    assert low <= value <= high < 1
    assert re.search(r" 0\.\d\d \d\d\.\d% fewer \d\d\.\d% faster 0\.031 0\.031$", gentle)
    # No run of the arm reached the target: the ratio is at least as much, so the steps saved are at most so many.
    assert re.search(
        r"more steps secondary 6 6 → 0 sooner 6 : 0 ≥ 1\.\d\d 1\.\d\d ≥ \d+\.\d% more ≥ \d+\.\d% slower", reversed_arm
    )
    assert "Of 2 comparisons shown here 1 settles fewer steps and 1 settles more steps." in flat(part)
    assert "Effects are judged at 6 pairs" in flat(part)


def test_a_p_value_too_small_to_print_and_one_that_is_missing(results: Path, tmp_path: Path) -> None:
    def give(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(p_value=[0.0004, 0.25], q_value=[0.0008, None])

    part = section(changed(results, tmp_path, "paired_effect", give), "effects")
    assert row(part, "gentle").endswith("&lt; 0.001 &lt; 0.001")
    assert row(part, "reversed").endswith("0.250")


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((0.95, 0.9, 1.004), "0.95 0.90 to 1.004"),
        ((1.2, 0.9, math.inf), "1.20 0.90 or more"),
        ((0.8, 0.0, 1.1), "0.80 up to 1.10"),
        ((0.8, 0.0, math.inf), "0.80 no bound"),
        ((0.8, math.nan, math.nan), "0.80"),
        ((math.nan, 0.0, 0.7), "≤ 0.70"),
        ((math.nan, 1.3, math.inf), "≥ 1.30"),
        ((math.nan, 0.0, math.inf), "– no bound"),
    ],
)
def test_a_ratio_says_what_is_known_of_it(ends: tuple[float, ...], shown: str) -> None:
    names = ("steps_ratio", "steps_ratio_low", "steps_ratio_high")
    assert " ".join(ratio(dict(zip(names, ends, strict=True)), "steps_ratio")).strip() == shown


def test_the_summary_counts_outcomes(results: Path, tmp_path: Path) -> None:
    outcomes = ["no effect larger than 10%", "open"]
    html = changed(results, tmp_path, "paired_effect", lambda table: table.assign(outcome=outcomes))
    part = section(html, "effects")
    assert "Of 2 comparisons shown here 1 settles no effect larger than 10% and 1 is open." in flat(part)
    rows = {one.partition("<b>")[2].partition("</b>")[0]: one for one in part.split("<tr class=")[1:]}
    assert rows["gentle"].startswith('"settled')
    assert rows["reversed"].startswith('"open')


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("less work", "1 settles less work (FLOPs), 0 more and 0 neither."),
        ("more work", "0 settle less work (FLOPs), 1 more and 0 neither."),
        ("open", "0 settle less work (FLOPs), 0 more and 1 neither."),
        ("no effect larger than 10%", "0 settle less work (FLOPs), 0 more and 1 neither."),
    ],
)
def test_costs_say_whether_fewer_steps_is_less_work(results: Path, tmp_path: Path, outcome: str, sentence: str) -> None:
    """By the outcome, not by an interval alone."""

    def cost(table: pd.DataFrame) -> pd.DataFrame:
        gentle = table["arm"] == "gentle"
        table.loc[gentle, ["flops_ratio", "flops_ratio_low", "flops_ratio_high"]] = (0.6, 0.5, 0.7)
        table.loc[gentle, "flops_outcome"] = outcome
        return table

    part = section(changed(results, tmp_path, "paired_effect", cost), "costs")
    assert row(part, "gentle").endswith(f"fewer steps {outcome}")
    assert row(part, "reversed").endswith("more steps more work")
    assert "Of the one comparison shown here that settles fewer steps " + sentence in flat(part)


def test_costs_say_where_no_arm_needs_fewer_steps(results: Path, tmp_path: Path) -> None:
    html = changed(results, tmp_path, "paired_effect", lambda table: table[table["arm"] == "reversed"])
    assert "No comparison shown here settles that an arm needs fewer steps." in flat(section(html, "costs"))


def test_open_comparisons_say_which_seeds_to_add(tmp_path: Path) -> None:
    """Of the looks to come only the next counts, from the pairs that wait for it."""
    cells = make_cells(arms=("baseline", "gentle", "reversed"), seeds=tuple(range(7)), threshold=0.95)
    rises = {("baseline", seed): 1500.0 + 150 * seed for seed in range(7)}
    rises |= {("gentle", seed): 1000.0 + 300 * (seed * 3 % 7) for seed in range(7)}
    rises |= {("reversed", seed): 600.0 + 60 * seed for seed in range(7)}
    settings = {"primary": {"modular_addition": {"variant": "calibrated", "arm": "reversed"}}}
    settings["looks"] = {"pairs": [6, 10, 14], "alpha": 0.04}
    write_results(tmp_path, cells, make_records(cells, rises), **settings)
    part = section(report(tmp_path, tmp_path / "report.html", figures=[], cells=cells), "seeds")
    assert "10% fewer steps by the next look, the last" in flat(part)
    chance = r"\d+%, \d+% \d+ to \d+%, \d+ to \d+%"
    spread = r"\d\.\d{3} \d\.\d{3} to \d\.\d{3}"
    assert re.search(rf"modular_addition / calibrated 7 10 3 {spread} {chance} {chance} {chance}$", row(part, "gentle"))
    assert "reversed" not in part  # its steps are settled
    power = read_table(tmp_path / "tables" / "power.parquet", TABLES["power"]).set_index(
        ["arm", "effect_percent", "look"]
    )
    by_next, by_last = (power.loc[("gentle", 35.0, look), "power"] for look in (10, 14))
    assert f"{by_next:.0%}, {by_last:.0%}" in row(part, "gentle")


def test_what_is_open_after_the_last_look_needs_no_seeds(results: Path, tmp_path: Path) -> None:
    html = changed(results, tmp_path, "paired_effect", lambda table: table.assign(outcome="open"))
    assert "2 comparisons without a look to come are open for good." in flat(section(html, "seeds"))
    assert not section(report(results, tmp_path / "settled.html"), "seeds")


def test_the_two_figures_stand_in_their_sections(results: Path, tmp_path: Path) -> None:
    figures = [tmp_path / "arms.png", tmp_path / "time_to_target.png"]
    for path in figures:
        path.write_bytes(IMAGE)
    html = report(results, tmp_path / "report.html", figures=figures)
    assert 'id="arms"' in section(html, "costs")
    assert 'id="time_to_target"' in section(html, "times")
