"""The stage `claims`: planted effects, missing inputs, the demo's scale, and the tables that it writes."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.claims.evidence import Evidence
from nsbench.claims.ledger import counts, markdown, write_claims
from nsbench.claims.verdicts import kind_of
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, SOURCES, VERDICTS
from nsbench.storage.parquet import RecordError, read_stamp, read_table
from tests.claims.synthetic_claims import CLAIMS, Folders, claims, full_folders, judged, training_folder
from tests.synthetic_records import make_cells

SEEDS = tuple(range(8))
BASELINE = {seed: 2000.0 + 40 * seed for seed in SEEDS}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return full_folders(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def ledger(full: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the full ledger at the scale of the paper."""
    folder = tmp_path_factory.mktemp("ledger")
    full.write(folder)
    return folder


def speed(evidence: Evidence, name: str = "modular_addition_speed") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return judged(evidence, name)


# --- planted effects -----------------------------------------------------------------------------------

PLANTED = {
    "gain": {seed: step / 1.364 for seed, step in BASELINE.items()},
    "none": {seed: step + 100 * (seed % 2 * 2 - 1) for seed, step in BASELINE.items()},
}
"""Variant -> the step at which each regularised run rises."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evidence]:
    """Evidence of modular addition by variant: PLANTED, and baselines that never rise."""
    never = {("baseline", seed): 1e6 for seed in SEEDS} | {("gentle", seed): 1000.0 for seed in SEEDS}
    rises = {
        name: {("baseline", seed): step for seed, step in BASELINE.items()}
        | {("gentle", seed): step for seed, step in after.items()}
        for name, after in PLANTED.items()
    }
    rises |= {"fails": never, "fails_longer": never}
    rises |= dict.fromkeys(("calibrated-n20-k2", "as_published"), rises["gain"])
    made = {
        name: make_cells(variants=(name,), seeds=SEEDS, budget=9000 if name == "fails_longer" else 3000)
        for name in rises
    }
    cells = [cell for group in made.values() for cell in group]
    folders = training_folder(tmp_path_factory.mktemp("planted"), cells, rises)
    return {
        name: Evidence(folders.tables, folders.collected, group, "paper")
        for name, group in (made | {"all": cells}).items()
    }


def test_a_planted_gain_of_36_percent_is_reproduced(planted: dict[str, Evidence]) -> None:
    row, _ = speed(planted["gain"])
    assert row["verdict"] == "reproduced"
    assert row["ours"] == pytest.approx(36, abs=5)
    assert row["ours_low"] > 20
    assert (row["n"], row["n_unit"], row["scale"], row["paper"]) == (8, "pairs", "paper", 36)
    assert row["settings"] == "gain / gentle: reproduced"
    assert row["rule"].startswith("effect: reproduced if low > 0.5 * paper; in the paper's direction if low > 0; ")


def test_a_baseline_that_never_reaches_what_the_arm_does_is_a_bound(planted: dict[str, Evidence]) -> None:
    row, _ = speed(planted["fails"])
    assert row["verdict"] == "reproduced"
    assert pd.isna(row["ours"])
    assert 100 < row["ours_low"] < 200  # 3,000 steps at least, and about 1,150
    assert row["ours_high"] == math.inf
    assert "8 of 16 runs did not reach the target" in row["note"]


def renamed(evidence: Evidence, variant: str) -> Evidence:
    """The same evidence under another name of its variant."""
    cells = [cell | {"variant": variant} for cell in evidence.cells]
    found = dataclasses.replace(evidence, cells=cells, _read=dict(evidence._read))
    table = evidence.table("cells")
    mine = table["variant"] == evidence.cells[0]["variant"]
    found._read[found.tables / "cells.parquet"] = table[mine].assign(variant=variant)
    return found


def test_a_time_that_is_never_reached_is_judged_by_the_budget(planted: dict[str, Evidence]) -> None:
    of_paper = {name: renamed(planted[name], "as_published") for name in ("fails", "fails_longer")}
    assert speed(of_paper["fails"], "modular_addition_baseline")[0]["verdict"] == "undecided"
    row, _ = speed(of_paper["fails_longer"], "modular_addition_baseline")
    assert row["verdict"] == "not reproduced"
    assert "0 of 8 runs reached it in 9,000 steps" in row["note"]
    row, _ = speed(planted["fails_longer"], "modular_addition_baseline")
    assert row["verdict"] == "undecided"
    assert "it was chosen so that its baseline reaches the target" in row["reason"]


def test_listed_variants_come_before_all_others(planted: dict[str, Evidence]) -> None:
    evidence = planted["all"]
    row, found = speed(evidence)
    assert [one["setting"] for one in found] == ["calibrated-n20-k2 / gentle", "as_published / gentle"]
    assert row["settings"] == "calibrated-n20-k2 / gentle: reproduced; as_published / gentle: reproduced"
    cells = [cell | {"curve_only": cell["variant"] == "as_published"} for cell in evidence.cells]
    _, found = speed(dataclasses.replace(evidence, cells=cells))
    assert [one["setting"] for one in found] == ["calibrated-n20-k2 / gentle", "as_published"]
    assert (found[1]["verdict"], found[1]["reason"]) == ("not run", "this variant is not in the grid.")


def test_settings_that_differ_are_reproduced_in_part(planted: dict[str, Evidence]) -> None:
    cells = [cell for cell in planted["all"].cells if cell["variant"] in ("gain", "none", "fails")]
    row, found = speed(dataclasses.replace(planted["all"], cells=cells))
    assert [one["verdict"] for one in found] == ["reproduced", "no effect larger than 10%", "reproduced"]
    assert row["verdict"] == "partly"
    assert row["reason"] == (
        "the settings differ: reproduced in 2 (gain / gentle · fails / gentle); "
        "no effect larger than 10% in 1 (none / gentle)."
    )
    assert row["ours"] == found[0]["ours"]


def test_a_leak_is_evidence_and_says_so(full: Folders) -> None:
    row, found = judged(full.evidence(), "text_speed")
    assert [one["setting"].split(" / ")[0] for one in found] == ["windows_causal", "windows_overlapping"]
    assert "leak: shared text" in found[1]["note"]
    assert "leak" not in found[0]["note"]
    assert row["text"] == "WikiText-2"


# --- what is not there ---------------------------------------------------------------------------------


def test_an_empty_project_runs_what_needs_no_data_and_says_what_is_missing(tmp_path: Path) -> None:
    write_claims(CLAIMS, Evidence(None, None, [], "paper"), tmp_path, "{}", "d")
    table = read_table(tmp_path / "claims.parquet", CLAIM)
    computed = table["scale"] == "none"
    assert 20 < computed.sum() < len(table)
    assert not table.loc[computed, "verdict"].isin(["not run", "undecided"]).any()
    assert (table.loc[~computed, "verdict"] == "not run").all()
    assert table.loc[~computed, "reason"].str.contains("snakemake --cores all").all()
    assert table.loc[~computed, "n"].isna().all()
    by_id = table.set_index("id")
    assert by_id.loc["text_speed", "reason"].startswith("no run of next_token is in the grid")
    assert "`theory: null` leaves the theory out" in by_id.loc["theorem_5_1", "reason"]
    assert "`pretrained: null` leaves pretrained models out" in by_id.loc["junta_like", "reason"]
    assert "–" in (tmp_path / "claims.md").read_text(encoding="utf-8")


def test_a_broken_table_stops_the_stage(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_bytes(b"nothing")
    with pytest.raises(RecordError, match="not a whole Parquet file"):
        write_claims(CLAIMS, Evidence(tmp_path, tmp_path, make_cells(), "paper"), tmp_path / "out", "{}", "d")
    assert not (tmp_path / "out").exists()


def test_a_grid_without_the_papers_arm_says_so(planted: dict[str, Evidence]) -> None:
    evidence = planted["gain"]
    cells = [cell | {"arm_settings": cell["arm_settings"] | {"orientation": 0}} for cell in evidence.cells]
    row, _ = speed(dataclasses.replace(evidence, cells=cells))
    assert row["verdict"] == "not run"
    assert "no arm with rho = 0.25, gamma = 0.75, S = 1 is in the grid; to make it: snakemake" in row["reason"]


# --- the whole ledger ----------------------------------------------------------------------------------


def test_every_claim_is_answered_where_all_was_run(ledger: Path) -> None:
    table = read_table(ledger / "claims.parquet", CLAIM).set_index("id")
    assert list(table.index) == list(claims())
    left = table.index[table["verdict"] == "not run"]
    of_other = {name for name in left if table.loc[name, "source"] == "vasudeva2025"}
    assert len(of_other) == 16  # its grid is another
    alone = {"consistently", "equally_tuned", "tail_bound_on_tasks"}
    assert set(left) - of_other == alone, table.loc[left, "reason"].tolist()
    assert (
        "modular_addition, sparse_parity, next_token: the grid has no specification curve"
        in table.loc["consistently", "reason"]
    )
    assert set(map(kind_of, table["verdict"])) <= set(VERDICTS)
    for name in ("place", "claim", "paper_text", "rule", "settings", "reason"):
        assert (table.drop(index=list(of_other) if name == "settings" else [])[name] != "").all(), name
    assert table["reason"].str.fullmatch(r"[^\n]*\.").all()
    evidence = read_table(ledger / "claim_evidence.parquet", CLAIM_EVIDENCE)
    assert set(evidence["id"]) | of_other == set(table.index)
    with_interval = table[table[["ours", "ours_low", "ours_high"]].notna().all(axis=1)]
    assert len(with_interval) > 10
    assert with_interval["ours"].between(with_interval["ours_low"], with_interval["ours_high"]).all()
    known = {"spectral_sum": "reproduced", "theorem_5_1": "reproduced", "lemma_1": "paper in error"}
    known |= {"low_rank": "partly", "better_metric": "not testable as stated", "leading_indicator": "undecided"}
    assert {name: table.loc[name, "verdict"] for name in known} == known


def test_equal_input_gives_equal_bytes(full: Folders, ledger: Path, tmp_path: Path) -> None:
    names = [f"claims.{ending}" for ending in ("parquet", "csv", "md")]
    names += ["claim_evidence.parquet", "claim_evidence.csv"]
    full.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name in names:
        assert (tmp_path / name).read_bytes() == (ledger / name).read_bytes(), name
    assert read_stamp(tmp_path / "claims.parquet")["source_digest"] == "digest"
    csv = pd.read_csv(tmp_path / "claims.csv")
    assert list(csv.columns) == CLAIM.names


def test_the_verdicts_hold_no_html_of_a_claim(ledger: Path) -> None:
    table = read_table(ledger / "claims.parquet", CLAIM)
    table["claim"] = "<img src=x onerror=alert(1)> 1 < 2"
    assert "| &lt;img src=x onerror=alert(1)> 1 &lt; 2 |" in markdown(table)
    assert "<" not in markdown(table)


def test_the_demo_says_that_it_is_one(full: Folders, tmp_path: Path) -> None:
    full.write(tmp_path, scale="demo")
    table = read_table(tmp_path / "claims.parquet", CLAIM)
    assert set(table["scale"]) == {"demo", "none"}
    text = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "no verdict on the paper" in text
    assert "(demo" in text
    times = table.set_index("id").loc["modular_addition_baseline"]
    assert times["verdict"] == "undecided"
    assert "the demo's tasks are smaller" in times["reason"]


def test_the_verdicts_end_with_their_counts_by_group(ledger: Path) -> None:
    table = read_table(ledger / "claims.parquet", CLAIM)
    text = markdown(table)
    assert "no verdict on the paper" not in text
    for heading in ("Measure", "Theory", "Training", "Pretrained", "Statement of numbers"):
        assert f"**{heading}**" in text.splitlines()
    *groups, errors = counts(table).splitlines()
    assert text.splitlines()[-len(groups) - 1 :] == [f"- {line}" for line in (*groups, errors)]
    numbers = [int(part.split()[0]) for line in groups for part in line.split(": ")[1].split(", ")]
    assert (len(groups), sum(numbers)) == (table[["source", "group"]].drop_duplicates().shape[0], len(table))


def test_each_paper_has_its_own_tables_and_counts(ledger: Path) -> None:
    table = read_table(ledger / "claims.parquet", CLAIM)
    assert set(table["source"]) == set(SOURCES)
    lines, numbers = markdown(table).splitlines(), {}
    for source, (name, title) in SOURCES.items():
        own = table[table["source"] == source]
        start = lines.index(f"### {name}: {title}")
        end = next((at for at in range(start + 1, len(lines)) if lines[at].startswith(("### ", "- "))), None)
        assert sum(line.startswith("| ") for line in lines[start:end]) == len(own) + own["group"].nunique()
        counted = [line for line in counts(table).splitlines() if line.startswith(f"{name}, ")]
        numbers[source] = [int(part.split()[0]) for line in counted for part in line.split(": ")[1].split(", ")]
        assert sum(numbers[source]) == len(own)
        # Of one paper alone: the same numbers without its name.
        alone = counts(own).splitlines()
        assert [line.removeprefix(f"{name}, ").capitalize() for line in counted] == [
            line.capitalize() for line in alone if "cause" not in line
        ]
        assert "###" not in markdown(own)


def test_errors_of_the_paper_with_one_cause_are_counted_once(ledger: Path) -> None:
    table = read_table(ledger / "claims.parquet", CLAIM)
    wrong = table["verdict"] == "paper in error"
    assert (table.loc[wrong, "severity"] != "").all()
    assert (table.loc[~wrong, "severity"] == "").all()
    of_numbers = table[wrong & (table["severity"] == "inconsistent numbers")]
    assert (len(of_numbers), of_numbers["erratum"].nunique()) == (2, 1)
    assert "1 inconsistent numbers" in counts(table).splitlines()[-1]


def test_the_ledger_needs_no_torch() -> None:
    code = "import sys, nsbench.claims.ledger; sys.exit(bool({'torch', 'matplotlib', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
