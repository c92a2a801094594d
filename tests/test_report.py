"""The report holds everything in one file, tells its scale, and hides nothing."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench import readings
from nsbench.records import RecordError, read_table, write_table
from nsbench.report import write_report
from nsbench.scores import SCORE
from nsbench.theory_records import THEORY
from tests.synthetic_records import make_cells, make_records, swept, write_results

IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = make_cells(arms=("baseline", "gentle", "reversed"), seeds=(0, 1, 2, 3, 4, 5), threshold=0.95)
RISES = {
    **{("baseline", seed): 2000.0 + 40 * seed for seed in range(6)},
    **{("gentle", seed): 1000.0 + 60 * seed for seed in range(6)},
    **{("reversed", seed): 1e9 for seed in range(6)},
}


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, CELLS, make_records(CELLS, RISES, diverged=(("reversed", 5),)))
    for name in ("figure_05_modular_addition", "figure_99"):
        (folder / f"{name}.png").write_bytes(IMAGE)
    return folder


def report(results: Path, out: Path, scale: str = "demo", **changes: Any) -> str:
    arguments = {
        "figures": sorted(results.glob("*.png")),
        "tables_folder": results / "tables",
        "collected_folder": results / "collected",
        "cells": CELLS,
        "spec": '{"grid":["<b>"]}',
        "digest": "fedcba9876543210",
    }
    write_report(out, scale=scale, **(arguments | changes))
    return out.read_text()


def section(html: str, name: str) -> str:
    """The source of a section; empty where the page has none of that name."""
    return html.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def flat(html: str) -> str:
    """The text of some source in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_page_is_whole_and_the_same_each_time(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    assert Page(html).open == []
    assert html == report(results, tmp_path / "again.html")


def test_figures_are_inside_with_their_captions(results: Path, tmp_path: Path) -> None:
    page = Page(report(results, tmp_path / "report.html"))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources == ["data:image/png;base64," + base64.b64encode(IMAGE).decode()] * 2
    assert "Figure 5, modular addition" in page.text
    assert "26.7% fewer steps, or 36.4% faster" in page.text
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_nothing_is_loaded_from_elsewhere(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "base", "source"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|url\(", html)


def test_a_demo_says_so_loudly_and_the_paper_s_scale_does_not(results: Path, tmp_path: Path) -> None:
    demo, paper = (report(results, tmp_path / f"{scale}.html", scale) for scale in ("demo", "paper"))
    assert 'class="banner"' in demo
    assert "DEMO SCALE" in Page(demo).text
    assert "Demo scale, not the paper's setting." in Page(demo).text
    assert "<title>nsbench report (demo scale)</title>" in demo
    assert 'class="banner"' not in paper
    assert "SCALE" not in Page(paper).text


def test_tables_have_the_numbers_of_the_grid(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    text = " ".join(Page(html).text.split())
    assert "6 / 6" in text
    assert "0 / 6" in text
    assert "none reached" in text
    assert "18 runs in the grid 1 of them diverged" in text
    assert "validation accuracy ≥ 0.95, held for 3 evaluations in a row" in text
    assert "0, 1, 2, 3, 4, 5" in text
    assert "6 of 12 runs censored (baseline 0, arm 6)" in text
    effects = section(html, "effects")
    rows = {row.split("<b>")[1].split("</b>")[0]: row for row in effects.split("<tr class=")[1:]}
    assert rows["gentle"].startswith('"fewer')
    assert rows["reversed"].startswith('"more')


def test_colour_needs_pairs_enough(tmp_path: Path) -> None:
    """Three pairs that agree have an interval that excludes zero, but it cannot mean 95%."""
    cells = make_cells(seeds=(0, 1, 2))
    write_results(tmp_path, cells, make_records(cells, RISES))
    html = report(tmp_path, tmp_path / "report.html", figures=[], cells=cells)
    assert '<tr class="open noted">' in html
    assert "only 3 pairs" in html


def test_provenance_is_there_and_the_spec_is_escaped(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    text = " ".join(Page(html).text.split())
    for part in (
        "fedcba9876543210",
        "0123456789abcdef",
        "cpu: 18 runs",
        "18 collected, 1 diverged",
        "torch",
        "make ui",
    ):
        assert part in text
    assert '{"grid":["<b>"]}' in text
    assert '["<b>"]' not in html


# --- next-token prediction and sweeps ------------------------------------------------------------------

ARMS = swept((0.05, 0.5), (0.05, 0.75))
TEXT_CELLS = [
    *make_cells(
        "next_token",
        ("plain", "rows", "leaky"),
        ("baseline", *ARMS, "reversed"),
        tuple(range(6)),
        2000,
        threshold=0.25,
        leaks={"leaky": ["training and validation windows overlap"]},
        rows=("rows",),
    ),
    *make_cells(arms=("baseline", "gentle"), seeds=(0, 1)),
]
LABEL = "Text: Some <excerpt> (rows of next_token)."


@pytest.fixture(scope="module")
def on_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on_text")
    rises = {(ARMS[0], seed): 300.0 for seed in range(6)} | {(ARMS[3], seed): 1e9 for seed in range(6)}
    write_results(folder, TEXT_CELLS, make_records(TEXT_CELLS, rises, ((ARMS[3], 0),), text="Some <excerpt>"))
    return folder


@pytest.fixture(scope="module")
def text_page(on_text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(on_text, tmp_path_factory.mktemp("page") / "report.html", cells=TEXT_CELLS)


def test_sections_without_rows_are_left_out(results: Path, text_page: str, tmp_path: Path) -> None:
    plain = report(results, tmp_path / "report.html")
    for name in ("scores", "sweep"):
        assert not section(plain, name)
        assert f'href="#{name}"' not in plain
        assert section(text_page, name)
        assert f'href="#{name}"' in text_page
    assert section(plain, "onsets")
    assert Page(text_page).open == []


def test_scores_stand_beside_their_floors(on_text: Path, text_page: str) -> None:
    found = flat(section(text_page, "scores"))
    # Floors are 0.12 and 0.2, of rows 0.7 of that without padding and unknown words; 0.0025 is the seeds'.
    assert "baseline next_token / plain 6 0.320 0.320 to 0.320" in found
    assert "0.122 loss 4.900 0.203 loss 4.200 500" in found
    assert re.search(r"0\.08[67] loss 7\.000 0\.14[23] loss 6\.000 350", found)
    assert found.count("Targets that are no padding") == 1
    assert "modular_addition" not in found
    table = read_table(on_text / "tables" / "score.parquet", SCORE).set_index(["variant", "arm", "targets"])
    row = table.loc[("plain", ARMS[0], "all")]
    best = f"{row['best_val_loss']:.3f} step {row['best_val_loss_step']:,.0f} {row['test_accuracy']:.3f}"
    assert f"{best} loss {row['test_loss']:.3f}" in found


def test_kinds_that_count_the_same_targets_are_left_out(tmp_path: Path) -> None:
    cells = make_cells("next_token", arms=("baseline", "gentle"), seeds=(0, 1))
    write_results(tmp_path, cells, make_records(cells))
    html = report(tmp_path, tmp_path / "report.html", figures=[], cells=cells)
    assert "All targets" in section(html, "scores")
    assert "Targets that are" not in section(html, "scores")
    assert "Text:" not in html
    assert "LEAK ON PURPOSE:" not in html


@pytest.mark.parametrize("name", ["effects", "scores", "sweep", "onsets", "times", "grid"])
def test_every_table_names_its_text_and_its_leaks(text_page: str, name: str) -> None:
    part = section(text_page, name)
    assert LABEL in flat(part).replace("&lt;", "<").replace("&gt;", ">")
    rows = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*</tr>", part, flags=re.DOTALL)
    leaky = [flat(row) for row in rows if re.search(r"\bleaky\b", flat(row))]
    assert leaky
    assert all("LEAK ON PURPOSE: training and validation windows overlap" in row for row in leaky)
    assert not any("LEAK" in flat(row) for row in rows if flat(row) not in leaky)


@pytest.mark.parametrize("name", ["effects", "scores", "onsets", "times", "grid"])
def test_arms_of_a_sweep_that_nothing_selected_are_folded_away(text_page: str, name: str) -> None:
    open_part = re.sub(r"<details>.*?</details>", "", section(text_page, name), flags=re.DOTALL)
    assert ARMS[0] in open_part
    assert "reversed" in open_part
    assert not any(arm in open_part for arm in ARMS[1:])
    assert all(arm in section(text_page, name) for arm in ARMS)


def test_the_sweep_is_compared_by_both_procedures(text_page: str) -> None:
    part = section(text_page, "sweep")
    found = flat(part)
    assert f"plain next_token, against baseline all seeds 6 pairs {ARMS[0]} of 4 arms" in found
    assert f"leave one out 6 pairs {ARMS[0]} × 6 of 4 arms" in found
    assert "fewest mean steps to the target on validation data" in found
    assert 'class="fewer' in part
    # The last arm lost a run: five pairs settle nothing.
    rows = {row.split("<b>")[1].split("</b>")[0]: row for row in part.split("<tr class=")[1:]}
    assert rows[ARMS[3]].startswith('"open')
    assert rows[ARMS[1]].startswith('"fewer')


def test_leads_and_early_ranks_are_told(text_page: str) -> None:
    found = flat(section(text_page, "onsets"))
    assert "it has made 10% of its whole change" in found
    assert "evaluated every … steps" in found
    assert f"{ARMS[3]} next_token / plain 5 / 6" in found
    assert "plain next_token baseline 6 6 seeds 200" in found
    assert "plain next_token all arms 36 6 seeds 200" in found


def test_provenance_names_the_text(text_page: str) -> None:
    assert "Some &lt;excerpt&gt;: 108 runs" in section(text_page, "provenance")


THEORY_ROWS = [
    # experiment, reading, series, formula, status, x, theory, simulated, standard error
    ("relu", "Gaussians", "mean 0", "Theorem 5.1", "exact", 0.0, 0.159, 0.160, 0.001),
    ("relu", "Gaussians", "mean 0", "Theorem 5.1", "exact", 1.0, 0.500, 0.497, 0.001),
    ("relu", "Gaussians", "mean 0", "Equation 4", "approximation", 1.0, 0.489, 0.497, 0.001),
    ("attention", "<scaled>", "W", "ρ s(ρ)", "published", 0.9, 0.5, 0.2, 0.0),
    ("transformer", "γ I", "γ = 1", "Equation 8", "published", 8.0, 0.2, 0.0, 1e-9),
    ("recurrence", "ρ = 1", "cosine", "2 s(ρ)", "limit", 1.0, 1.0, 1.0, 0.0),
    ("intervals", "scale 1", readings.entry_moments("attention", "mean"), "lemma", "lower", 1.0, 0.1, 0.2, 0.001),
    ("intervals", "scale 1", readings.entry_moments("attention", "mean"), "lemma", "upper", 1.0, math.inf, 0.2, 0.001),
    ("intervals", "scale 1", readings.entry_moments("MLP", "mean"), "lemma", "lower", 2.0, 0.5, 0.2, 0.001),
    ("intervals", "scale 1", readings.entry_moments("MLP", "mean"), "lemma", "upper", 2.0, math.nan, 0.2, 0.001),
    ("intervals", "scale 1", readings.entry_moments("MLP", "largest"), "lemma", "upper", 2.0, 0.3, 0.303, 0.001),
]


def theory_table(path: Path) -> Path:
    names = ["experiment", "reading", "series", "formula", "status", "x", "theory", "simulated", "standard_error"]
    table = pd.DataFrame(THEORY_ROWS, columns=names).assign(n_draws=4, n_pairs=10)
    table["difference"] = table["simulated"] - table["theory"]
    table["z"] = table["difference"] / table["standard_error"].replace(0.0, float("nan"))
    table["ratio"] = table["theory"] / table["simulated"]
    write_table(path, table, THEORY, {})
    return path


def test_the_theory_stands_beside_its_simulation(results: Path, tmp_path: Path) -> None:
    (tmp_path / "figure_09.png").write_bytes(IMAGE)
    figures = [results / "figure_99.png", tmp_path / "figure_09.png"]
    table = theory_table(tmp_path / "theory.parquet")
    html = report(results, tmp_path / "report.html", figures=figures, theory_table=table)
    Page(html)
    part = section(html, "theory")
    text = flat(part)
    assert "figure 09 Gaussians Theorem 5.1 exact 2 -0.003 mean 0, at 1 2.0 3.0" in text
    assert "Equation 4 approximation 1 +0.008 mean 0, at 1 8.0 8.0" in text
    assert "figure 02 &lt;scaled&gt; ρ s(ρ) published 1 -0.3 W, at 0.9 – –" in text
    assert "figure 10 γ I Equation 8 published 1 -0.2 γ = 1, at 8 over 1,000 over 1,000" in text
    assert "figure 04b ρ = 1 2 s(ρ) limit 1 0 cosine, at 1 – –" in text
    # A lower bound lies above what was simulated, and one bound there is not.
    assert "scale 1 lemma 3 of 5 0.5 – ∞ 2.5 – –" in text
    assert 'id="figure_09"' in part
    assert 'id="figure_99"' not in part
    assert 'id="figure_09"' not in section(html, "figures")


def test_a_theory_left_out_leaves_no_section(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    assert 'id="theory"' not in html
    assert 'href="#theory"' not in html


def test_a_missing_table_leaves_the_older_page(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("older")
    with pytest.raises(RecordError, match=r"cells\.parquet: no such file"):
        report(results, out, tables_folder=tmp_path)
    assert out.read_text() == "older"
