"""The report's section on sensitivity: architectures and arms at matched points of training, and rankings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.report.pages import IMAGE, LOOK, flat, open_part, report, section
from tests.synthetic_matched import FACTORS, make_image_cells, make_image_records
from tests.synthetic_records import write_results

ARMS = ("baseline", "sensitivity")
RATIO = r"([\d.]+) [\d.]+ to [\d.]+ "


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, cells = tmp_path_factory.mktemp("models"), make_image_cells(arms=ARMS)
    write_results(folder, cells, make_image_records(cells, arm_gain={"sensitivity": 0.02}), looks=LOOK)
    picture = folder / "sensitivity_laws_fashion_mnist.png"
    picture.write_bytes(IMAGE)
    return report(folder, folder / "report.html", figures=[picture], cells=cells)


def test_models_are_compared_at_each_matching_with_their_intervals(html: str) -> None:
    part = section(html, "sensitivity")
    text = flat(open_part(part))
    assert "Fashion-MNIST: one token changed by noise on a patch, σ = 1" in text
    for variant in ("mlp", "cnn", "convmixer", "lstm"):
        row = re.search(rf"{variant} / baseline vit / baseline 6 {RATIO * 4}", text)
        assert row, variant
        assert all(0.7 < float(value) / FACTORS[variant] < 1.4 for value in (row[1], row[4]))
    rows = dict(re.findall(r"<tr[^>]*><td[^>]*><b>(\w+) / \w+</b>(.*?)</tr>", open_part(part), re.DOTALL))
    assert 'class="n fewer">0.' in rows["mlp"]
    assert 'class="n more">' in rows["convmixer"]
    assert 'class="n fewer">0.' not in rows["convmixer"].partition("corrupted accuracy")[0]


def test_an_arm_is_compared_with_its_baseline_and_more_accuracy_is_better(html: str) -> None:
    part = section(html, "sensitivity")
    row = re.search(r"<b>vit / sensitivity</b>(.*?)</tr>", part, re.DOTALL)[1]
    text = flat(row)
    assert text.startswith("vit / baseline 6 ")
    fields = re.findall(r'<td data-head="corrupted accuracy, points more" class="([^"]*)">([^<]*)<', row)
    assert fields[0][0] == "n fewer"
    assert fields[0][1].startswith("+")


def test_other_laws_and_rankings_are_folded_away(html: str) -> None:
    part = section(html, "sensitivity")
    assert "another image's patch" not in flat(open_part(part))
    laws = part.partition("Under other laws")[2].partition("</table>")[0]
    assert len(re.findall(r"<tr", laws)) == 1 + 3 * 5
    assert "another image's patch" in flat(laws).replace("&#39;", "'")
    ranks = flat(part.partition("Does it rank models")[2].partition("</table>")[0])
    assert re.search(
        r"flips, 90% of tokens kept sensitivity S Kendall's tau of variants \d+ 0\.\d\d ", ranks.replace("&#39;", "'")
    )
    assert "sensitivity S accuracy on corrupted images partial rho, given clean accuracy" in ranks
    assert 'id="sensitivity_laws_fashion_mnist"' in part


def test_a_grid_that_measured_none_has_no_such_section(results: Path, tmp_path: Path) -> None:
    assert 'id="sensitivity"' not in report(results, tmp_path / "report.html")
