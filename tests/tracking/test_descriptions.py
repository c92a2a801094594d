"""A run in sentences, its settings as an overlay, and its cell's curves as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from nsbench.tracking.descriptions import metric_words, run_note, settings_text
from nsbench.tracking.picture import POINTS, Panel, draw, ticks
from nsbench.workflow.grid import expand, load, load_files
from nsbench.workflow.plan import plain
from tests.config.test_config import TINY, overlaid
from tests.tracked_results import PROJECT, cell

RUN = {
    **{"task": "next_token", "variant": "calibrated", "arm": "baseline", "seed": 3, "steps": 200, "n_parameters": 1234},
    **{"status": "completed", "device": "cpu", "text": "", "record": "", "run_key": "0a1b2c3d4e5f67"},
}
TARGET = {
    **{"metric": "val_accuracy_known", "threshold": 0.5, "reached": True, "step": 120.0, "seconds": 3.21, "flops": 4e9},
    **{"n_lost": 2, "budget_steps": 200},
}
SVG = "{http://www.w3.org/2000/svg}"


def test_a_note_says_what_is_known_and_nothing_of_what_is_not() -> None:
    made, last = cell("next_token", "baseline", [3]), {"val_accuracy": 0.61803, "val_loss": 1.5}
    note = run_note(made, {**RUN, "text": "WikiText-2", "record": "records/a.parquet"}, last, TARGET)
    for part in (
        "It reached validation accuracy on known targets 0.5 at step 120 and held it, after 3.21 s of training",
        "Later it missed it at 2 evaluations.",
        "It ended with validation accuracy 0.618 and validation loss 1.5.",
        "Data: WikiText-2.",
        "**Leak:** windows overlap; no mask.",
        "it came from `records/a.parquet` (run key `0a1b2c3d4e5f`)",
    ):
        assert part in note
    note = run_note(made, RUN, {"val_accuracy": math.nan, "val_loss": math.nan}, None)
    assert "ended with" not in note
    assert "Text:" not in note
    assert "`runs/next_token/calibrated/baseline/seed-3` in the results folder" in note


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("val_loss", "validation loss"),
        ("train_accuracy", "training accuracy"),
        ("val_accuracy_unpadded", "validation accuracy on unpadded targets"),
        ("sharpness", "sharpness"),
    ],
)
def test_scores_in_words(name: str, words: str) -> None:
    assert metric_words(name) == words


def test_the_settings_of_a_run_laid_over_config_train_that_cell(tmp_path: Path) -> None:
    cells = expand(load(overlaid(TINY)))
    values = [one for one in plain(cells) if one["task"] != "modular_addition" or one["choices"]]
    assert len(values) > 5
    for value in values:
        (tmp_path / "settings.yaml").write_text(settings_text(value, {**RUN, "seed": 1}))
        again = expand(load_files([PROJECT / "config.yaml", tmp_path / "settings.yaml"]))[-1]
        (known,) = [
            one for one in cells if all(getattr(one, name) == value[name] for name in ("task", "variant", "arm"))
        ]
        assert (again.settings, again.arm_settings, again.seeds) == (known.settings, known.arm_settings, [1])
        assert (again.task, again.variant, again.arm) == (known.task, known.variant, known.arm)


def test_the_text_that_a_run_saw_is_named_with_its_settings() -> None:
    text = settings_text(cell("next_token", "baseline", [3]), {**RUN, "text": "WikiText-2"})
    assert text.splitlines()[:2] == [
        "# Trains this run again, beside its baseline: make reproduce OVERLAY=settings.yaml",
        "# The data it saw: WikiText-2",
    ]
    assert yaml.safe_load(text)["tasks"]["next_token"]["variants"]["calibrated"]["data"] == {"n": 4}


def drawn(*panels: Panel) -> Any:
    return ElementTree.fromstring(draw("a <b> & c", panels))


def test_a_picture_has_its_curves_where_their_values_are() -> None:
    steps = [0, 50, 100]
    root = drawn(Panel("accuracy", {0: (steps, [0.0, 0.5, 1.0]), 4: (steps, [0.0, math.nan, 0.8])}, line=0.95))
    first, second = (one.get("points").split() for one in root.iter(f"{SVG}polyline"))
    assert (first, second) == (["0.0,260.0", "190.0,130.0", "380.0,0.0"], ["0.0,260.0", "380.0,52.0"])
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert texts[0] == "a <b> & c"
    assert {"accuracy", "0", "0.2", "1", "100", "target", "seed 0", "seed 4"} <= set(texts)


def test_a_picture_of_nothing_of_one_value_and_of_a_long_run_is_a_picture() -> None:
    assert not list(drawn(Panel("loss", {})).iter(f"{SVG}polyline"))
    (none,) = drawn(Panel("loss", {0: ([0, 1], [math.nan, math.inf])})).iter(f"{SVG}polyline")
    assert none.get("points") == ""
    assert "nan" not in draw("a", [Panel("loss", {0: ([0], [2.0])}), Panel("loss", {0: ([5, 9], [2.0, 2.0])})])
    (long,) = drawn(Panel("loss", {0: (range(10_000), [1 / (step + 1) for step in range(10_000)])})).iter(
        f"{SVG}polyline"
    )
    points = long.get("points").split()
    assert len(points) == POINTS
    assert points[-1].startswith("380.0,")


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.03, 4.2, [0, 1, 2, 3, 4, 5]),
        (-3.0, 12.0, [-5, 0, 5, 10, 15]),
        (0.0, 3000.0, [0, 1000, 2000, 3000]),
    ],
)
def test_ticks_are_round_and_reach_both_ends(low: float, high: float, marks: list[float]) -> None:
    assert ticks(low, high) == marks
