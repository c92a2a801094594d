"""The verdict table and the claims: every claim once, marked by its scale, with its figure and rule."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.claims.definitions import load_claims
from nsbench.report.claims import SIGNS, rule_parts
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, VERDICTS
from nsbench.storage.parquet import write_table
from tests.report.pages import IMAGE, Page, flat, report, section

CLAIMS = Path(__file__).parents[2] / "claims.yaml"
HOSTILE = "<script>alert('x')</script>"
NAN = math.nan
RULE = "reproduced where the interval lies above 30; partly where it lies above 0; not reproduced where below 0"

# id, place, group, claim, paper, paper_text, unit, ours, low, high, n, n_unit, verdict, figure, scale
ROWS: list[tuple[Any, ...]] = [
    ("parity_noise", "Definition 6.1", "measure", "The correlation under resampling is ρ", NAN, "ρ", "1", NAN, NAN,
     NAN, None, "", "paper in error", "", "none"),
    ("relu", "Theorem 5.1", "theory", "The stability of one ReLU has a closed form", NAN, "a formula",
     "largest difference", 0.0003, NAN, NAN, 42, "points", "reproduced", "figure_09", "none"),
    ("relu_quadratic", "Equation 4", "theory", "A quadratic approximates it", NAN, "≈", "1", 0.0113, NAN, NAN, 42,
     "points", "partly", "figure_09", "none"),
    ("grok_modular", "Section 6, Figure 5", "training",
     "On modular addition the regulariser groks in 36% fewer steps", 26.7, "4,500 → 3,300 steps", "% fewer steps",
     -6.6, -7.7, -5.2, 5, "pairs", "not reproduced", "figure_05_modular_addition", "demo"),
    ("grok_parity", "Section 6", "training", "On noisy sparse parity it is about 35% faster", 35.0, "", "% faster", 4.0,
     -12.0, 21.0, 6, "pairs", "undecided", "figure_05_modular_addition", "demo"),
    ("many_choices", "Appendix J", "training", "It helps for a variety of (ρ, γ)", NAN, "", "settings", 12345.6, NAN,
     math.inf, 3, "settings", "partly", "specification_curve_modular_addition", "demo"),
    ("stable", "Section 6.2", "training", "Regularised models stay stable", NAN, "stay stable", "", NAN, NAN, NAN,
     None, "", "not testable as stated", "", "paper"),
    ("first_last", "Figure 1", "pretrained", f"First and last tokens matter most {HOSTILE}", NAN, "", "models", NAN,
     NAN, NAN, None, "models", "not run", "figure_77", "paper"),
]  # fmt: skip


def make_claims(scale: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of CLAIM and CLAIM_EVIDENCE; `scale` in place of each claim's own."""
    names = ["id", "place", "group", "claim", "paper", "paper_text", "unit", "ours", "ours_low", "ours_high", "n"]
    claims = pd.DataFrame(ROWS, columns=[*names, "n_unit", "verdict", "figure", "scale"])
    claims["n"] = claims["n"].astype(object).where(claims["n"].notna(), None)
    claims["reason"] = [f"because of {name}" for name in claims["id"]]
    claims = claims.assign(
        source="haris2026",
        rule=RULE,
        settings="calibrated",
        text="",
        partial="",
        note="",
        severity="",
        erratum=None,
        n_settings=1,
    )
    claims["erratum"] = claims["erratum"].where(claims["id"] != "parity_noise", 24)
    claims.loc[claims["id"] == "grok_parity", "n_settings"] = 2
    claims.loc[claims["id"] == "grok_parity", "note"] = "few pairs"
    claims.loc[claims["id"] == "grok_parity", "text"] = "Some <excerpt>"
    if scale is not None:
        claims["scale"] = scale
    one = claims[claims["id"] == "grok_modular"]
    settings = {"calibrated / noise_stability": -6.6, "as_published / noise_stability": NAN}
    found = [one.assign(setting=name, ours=ours, variant=name.split(" / ")[0]) for name, ours in settings.items()]
    evidence = pd.concat(found, ignore_index=True).assign(task="modular_addition")
    return claims[CLAIM.names], evidence[CLAIM_EVIDENCE.names]


