"""The report holds everything in one file, tells its scale, and hides nothing."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench import readings
from nsbench.pretrained_records import MOMENT, STABILITY, TABLES
from nsbench.pretrained_tables import tail_bounds
from nsbench.records import RecordError, read_table, write_table
from nsbench.report import write_report
from nsbench.scores import SCORE
from nsbench.theory_records import THEORY
from tests.synthetic_pretrained import Made, make
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


PRETRAINED = {
    "decoder": Made(
        n_special=1, remark="dequantised 4-bit", text="Some <excerpt>", inputs=("text", "uniform", "gaussian")
    ),
    "encoder": Made(kind="encoder", inputs=("text", "uniform", "gaussian")),
    "away": Made(reason="gated: set <HF_TOKEN>", source="hub", paper="gemma", inputs=("text", "uniform", "gaussian")),
}
OF_PAPER = PRETRAINED | {"decoder": Made(paper="bert", inputs=("gaussian",))}


def pretrained_tables(folder: Path, made: dict[str, Made]) -> Path:
    """The joined tables of these models: trained weights far more sensitive to one token, and more stable to noise."""
    found = make(made, n_tokens=16, n_sequences=8)
    mean = found.concentration[found.concentration["of"] == "mean"]
    concentration = pd.concat([mean, mean.assign(of="each", n_large=0.5, n_half=2.25)], ignore_index=True)
    moments, stability = [], []
    for row in found.measured[found.measured["status"] == "measured"].to_dict("records"):
        case = {name: row[name] for name in ("model", "weights", "inputs", "readout")}
        own = case["weights"] == "pretrained"
        moments.append(case | {"mean": 1.0, "norm2": 2.0, "variance": 1.0, "scale": 0.5})
        redrawn = {"noise": "replacement", "reduction": "half_square", "rho": math.nan, "correlation": math.nan}
        tokens = case["inputs"] != "gaussian" and case["readout"] != "cross_entropy"
        if tokens:
            stability.append(case | redrawn | {"value": 96.0 if own else 6.0, "standard_error": 0.1})
        for rho in (0.5, 0.9):
            gaussian = {"noise": "gaussian", "rho": rho, "correlation": rho, "standard_error": 0.012}
            token = {"noise": "resampling", "rho": rho, "correlation": (1 + rho) / 2, "standard_error": math.nan}
            value = 0.98 if own else 0.5 * rho
            stability += [case | gaussian | {"reduction": name, "value": value} for name in ("normalised", "pearson")]
            for noise in (gaussian, token):
                law = {"gaussian": "gaussian", "uniform": "resampling"}.get(case["inputs"])
                if noise["noise"] == law and (tokens or law == "gaussian"):
                    stability.append(case | noise | {"reduction": "half_square", "value": 2.0 * (1.0 - value)})
            if not tokens:
                continue
            stability += [case | token | {"reduction": name, "value": value} for name in ("normalised", "pearson")]
            if row["readout"] == "mean_top_logit":
                output = case | token | {"readout": "output"}
                names = ("probability_dot", "probability_cosine", "decision")
                stability += [output | {"reduction": name, "value": 0.25} for name in names]
                changed = case | redrawn | {"readout": "output", "standard_error": 0.5}
                if rho == 0.5:
                    stability.append(changed | {"reduction": "decision", "value": 4.75 if own else 1.25})
                    stability.append(changed | {"reduction": "probability_distance", "value": 0.625})
    noisy = pd.DataFrame(stability, columns=STABILITY.names)
    moment = pd.DataFrame(moments, columns=MOMENT.names)
    tables = {
        "pretrained_models": found.models,
        "pretrained_measured": found.measured,
        "concentration": concentration,
        "pretrained_stability": noisy,
        "table_1": tail_bounds(noisy, moment, concentration, found.models, 15),
    }
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table, TABLES[name], {})
    return folder


def change(folder: Path, how: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """Change each of the tables in `folder`."""
    for path in folder.glob("*.parquet"):
        schema = TABLES[path.stem]
        write_table(path, how(read_table(path, schema)), schema, {})
    return folder


@pytest.fixture(scope="module")
def pretrained_page(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "figure_01.png").write_bytes(IMAGE)
    figures = [results / "figure_99.png", folder / "figure_01.png"]
    tables = pretrained_tables(folder, PRETRAINED)
    return report(results, folder / "report.html", figures=figures, pretrained_tables=tables)


def lines(part: str) -> list[str]:
    """The rows of all tables in some source, each as text."""
    return [flat(row) for row in re.findall(r"<tr>.*?</tr>", part, flags=re.DOTALL)]


def open_part(part: str) -> str:
    """Some source without what is folded."""
    return re.sub(r"<details>.*?</details>", "", part, flags=re.DOTALL)


def test_pretrained_models_have_a_section(pretrained_page: str) -> None:
    assert Page(pretrained_page).open == []
    part = section(pretrained_page, "pretrained")
    assert 'href="#pretrained"' in pretrained_page
    assert 'id="figure_01"' in part
    assert 'id="figure_99"' not in part
    assert 'id="figure_01"' not in section(pretrained_page, "figures")
    text = flat(part)
    assert "Not the paper's models: decoder, encoder." in text.replace("&#39;", "'")
    assert "Not the paper's text: Some &lt;excerpt&gt;." in text.replace("&#39;", "'")
    assert not re.search(r"https?://|<script|<link|url\(", pretrained_page)


def test_pretrained_models_left_out_leave_no_section(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    assert 'id="pretrained"' not in html
    assert 'href="#pretrained"' not in html


def test_the_models_are_listed_with_what_they_are(pretrained_page: str) -> None:
    found = [row.replace("&#39;", "'") for row in lines(section(pretrained_page, "pretrained"))]
    assert found[1] == (
        "decoder dequantised 4-bit not one of the paper's models measured package: decoder 0.1 causal MadeUp 1,000 "
        "6 layers of 4 heads, width 16 Some &lt;excerpt&gt; 16 1 special 8"
    )
    assert found[2].startswith("decoder control: random weights dequantised 4-bit measured decoder 0.1 causal")
    assert found[5].startswith("away unavailable gated: set &lt;HF_TOKEN&gt; hub: away 0.1 –")


def test_an_unavailable_model_is_a_row_of_every_table(pretrained_page: str) -> None:
    tables = re.findall(r"<tbody>.*?</tbody>", section(pretrained_page, "pretrained"), flags=re.DOTALL)
    readings = [table for table in tables if "tokens redrawn" in table or "standard units" in table]
    others = [table for table in tables if table not in readings]
    assert len(readings) == 4
    # Models, patterns of two norms by two ways, two laws of Table 1, two kinds of tokens, three of Gaussian noise, and
    # average sensitivity with two kinds of tokens.
    assert len(others) == 1 + 2 * 2 + 2 + 2 + 3 + 2
    assert all(sum("gated" in row for row in lines(table)) >= 1 for table in others)
    folds = re.findall(r"<details>.*?</details>", section(pretrained_page, "pretrained"), flags=re.DOTALL)
    assert any("away: all readings" in fold and "unavailable: gated" in fold for fold in folds)


def test_a_readout_that_a_model_has_not_says_why(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained")
    rows = [row for row in lines(open_part(part)) if row.startswith("encoder") and "not applicable" in row]
    missing = (
        "encoder top logit, last position top logit, mean over positions cross entropy not applicable: encoder has no "
        "language-model head, so no logits"
    )
    # Two norms, Table 1 with two kinds of inputs, Gaussian noise; and the output, its sensitivity too.
    assert rows.count(missing) == 5
    assert rows[-3:].count("encoder not applicable: no language-model head, so no probabilities") == 2
    assert len(rows) == 7


def test_patterns_stand_beside_those_of_the_control(pretrained_page: str, tmp_path: Path) -> None:
    found = make(PRETRAINED, n_tokens=16, n_sequences=8).concentration
    at = found[
        (found["of"] == "mean")
        & (found["site"] == "embeddings")
        & (found["inputs"] == "text")
        & (found["norm"] == "l1")
    ]
    both = at[(at["model"] == "decoder") & (at["readout"] == "pooled_norm")].set_index("weights")
    own, control = both.loc["pretrained"], both.loc["random"]

    def share(row: pd.Series, end: str) -> str:
        return f"{100 * row[f'{end}_share']:.2g}%, rank {row[f'{end}_rank']:.0f}"

    expected = (
        f"decoder norm of the pooled hidden state {own['n_large']:.0f} of 16 control {control['n_large']:.0f} of 16 "
        f"{own['n_half']:.0f} of 16 control {control['n_half']:.0f} of 16 {share(own, 'first')} control "
        f"{share(control, 'first')} {share(own, 'last')} control {share(control, 'last')} 0 control 0"
    )
    part = section(pretrained_page, "pretrained")
    assert expected in lines(open_part(part))
    assert expected in lines(part.split("Squared L2 norm")[0])
    # Of each sequence by itself: made up to be means of counts.
    assert sum("0.5 of 16 control 0.5 of 16 2.2 of 16" in row for row in lines(part)) == 2 * (4 + 1)
    assert not any("0.5 of 16" in row for row in lines(open_part(part)))


def test_a_readout_without_any_influence_says_so(results: Path, tmp_path: Path) -> None:
    def silence(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["readout"] != "pooled_norm"] if "gini" in table else table

    tables = change(pretrained_tables(tmp_path, {"alone": Made()}), silence)
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained_tables=tables), "pretrained")
    assert lines(part).count("alone norm of the pooled hidden state no influence at any position") == 2 * 2


def test_proved_bounds_are_shown_and_those_above_1_say_nothing(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained")
    uniform = part.partition("<b>Uniform tokens</b>")[2].partition("</table>")[0]
    (row,) = (row for row in lines(uniform) if row.startswith("decoder top logit, mean over positions"))
    # 96 / (15 * 2) = 3.2 and 6 / 30 = 0.2; of the variance twice that. The correlation (1 + rho) / 2 is 0.75 and 0.95:
    # 0.02 / (1 - 0.75^15) = 0.0203, of the variance 0.04; of the control 0.75 / (1 - 0.75^15) = 0.76, and of the
    # variance more than all is lost.
    assert row == (
        "decoder top logit, mean over positions says nothing (3.2) control 0.2 0.0203 control 0.76 says nothing (6.4) "
        "control 0.4 0.0405 control says nothing (1.01) stability control influence"
    )
    assert "decoder cross entropy no bound: its labels are the tokens that are redrawn" in lines(uniform)
    assert "which reading gives its numbers cannot be told here" in flat(part)
    folded = [row for row in lines(part) if row not in lines(open_part(part))]
    assert any(row.startswith("Σ E|∂f|, raw embeddings cross entropy text") for row in folded)
    own = [row for row in folded if row.startswith("tokens redrawn, correlation taken as ρ top logit, mean over")]
    # 1 - 0.5^15 and 1 - 0.9^15 = 0.794.
    assert own[-2].endswith("uniform tokens divided by E f² 0.02 control 0.75 0.0252 control 0.693 0.02 control 0.693")
    assert not any("Σ E|∂f|" in row for row in lines(open_part(part)))


def test_stability_is_told_at_each_rho_with_its_error(pretrained_page: str) -> None:
    found = lines(open_part(section(pretrained_page, "pretrained")))
    assert "output, text ρ = 0.5 ρ = 0.9" in found
    assert "decoder cosine of the probabilities 0.250 control 0.250 0.250 control 0.250" in found
    assert "decoder cross entropy 0.980 ± 0.012 control 0.250 ± 0.012 0.980 ± 0.012 control 0.450 ± 0.012" in found


def test_average_sensitivity_is_told_of_the_output(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained").partition("<h3>Average sensitivity</h3>")[2]
    assert "output, text changed answers positions, summed distance of probabilities summed" in lines(part)
    assert "decoder 4.750 ± 0.500 control 1.250 ± 0.500 0.625 ± 0.500 control 0.625 ± 0.500" in lines(part)


def test_the_paper_s_numbers_stand_beside_those_of_its_models(results: Path, tmp_path: Path) -> None:
    tables = pretrained_tables(tmp_path, OF_PAPER)
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained_tables=tables), "pretrained")
    found = lines(open_part(part))
    gaussian = part.partition("<b>Gaussian embeddings</b>")[2].partition("</table>")[0]
    (row,) = (row for row in lines(gaussian) if row.startswith("decoder cross entropy"))
    assert row.endswith("0.04 stability 0.02")
    # A model that has not been measured on these inputs is a row all the same.
    assert "decoder not measured" in lines(part.partition("<b>Uniform tokens</b>")[2].partition("</table>")[0])
    # 0.02 / (1 - 0.5^15) is the paper's 0.02 for bert.
    assert any(row.endswith("divided by E f² ρ = 0.5 stability share 1 1 1") for row in found)
    assert "cannot be told here" not in flat(part)
    assert "Not the paper&#39;s models: encoder." in flat(part)


def test_without_a_control_the_model_stands_alone(results: Path, tmp_path: Path) -> None:
    tables = pretrained_tables(tmp_path, {"alone": Made(weights=("pretrained",))})
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained_tables=tables), "pretrained")
    rows = [row for row in lines(part) if row.startswith("alone")]
    assert rows
    assert not any("control" in row for row in rows)
    assert "alone cross entropy 0.980 ± 0.012 0.980 ± 0.012" in rows


def test_a_control_that_failed_is_named_beside_its_model(results: Path, tmp_path: Path) -> None:
    def fail(table: pd.DataFrame) -> pd.DataFrame:
        control = table["weights"] == "random"
        if "status" not in table:
            return table[~control]
        table.loc[control, ["status", "reason"]] = ["unavailable", "no memory"]
        return table

    tables = change(pretrained_tables(tmp_path, {"alone": Made()}), fail)
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained_tables=tables), "pretrained")
    gap = "alone norm of the pooled hidden state control unavailable: no memory"
    rows = [row for row in lines(open_part(part)) if row.startswith(gap)]
    assert len(rows) == 2 + 1 + 1
    assert f"{gap} 0.980 ± 0.012 0.980 ± 0.012" in rows
    assert not any("control" in row.removeprefix(gap) for row in rows)


def test_where_no_model_is_to_be_had_every_table_says_so(results: Path, tmp_path: Path) -> None:
    tables = change(pretrained_tables(tmp_path, PRETRAINED), lambda table: table[table["model"] == "away"])
    html = report(results, tmp_path / "report.html", figures=[], pretrained_tables=tables)
    assert Page(html).open == []
    part = section(html, "pretrained")
    assert lines(part).count("away unavailable: gated: set &lt;HF_TOKEN&gt;") == 2 * 2 + 2 + 2 + 3 + 2
    assert 'colspan="0"' not in part


def test_a_missing_table_of_pretrained_models_is_named(results: Path, tmp_path: Path) -> None:
    tables = pretrained_tables(tmp_path / "tables", PRETRAINED)
    (tables / "table_1.parquet").unlink()
    with pytest.raises(RecordError, match=r"table_1\.parquet: no such file"):
        report(results, tmp_path / "report.html", pretrained_tables=tables)


def test_a_missing_table_leaves_the_older_page(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("older")
    with pytest.raises(RecordError, match=r"cells\.parquet: no such file"):
        report(results, out, tables_folder=tmp_path)
    assert out.read_text() == "older"
