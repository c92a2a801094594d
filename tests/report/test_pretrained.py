"""The report's section on pretrained models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nsbench.analysis.pretrained_tables import tail_bounds
from nsbench.schemas.pretrained import MOMENT, PER_INPUT, STABILITY, TABLES
from nsbench.storage.parquet import read_table, write_table
from tests.report.pages import IMAGE, flat, lines, open_part, report, section
from tests.synthetic_pretrained import Made, make

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
    moments, stability, per_input = [], [], []
    for row in found.measured[found.measured["status"] == "measured"].to_dict("records"):
        case = {name: row[name] for name in ("model", "weights", "inputs", "readout")}
        own, output = case["weights"] == "pretrained", case | {"readout": "output"}
        moments.append(case | {"mean": 1.0, "norm2": 2.0, "variance": 1.0, "scale": 0.5})
        law = {"gaussian": "gaussian", "uniform": "resampling"}.get(case["inputs"])
        # Cross entropy's labels are the tokens that are redrawn.
        tokens = case["inputs"] != "gaussian" and case["readout"] != "cross_entropy"
        of_output = tokens and row["readout"] == "mean_top_logit"
        redrawn = {"noise": "replacement", "rho": math.nan, "correlation": math.nan, "standard_error": 0.5}
        values = [(case, "half_square", 96.0 if own else 6.0)] if tokens else []
        if of_output:
            values.append((output, "decision", 4.75 if own else 1.25))
            values.append((output, "probability_distance", 0.625))
        stability += [of | redrawn | {"reduction": name, "value": value} for of, name, value in values]
        for rho in (0.5, 0.9):
            value = 0.98 if own else 0.5 * rho
            gaussian = {"noise": "gaussian", "rho": rho, "correlation": rho, "standard_error": 0.012}
            token = {"noise": "resampling", "rho": rho, "correlation": (1 + rho) / 2, "standard_error": math.nan}
            for noise in (gaussian, token) if tokens else (gaussian,):
                both = [case | noise | {"reduction": name, "value": value} for name in ("normalised", "pearson")]
                half = {"reduction": "half_square", "value": 2.0 * (1.0 - value)}
                stability += [*both, case | noise | half] if noise["noise"] == law else both
            if law == "resampling" and tokens:
                given = {"readout": 1.0, "influence": 96.0 if own else 6.0}
                if rho == 0.5:
                    per_input += [case | {"quantity": name, "value": number} for name, number in given.items()]
                lost = {"quantity": "half_square", "correlation": (1 + rho) / 2, "value": 2.0 * (1.0 - value)}
                per_input.append(case | lost)
            names = ("probability_dot", "probability_cosine", "decision") if of_output else ()
            stability += [output | token | {"reduction": name, "value": 0.25} for name in names]
    noisy = pd.DataFrame(stability, columns=STABILITY.names)
    moment = pd.DataFrame(moments, columns=MOMENT.names)
    # Eight sequences, in pairs: of the first of a pair each number is `spread` larger, of the other smaller.
    each = pd.DataFrame(per_input, columns=PER_INPUT.names)
    spread = each["quantity"].map({"readout": 1.0, "influence": 0.1, "half_square": 0.2})
    each = pd.concat(
        [each.assign(input=place, value=each["value"] * (1 + (-1) ** place * spread)) for place in range(8)]
    )
    tables = {
        "pretrained_models": found.models,
        "pretrained_measured": found.measured,
        "concentration": concentration,
        "pretrained_stability": noisy,
        "table_1": tail_bounds(noisy, moment, concentration, found.models, each, 15),
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
    return report(results, folder / "report.html", figures=figures, pretrained=tables)


def test_pretrained_models_have_a_section(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained")
    assert 'href="#pretrained"' in pretrained_page
    assert 'id="figure_01"' in part
    assert 'id="figure_99"' not in part
    assert 'id="figure_01"' not in section(pretrained_page, "figures")
    text = flat(part)
    assert "Not the paper's models: decoder, encoder." in text.replace("&#39;", "'")
    assert "Not the paper's text: Some &lt;excerpt&gt;." in text.replace("&#39;", "'")


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
    # Models, patterns of two norms by two ways, two laws of Table 1, two kinds of tokens, three of Gaussian noise, and
    # average sensitivity with two kinds of tokens.
    assert len(tables) == 1 + 2 * 2 + 2 + 2 + 3 + 2
    assert all(sum("gated" in row for row in lines(table)) >= 1 for table in tables)


def test_a_readout_that_a_model_has_not_says_why(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained")
    rows = [row for row in lines(open_part(part)) if row.startswith("encoder") and "not applicable" in row]
    missing = (
        "encoder largest logit at the last position mean over positions of the largest logit cross entropy "
        "not applicable: encoder has no language-model head, so no logits"
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
        f"decoder norm of the mean hidden state {own['n_large']:.0f} of 16 control {control['n_large']:.0f} of 16 "
        f"{own['n_half']:.0f} of 16 control {control['n_half']:.0f} of 16 {share(own, 'first')} control "
        f"{share(control, 'first')} {share(own, 'last')} control {share(control, 'last')} 0 control 0"
    )
    part = section(pretrained_page, "pretrained")
    assert expected in lines(open_part(part))
    assert expected in lines(part.split("Squared L2 norm")[0])
    # Of each sequence by itself: made up to be means of counts.
    assert sum("0.5 of 16 control 0.5 of 16 2.2 of 16" in row for row in lines(part)) == 2 * (4 + 1)
    assert not any("0.5 of 16" in row for row in lines(open_part(part)))


def test_proved_bounds_are_shown_and_those_above_1_say_nothing(pretrained_page: str) -> None:
    part = section(pretrained_page, "pretrained")
    uniform = part.partition("<b>Token ids drawn uniformly</b>")[2].partition("</table>")[0]
    (row,) = (row for row in lines(uniform) if row.startswith("decoder mean over positions of the largest logit"))
    # 96 / (15 * 2) = 3.2 and 6 / 30 = 0.2; of the variance twice that. The correlation (1 + rho) / 2 is 0.75 and 0.95:
    # 0.02 / (1 - 0.75^15) = 0.0203, of the variance 0.04; of the control 0.75 / (1 - 0.75^15) = 0.76, and of the
    # variance more than all is lost. In brackets are limits; 0.0203 / 3.2 = 0.00633 and 0.76 / 0.2 = 3.8.
    assert re.sub(r"to [\d.]+\)|, [\d.]+ to [\d.]+\)", "…)", row) == (
        "decoder mean over positions of the largest logit says nothing (3.2) control 0.2 (…) 0.0203 (…) "
        "control 0.76 (…) says nothing (6.4) control 0.4 (…) 0.0405 (…) control says nothing (1.01) "
        "stability (0.00633…) control influence (3.8…)"
    )
    assert "decoder cross entropy no bound: its labels are the tokens that are redrawn" in lines(uniform)


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
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained=tables), "pretrained")
    gaussian = part.partition("<b>Normal embeddings with the text&#39;s mean and scale</b>")[2].partition("</table>")[0]
    (row,) = (row for row in lines(gaussian) if row.startswith("decoder cross entropy"))
    assert row.endswith("0.04 stability 0.02")
    # A model that has not been measured on these inputs is a row all the same.
    assert "decoder not measured" in lines(
        part.partition("<b>Token ids drawn uniformly</b>")[2].partition("</table>")[0]
    )
    assert "Not the paper&#39;s models: encoder." in flat(part)


def test_a_control_that_failed_is_named_beside_its_model(results: Path, tmp_path: Path) -> None:
    def fail(table: pd.DataFrame) -> pd.DataFrame:
        control = table["weights"] == "random"
        if "status" not in table:
            return table[~control]
        table.loc[control, ["status", "reason"]] = ["unavailable", "no memory"]
        return table

    tables = change(pretrained_tables(tmp_path, {"alone": Made()}), fail)
    part = section(report(results, tmp_path / "report.html", figures=[], pretrained=tables), "pretrained")
    gap = "alone norm of the mean hidden state control unavailable: no memory"
    rows = [row for row in lines(open_part(part)) if row.startswith(gap)]
    assert len(rows) == 2 + 1 + 1
    assert f"{gap} 0.980 ± 0.012 0.980 ± 0.012" in rows
    assert not any("control" in row.removeprefix(gap) for row in rows)


def test_where_no_model_is_to_be_had_every_table_says_so(results: Path, tmp_path: Path) -> None:
    tables = change(pretrained_tables(tmp_path, PRETRAINED), lambda table: table[table["model"] == "away"])
    html = report(results, tmp_path / "report.html", figures=[], pretrained=tables)
    part = section(html, "pretrained")
    assert lines(part).count("away unavailable: gated: set &lt;HF_TOKEN&gt;") == 2 * 2 + 2 + 2 + 3 + 2
    assert 'colspan="0"' not in part
