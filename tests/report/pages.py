"""Reports of made-up results, each checked as it is made, and ways to read a page."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from nsbench.report.page import Results, write_report
from tests.synthetic_records import make_cells, make_records, write_results

IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = make_cells(arms=("baseline", "gentle", "reversed"), seeds=(0, 1, 2, 3, 4, 5), threshold=0.95)
RISES = {
    **{("baseline", seed): 2000.0 + 40 * seed for seed in range(6)},
    **{("gentle", seed): 1000.0 + 60 * seed for seed in range(6)},
    **{("reversed", seed): 1e9 for seed in range(6)},
}
LOOK = {"pairs": [6], "alpha": 0.05}
"""One look, at all pairs."""
VOID = ("meta", "img", "br", "input")


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
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes no <{tag}>"

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def report(results: Path, out: Path, scale: str = "demo", **changes: Any) -> str:
    given = {
        "figures": sorted(results.glob("*.png")),
        "tables": results / "tables",
        "collected": results / "collected",
        "cells": CELLS,
    }
    made = Results(**(given | {"scale": scale} | changes))
    write_report(made, out, '{"grid":["<b>"]}', "fedcba9876543210")
    html = out.read_text()
    check(Page(html))
    return html


def page_of(folder: Path, cells: list[dict[str, Any]], *given: Any, **records: Any) -> str:
    """The page of made-up records (`make_records`) of these cells, which are written into `folder`."""
    write_results(folder, cells, make_records(cells, *given, **records), looks=LOOK)
    return report(folder, folder / "report.html", figures=[], cells=cells)


def check(page: Page) -> None:
    """Every page is whole and loads nothing, links lead somewhere, figures have names and tables heads."""
    assert page.open == []
    assert not {"link", "iframe", "object", "base", "source"} & {tag for tag, _ in page.tags}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "script":
            assert "src" not in attributes
        if tag == "a":
            is_file = "download" in attributes and attributes["href"].startswith("data:text/csv")
            assert is_file or attributes["href"].removeprefix("#") in ids
        if tag == "img":
            assert attributes["src"].startswith("data:")
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"]
        # What scrolls sideways can be reached and scrolled with the keyboard.
        if attributes.get("class") == "wide":
            assert (attributes["tabindex"], bool(attributes["aria-label"])) == ("0", True)


def section(html: str, name: str) -> str:
    """The source of a section; empty where the page has none of that name."""
    return html.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def flat(html: str) -> str:
    """The text of some source in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def lines(part: str) -> list[str]:
    """The rows of all tables in some source, each as text."""
    return [flat(row) for row in re.findall(r"<tr>.*?</tr>", part, flags=re.DOTALL)]


def open_part(part: str) -> str:
    """Some source without what is folded."""
    return re.sub(r"<details>.*?</details>", "", part, flags=re.DOTALL)
