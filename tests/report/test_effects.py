"""The report's sections on time to target: effects with their p-values, costs, shares over time, seeds needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nsbench.report.page import TABLES
from nsbench.storage.parquet import read_table, write_table
from tests.report.pages import IMAGE, flat, report, section


def changed(results: Path, folder: Path, name: str, how: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    """The page with one table changed."""
    tables = shutil.copytree(results / "tables", folder / "tables")
    path = tables / f"{name}.parquet"
    write_table(path, how(read_table(path, TABLES[name])), TABLES[name], {})
    return report(results, folder / "report.html", tables=tables)


def row(part: str, arm: str) -> str:
    """The text of the first row of an arm."""
    return flat(part.partition(f"<b>{arm}</b>")[2].partition("</tr>")[0])


def test_effects_have_p_values_corrected_and_of_the_logrank_test(results: Path, tmp_path: Path) -> None:
    def give(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(p_value=[0.0004, 0.25], p_holm=[0.0008, None], p_logrank=[0.031, None], n_family=[2, 0])

    part = section(changed(results, tmp_path, "paired_effect", give), "effects")
    assert row(part, "gentle").endswith("&lt; 0.001 log-rank 0.031 &lt; 0.001 of 2")
    assert row(part, "reversed").endswith("0.250 –")


@pytest.mark.parametrize(
    ("flops", "answer", "sentence"),
    [
        ((0.6, 0.5, 0.7), "fewer steps, less work", "1 also needs less work (FLOPs), 0 need more, and for 0"),
        ((1.3, 1.2, 1.4), "fewer steps, more work", "0 also need less work (FLOPs), 1 needs more, and for 0"),
        ((1.0, 0.9, 1.1), "fewer steps, work open", "0 also need less work (FLOPs), 0 need more, and for 1"),
    ],
)
def test_costs_say_whether_fewer_steps_is_less_work(
    results: Path, tmp_path: Path, flops: tuple[float, float, float], answer: str, sentence: str
) -> None:
    def cost(table: pd.DataFrame) -> pd.DataFrame:
        gentle = table["arm"] == "gentle"
        table.loc[gentle, ["flops_ratio", "flops_ratio_low", "flops_ratio_high"]] = flops
        return table

    part = section(changed(results, tmp_path, "paired_effect", cost), "costs")
    assert row(part, "gentle").endswith(answer)
    assert row(part, "reversed").endswith("more steps, more work")
    assert "Of 2 comparisons shown here 1 settles that an arm needs fewer steps. Of these" in flat(part)
    assert sentence in flat(part)


def test_costs_say_where_no_arm_needs_fewer_steps(results: Path, tmp_path: Path) -> None:
    html = changed(results, tmp_path, "paired_effect", lambda table: table[table["arm"] == "reversed"])
    assert "No comparison shown here settles that an arm needs fewer steps." in flat(section(html, "costs"))


def test_shares_over_the_budget_are_those_of_the_curves(results: Path, tmp_path: Path) -> None:
    part = section(report(results, tmp_path / "report.html"), "times").partition("Kaplan-Meier")[2]
    # Of six gentle runs all but the last hold the target by half of 3,000 steps: it does at 1,600.
    none, one, all_left = "0% 0% to 39%", "17% 3% to 56%", "100% 61% to 100%"  # of six, Wilson's intervals
    assert row(part, "gentle").endswith(f"3,000 {all_left} {one} {none} {none}")
    assert row(part, "baseline").endswith(f"3,000 {all_left} {all_left} {all_left} {none}")
    assert row(part, "reversed").endswith(f"3,000 {all_left} {all_left} {all_left} {all_left}")
    assert "Small figures: Wilson's interval for each share" in flat(part)


def test_power_gives_the_seeds_for_each_effect(results: Path, tmp_path: Path) -> None:
    def give(table: pd.DataFrame) -> pd.DataFrame:
        gentle = table["arm"] == "gentle"
        for effect, seeds, now in ((10.0, 31.0, 0.18), (20.0, 9.0, 0.5), (35.0, 5.0, 0.985)):
            at = gentle & (table["effect_percent"] == effect)
            table.loc[at, ["n_seeds", "n_seeds_low", "n_seeds_high", "power_now"]] = (seeds, seeds - 2, 1234.0, now)
        return table

    part = section(changed(results, tmp_path, "power", give), "power")
    assert "seeds for 10% fewer steps seeds for 20% fewer steps seeds for 35% fewer steps" in flat(part)
    assert "31 29 to 1,234 9 7 to 1,234 5 3 to 1,234 18%, 50%, 98%" in row(part, "gentle")
    assert "find an effect in 80% of all tries" in flat(part)


def test_the_two_figures_stand_in_their_sections(results: Path, tmp_path: Path) -> None:
    figures = [tmp_path / "arms.png", tmp_path / "time_to_target.png"]
    for path in figures:
        path.write_bytes(IMAGE)
    html = report(results, tmp_path / "report.html", figures=figures)
    assert 'id="arms"' in section(html, "costs")
    assert 'id="time_to_target"' in section(html, "times")