def write_claims(folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame] | None = None) -> Path:
    """Write both tables into `folder`, which is returned."""
    claims, evidence = tables or make_claims()
    stamp = {"commit": "c0ffee", "source_digest": "feedfeedfeedfeed", "device": "cpu"}
    for name, table, schema in (("claims", claims, CLAIM), ("claim_evidence", evidence, CLAIM_EVIDENCE)):
        write_table(folder / f"{name}.parquet", table.to_dict("records"), schema, stamp)
    return folder


@pytest.fixture(scope="module")
def html(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("claims")
    (folder / "specification_curve_modular_addition.png").write_bytes(IMAGE)
    figures = [*sorted(results.glob("*.png")), folder / "specification_curve_modular_addition.png"]
    return report(results, folder / "report.html", figures=figures, claims=write_claims(folder))


def verdict_rows(html: str) -> dict[str, str]:
    """Claim -> the source of its row in the verdict table."""
    body = section(html, "verdicts").partition("<tbody")[2].partition("</tbody>")[0]
    found = re.findall(r"<tr.*?</tr>", body, flags=re.DOTALL)
    return {re.search(r'href="#claim-(\w+)"', row).group(1): row for row in found}


def details(html: str, claim: str) -> str:
    return html.partition(f'id="claim-{claim}"')[2].partition("</details>")[0]


def test_the_verdicts_come_first_and_every_claim_is_a_row(html: str) -> None:
    assert list(verdict_rows(html)) == [row[0] for row in ROWS]
    assert re.findall(r'<section id="(\w+)">', html)[:2] == ["verdicts", "claims"]


def test_a_row_has_place_numbers_interval_count_and_verdict(html: str) -> None:
    rows = {name: flat(row) for name, row in verdict_rows(html).items()}
    assert rows["grok_modular"] == (
        "Section 6, Figure 5 training On modular addition the regulariser groks in 36% fewer steps "
        "4,500 → 3,300 steps 6.6% more steps 5.2 to 7.7%, 5 pairs ✗ not reproduced (demo scale)"
    )
    assert rows["relu"].endswith("a formula 0.0003 largest difference 42 points ✓ reproduced")
    assert rows["grok_parity"].endswith(
        "35% faster 4% faster 12% slower to 21% faster, 6 pairs, the first of 2 settings ≈ undecided (demo scale)"
    )
    assert rows["stable"].endswith("stay stable – ? not testable as stated")
    assert "12,346 settings – to ∞, 3 settings" in rows["many_choices"]


def test_verdicts_and_groups_are_counted_and_can_be_picked(html: str) -> None:
    text = flat(section(html, "verdicts"))
    assert "all 8 ✓ reproduced 1 ◐ partly 2 ✗ not reproduced 1 ? not testable as stated 1 ! paper in error 1" in text
    assert "all measure 1 theory 2 training 4 pretrained 1" in text
    page = Page(html)
    picks = {attributes["id"] for tag, attributes in page.tags if tag == "input"}
    rules = set(re.findall(r"#verdicts:has\(#([\w-]+):checked\) \.verdicts tbody tr:not", html))
    assert rules == {pick for pick in picks if re.fullmatch(r"pick-[vg]\d", pick)}
    assert {rule.removeprefix("pick-") for rule in rules} == {
        name for row in verdict_rows(html).values() for name in re.search(r'class="([^"]*)"', row).group(1).split()
    }
    for name in ("verdict", "group", "order"):
        group = [a for tag, a in page.tags if tag == "input" and a.get("name") == name]
        assert sum("checked" in attributes for attributes in group) == 1


def test_of_several_papers_each_can_be_picked(results: Path, html: str, tmp_path: Path) -> None:
    assert "Haris et al." not in html
    tables = make_claims()
    tables[0].loc[tables[0]["id"].isin(["relu", "stable"]), "source"] = "vasudeva2025"
    page = report(results, tmp_path / "report.html", claims=write_claims(tmp_path, tables))
    text = flat(section(page, "verdicts"))
    assert (
        "8 statements of the papers Noise Stability of Transformer Models (Haris et al. 2026) and Transformers" in text
    )
    assert "Paper all Haris et al. 2026 6 Vasudeva et al. 2025 2 Part" in text
    rows = verdict_rows(page)
    assert flat(rows["relu"]).startswith("Theorem 5.1 theory, Vasudeva et al. 2025 The stability")
    marks = {name: set(re.search(r'class="([^"]*)"', row).group(1).split()) for name, row in rows.items()}
    assert [name for name in marks if "p1" in marks[name]] == ["relu", "stable"]
    assert sum("p0" in found for found in marks.values()) == 6
    heads = re.findall(r"<h3>(.*?)</h3>", section(page, "claims"))
    assert [flat(head) for head in heads if "et al." in head] == [
        *(f"{part} (Haris et al. 2026)" for part in ("Measure", "Theory", "Training", "Pretrained")),
        *(f"{part} (Vasudeva et al. 2025)" for part in ("Theory", "Training")),
    ]
    # Partly (v2) is of both theory and training, and of the first paper (p0) alone.
    empty = re.findall(r"#verdicts((?::has\(#pick-\w+:checked\))+) \.none", page)
    chosen = {frozenset(re.findall(r"pick-(\w+)", keys)) for keys in empty}
    there = [found | {""} for found in marks.values()]
    assert {"v2", "p1"} in chosen
    for keys in chosen:
        assert not any(keys <= found for found in there)
        assert all(any(keys - {key} <= found for found in there) for key in keys)


def test_a_pick_without_rows_says_so(html: str) -> None:
    """Reproduced (v0) is only of the theory (g1), not of what is measured (g0)."""
    rule = "#verdicts:has(#pick-v0:checked):has(#pick-{}:checked) .none {{ display: block; }}"
    assert rule.format("g0") in html
    assert rule.format("g1") not in html


def test_verdicts_from_the_demo_are_no_verdict_on_the_paper(results: Path, html: str, tmp_path: Path) -> None:
    text = flat(section(html, "verdicts"))
    assert "Demo scale: no verdict on the paper. 3 of these 8 rows" in text
    assert "3 come from formulas alone" in text
    rows = verdict_rows(html)
    assert all(("demo scale" in rows[row[0]]) == (row[-1] == "demo") for row in ROWS)
    claims = write_claims(tmp_path, make_claims("paper"))
    paper = report(results, tmp_path / "report.html", scale="paper", claims=claims)
    assert "demo scale" not in paper.lower()
    assert "no verdict on the paper" not in paper


def test_a_claim_has_its_rule_reason_settings_and_evidence(html: str) -> None:
    text = flat(details(html, "grok_modular"))
    assert "Rule reproduced where the interval lies above 30" in text
    assert "In claims.yaml under id: grok_modular" in text
    assert "Paper 4,500 → 3,300 steps (26.7% fewer steps) , Section 6, Figure 5" in text
    assert "calibrated / noise_stability 6.6% more steps 5.2 to 7.7%, 5 pairs ✗ not reproduced (demo scale)" in text
    assert "as_published / noise_stability –" in text
    other = flat(details(html, "grok_parity"))
    assert "Note few pairs" in other
    assert "Text Some &lt;excerpt&gt;" in other
    assert "<table" not in details(html, "grok_parity")


def test_what_the_claim_tells_of_a_setting_is_not_told_again(results: Path, tmp_path: Path) -> None:
    claims, evidence = make_claims()
    claims.loc[claims["id"] == "grok_modular", ["reason", "note"]] = ["A in both; B in none.", "a note; more"]
    evidence["reason"], evidence["note"] = ["B in none.", "C alone."], ["a note", "a note of its own"]
    html = report(results, tmp_path / "report.html", claims=write_claims(tmp_path, (claims, evidence)))
    text = flat(html)  # of the whole page, its errata and tables too
    for told in ("B in none.", "C alone.", "a note of its own", "a note; more"):
        assert text.count(told) == 1


def test_a_claim_s_rule_is_a_list_of_conditions_also_where_claims_share_it() -> None:
    every = {one.entry.id: one for one in load_claims(CLAIMS)}
    for claim in every.values():
        name, conditions = rule_parts(claim.rule_text)
        assert dict(conditions) == claim.conditions
        assert name == (claim.entry.rule if isinstance(claim.entry.rule, str) else "")


def test_a_claim_has_its_evidence_as_csv_its_runs_and_its_curves(html: str) -> None:
    page = Page(html)
    (link,) = [attributes for _, attributes in page.tags if attributes.get("download") == "grok_modular.csv"]
    _, _, data = link["href"].partition("base64,")
    rows = pd.read_csv(io.BytesIO(base64.b64decode(data)))
    assert rows["setting"].tolist() == ["calibrated / noise_stability", "as_published / noise_stability"]
    assert rows["ours"].iloc[0] == -6.6  # numbers, not words
    code = [attributes for tag, attributes in page.tags if tag == "code" and "data-task" in attributes]
    assert [one["data-filter"] for one in code] == ["params.variant = 'calibrated'", "params.variant = 'as_published'"]
    # Of the two only `calibrated` is in the grid.
    assert 'href="#curves" data-variant="modular_addition/calibrated"' in details(html, "grok_modular")
    for claim in ("grok_parity", "relu"):
        assert "download" not in details(html, claim)
        assert "MLflow" not in details(html, claim)


def test_a_figure_stands_at_its_first_claim_and_is_linked_from_the_next(html: str) -> None:
    assert 'id="figure_05_modular_addition"' in details(html, "grok_modular")
    assert 'href="#figure_05_modular_addition"' in details(html, "grok_parity")
    assert 'href="#specification_curve_modular_addition"' in details(html, "many_choices")
    assert "<img" not in details(html, "many_choices")
    # A figure that was not drawn is no dead link.
    assert "figure_77" not in html
    assert html.count("<img") == 3


def test_a_page_without_claims_says_that_they_were_not_run(plain: str) -> None:
    assert "The claims were not run" in section(plain, "verdicts")
    assert not section(plain, "claims")
    assert 'href="#claims"' not in plain
    assert "finds in error" not in plain


def test_a_claim_in_error_names_its_erratum_and_hostile_text_is_not_run(html: str) -> None:
    assert "; erratum 24 in <code>docs/errata.md</code>" in details(html, "parity_noise")
    assert HOSTILE not in html
    assert HOSTILE in Page(html).text


def test_a_claim_without_any_number_is_a_row(results: Path, tmp_path: Path) -> None:
    claims, evidence = make_claims()
    claims = claims.assign(paper=NAN, paper_text="", ours=NAN, ours_low=NAN, ours_high=NAN, n=None)
    html = report(results, tmp_path / "report.html", claims=write_claims(tmp_path, (claims, evidence)))
    rows = [flat(row) for row in verdict_rows(html).values()]
    assert len(rows) == len(ROWS)
    assert all("– –" in row for row in rows)
    assert "nan" not in flat(section(html, "verdicts")).lower()
    assert "None" not in flat(section(html, "verdicts"))


def test_every_verdict_has_a_sign() -> None:
    assert list(SIGNS) == list(VERDICTS)
    assert len(set(SIGNS.values())) == len(VERDICTS)
