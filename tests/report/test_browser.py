"""The page in a real browser, from a file and without a network: curves, search, downloads, phones, the dark."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from nsbench.figures import comparison
from nsbench.report import curves
from tests.browser import browser, complaints, look, needs_browser, offline, requests, wait
from tests.report.pages import IMAGE, LOOK, report
from tests.report.test_claims import write_claims
from tests.report.test_curves import PLOTLY
from tests.report.test_pretrained import PRETRAINED, pretrained_tables
from tests.report.test_specifications import CURVE, with_curves
from tests.report.test_theory import theory_table
from tests.synthetic_records import make_cells, make_records, swept, write_results

pytestmark = needs_browser
LEAK = {"plain": ["training and validation windows overlap, which is told in many words where there is room"]}
CELLS = [
    *make_cells(arms=("baseline", "reversed"), seeds=(0, 1)),
    *make_cells("next_token", ("plain",), ("baseline", *swept((0.05, 0.5), (0.05, 0.75))), (0, 1, 2, 3), leaks=LEAK),
]

LINES = "return document.querySelectorAll('#curves-plot .scatterlayer .trace').length"
WIDE = """
for (const folded of document.querySelectorAll("details")) folded.open = true;
const width = document.documentElement.clientWidth;
const boxes = [...document.querySelectorAll(".wide, .verdicts, #curves-plot, select, figure, pre")];
return [document.documentElement.scrollWidth,
        boxes.filter((box) => box.scrollWidth > box.clientWidth + 1 || box.getBoundingClientRect().right > width)
             .map((box) => `${box.className} ${box.closest("section").id}: ${box.textContent.slice(0, 80)}`)];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A page with every section, opened without a network."""
    folder = tmp_path_factory.mktemp("whole")
    write_results(folder, CELLS, make_records(CELLS, text="Some excerpt"), looks=LOOK)
    parts = {"theory": theory_table(folder / "theory.parquet"), "claims": write_claims(folder)}
    parts["pretrained"] = pretrained_tables(folder / "pretrained", PRETRAINED)
    figures = [folder / f"{name}.png" for name in ("figure_05_modular_addition", "figure_06", "time_to_target")]
    for figure in figures:
        figure.write_bytes(IMAGE)
    tables = with_curves(folder, folder / "with_curves", CURVE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plotly", PLOTLY)
        base = {comparison.key(cell) for cell in CELLS}
        cells = [*CELLS, *(cell for cell in CURVE if comparison.key(cell) not in base)]
        given = {"tables": tables, "figures": figures, "cells": cells, **parts}
        report(folder, folder / "report.html", **given)
    for driver in browser(tmp_path_factory.mktemp("profile")):
        look(driver, 1280)
        offline(driver)
        requests(driver)  # those of the browser's own first page
        driver.get((folder / "report.html").as_uri())
        yield driver


def drawn(page: WebDriver) -> int:
    """The lines of the plot, which is drawn when it comes into sight."""
    page.execute_script("document.getElementById('curves').scrollIntoView()")
    wait(page, "return document.querySelector('#curves-plot .main-svg')")
    return page.execute_script(LINES)


def test_it_loads_nothing_and_has_no_complaints(page: WebDriver) -> None:
    assert drawn(page) > 0
    asked = [one for one in requests(page) if one != page.current_url]
    assert not [one for one in asked if not one.startswith(("data:", "blob:", "chrome"))]
    assert complaints(page) == []


def test_arms_and_seeds_are_switched_on_and_off_and_a_zoom_stays(page: WebDriver) -> None:
    n_lines = drawn(page)
    arms = "return [...document.querySelectorAll('#curves-arms :checked')].map((one) => one.name)"
    shown = page.execute_script(arms)
    assert "baseline" in shown
    assert n_lines == 3 * len(shown)  # all seeds, their median, and their times to target
    extent = "return document.getElementById('curves-plot').layout.xaxis.range"
    whole = page.execute_script(extent)
    panel = page.find_element(By.CSS_SELECTOR, "#curves-plot .nsewdrag")
    drag = ActionChains(page).move_to_element(panel).click_and_hold().move_by_offset(100, 60)
    drag.release().perform()
    wait(page, f"{extent}[0] > 0")
    zoomed = page.execute_script(extent)
    assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
    page.execute_script("document.querySelector('#curves-arms input[name=baseline]').click()")
    wait(page, f"{LINES} === {n_lines - 3}")
    assert "baseline" not in page.execute_script(arms)
    assert page.execute_script(extent) == zoomed
    page.execute_script("document.querySelector('#curves-arms input[name=baseline]').click()")
    page.execute_script("document.getElementById('curves-seeds').click()")
    wait(page, f"{LINES} === {2 * n_lines // 3}")
    page.execute_script("document.getElementById('curves-seeds').click()")
    wait(page, f"{LINES} === {n_lines}")


def test_pointing_at_a_line_tells_its_seed_and_value(page: WebDriver) -> None:
    drawn(page)
    page.execute_script("Plotly.Fx.hover('curves-plot', [{curveNumber: 0, pointNumber: 3}])")
    told = wait(page, "return document.querySelector('#curves-plot .hoverlayer').textContent")
    assert "baseline" in told
    assert "seed 0, step" in told


def test_a_claim_leads_to_its_curves_and_another_metric_can_be_chosen(page: WebDriver) -> None:
    drawn(page)
    link = "document.querySelector('#claim-grok_modular a[data-variant]')"
    page.execute_script(f"document.getElementById('claim-grok_modular').open = true; {link}.click()")
    chosen = page.execute_script("return document.getElementById('curves-variant').value")
    assert chosen == "modular_addition/calibrated"
    choose = "const box = document.getElementById('curves-metric'); box.value = 'val_loss';"
    page.execute_script(choose + "box.dispatchEvent(new Event('change'))")
    title = "return document.getElementById('curves-plot').layout.yaxis.title.text"
    assert page.execute_script(title) == "Validation loss (nats)"
    assert page.execute_script("return location.hash") == "#curves"


def test_the_search_shows_what_it_finds_and_no_more(page: WebDriver) -> None:
    def search(words: str) -> str:
        page.execute_script(
            "const box = document.getElementById('search'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('input'))",
            words,
        )
        return page.execute_script("return document.getElementById('found').textContent")

    shown = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility())"
    shown += ".map((one) => one.id)"
    assert search("36% fewer GROKS").startswith("1 claim")
    assert page.execute_script(shown, "details.claim") == ["claim-grok_modular"]
    assert len(page.execute_script(shown, ".verdicts tbody tr")) == 1
    assert "1 figure" in search("time_to_target runs")
    assert page.execute_script(shown, "section > figure") == ["time_to_target"]
    # Rows of tables too, by what stands above them; a folded table is opened.
    assert search("reversed effects paired") == "1 row of tables"
    assert page.execute_script(shown, "section#effects, section#figures") == ["effects"]
    assert search("no such word anywhere") == "nothing found"
    assert page.execute_script(shown, "main > section") == []
    assert search("") == ""
    assert "curves" in page.execute_script(shown, "main > section")
    assert not page.execute_script("return document.querySelectorAll('[hidden], [data-opened]').length")


def test_a_claim_s_evidence_is_downloaded(page: WebDriver) -> None:
    page.execute_script("document.querySelector('a[download=\"grok_modular.csv\"]').click()")
    folder = Path(page.capabilities["chrome"]["userDataDir"])
    made = folder / "grok_modular.csv"
    for _ in range(600):
        if made.exists() and made.stat().st_size:
            break
        wait(page, "return new Promise((done) => setTimeout(() => done(true), 50))")
    table = pd.read_csv(made)
    assert table["setting"].tolist() == ["calibrated / noise_stability", "as_published / noise_stability"]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page: WebDriver, width: int) -> None:
    look(page, width)
    drawn(page)
    plot = "document.getElementById('curves-plot')"  # it follows the window a moment later
    wait(page, f"return {plot}.querySelector('.main-svg').clientWidth === {plot}.clientWidth")
    whole, wide = page.execute_script(WIDE)
    assert whole <= width
    # A table of many columns scrolls inside its box on a large screen; on a phone its rows are stacked.
    assert wide == [] or width == 1280


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_curves_and_page_are_light_or_dark_alike(page: WebDriver, scheme: str, is_dark: bool) -> None:
    look(page, 1280, scheme)
    drawn(page)
    colour = "return [...document.querySelectorAll('#curves-plot .js-line')].map((line) => line.style.stroke)[1]"
    arm = {False: "rgb(59, 59, 59)", True: "rgb(137, 137, 137)"}[is_dark]
    wait(page, f"{colour.replace('return ', 'return (')}) === '{arm}'")
    shown = page.get_screenshot_as_png()
    with Image.open(io.BytesIO(shown)) as image:
        corner = image.convert("L").getpixel((2, 2))
    assert (corner < 60) == is_dark
    assert complaints(page) == []
