"""Table 1's bounds follow from the models' files by hand-made numbers, under each reading, and nothing is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.analysis.pretrained_tables import (
    INFLUENCE_READINGS,
    READINGS,
    join_models,
    smaller_bounds,
    tail_bounds,
)
from nsbench.config.pretrained import TablesSpec
from nsbench.schemas.pretrained import (
    CONCENTRATION,
    MEASURED,
    MODEL,
    MOMENT,
    NONE,
    PARTS,
    PER_INPUT,
    STABILITY,
    TABLES,
    TAIL,
)
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table

DEGREE = 3
EMPTY = {"string": "", "int64": 1, "double": 0.5, "bool": False}


def rows(schema: Any, *given: dict[str, Any]) -> pd.DataFrame:
    """A table of this schema; columns that a row does not give are filled with something."""
    filled = [{field.name: EMPTY[str(field.type)] for field in schema} | row for row in given]
    return pd.DataFrame(filled, columns=schema.names).astype(
        {field.name: "float64" for field in schema if str(field.type) == "double"}
    )


def case(inputs: str = "gaussian", weights: str = "pretrained", model: str = "m", readout: str = "f") -> dict[str, str]:
    return {"model": model, "weights": weights, "inputs": inputs, "readout": readout}


def model(name: str = "m", weights: str = "pretrained", paper: str = "", **more: Any) -> dict[str, Any]:
    return {"model": name, "weights": weights, "paper": paper, "status": "measured"} | more


def moment(norm2: float = 4.0, variance: float = 1.0, scale: float = 0.5, **which: str) -> dict[str, Any]:
    return case(**which) | {"mean": math.sqrt(3.0), "norm2": norm2, "variance": variance, "scale": scale}


def totals(l1: float = 24.0, squared_l2: float = 48.0, **which: str) -> list[dict[str, Any]]:
    """The influences at the embeddings, and rows beside them that Table 1 is not made of."""
    at = case(**which) | {"site": "embeddings", "layer": NONE, "head": NONE, "of": "mean"}
    found = [
        at | {"norm": norm, "total": total} for norm, total in (("l1", l1), ("l2", 7.0), ("squared_l2", squared_l2))
    ]
    others = [{"of": "each"}, {"site": "layer", "layer": 0}, {"site": "head", "layer": 0, "head": 1}]
    return found + [row | other | {"total": 1e6} for row in found for other in others]


def stable(noise: str, reduction: str, rho: float, value: float, **which: str) -> dict[str, Any]:
    correlation = (1 + rho) / 2 if noise == "resampling" else rho
    return case(**which) | {
        "noise": noise,
        "reduction": reduction,
        "rho": rho,
        "correlation": correlation,
        "value": value,
    }


def half_squares(stability: Iterable[dict[str, Any]], moments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """E[(f(X) - f(Y))^2] / 2 = E[f^2] - E[f(X) f(Y)] where X and Y are of one law: what those bounds are made of."""
    norms = {tuple(row[name] for name in case()): row["norm2"] for row in moments}
    found = []
    for row in stability:
        of_one_law = (row["noise"], row["inputs"]) in (("gaussian", "gaussian"), ("resampling", "uniform"))
        if row["reduction"] == "normalised" and of_one_law:
            norm2 = norms[tuple(row[name] for name in case())]
            found.append(row | {"reduction": "half_square", "value": (1 - row["value"]) * norm2})
    return found


def tail_of(
    stability: Iterable[dict[str, Any]] = (),
    moments: Iterable[dict[str, Any]] = (),
    concentration: Iterable[dict[str, Any]] = (),
    models: Iterable[dict[str, Any]] = (),
    per_input: Iterable[dict[str, Any]] = (),
) -> pd.DataFrame:
    moments = list(moments) or [moment()]
    return tail_bounds(
        rows(STABILITY, *stability, *half_squares(stability, moments)),
        rows(MOMENT, *moments),
        rows(CONCENTRATION, *concentration),
        rows(MODEL, *(models or [model()])),
        rows(PER_INPUT, *per_input),
        DEGREE,
    )


def each_input(readout: Any, influence: Any, half_square: dict[float, Any], **which: str) -> list[dict[str, Any]]:
    """Rows of PER_INPUT: a number of each input; half_square by correlation."""
    given = [("readout", math.nan, readout), ("influence", math.nan, influence)]
    given += [("half_square", correlation, values) for correlation, values in half_square.items()]
    return [
        case(**which) | {"quantity": quantity, "correlation": correlation, "input": index, "value": float(value)}
        for quantity, correlation, values in given
        for index, value in enumerate(values)
    ]


def values(tail: pd.DataFrame, reading: str) -> dict[Any, float]:
    """divided_by -> bound; for a stability (divided_by, rho), the least under `least`."""
    here = tail[tail["reading"] == reading]
    if reading in INFLUENCE_READINGS:
        return dict(zip(here["divided_by"], here["value"], strict=True))
    return {
        (divided_by, "least" if math.isnan(rho) else rho): value
        for divided_by, rho, value in zip(here["divided_by"], here["rho"], here["value"], strict=True)
    }


# I[f] in standard units is 48 * 0.5^2 = 12 for the squared norm and 24 * 0.5 = 12 for the geometric one; norm2 4,
# variance 1, degree 3.
@pytest.mark.parametrize(
    ("reading", "bounds"),
    [
        ("spectral", {"norm2": 1.0, "variance": 4.0, "one": 4.0}),
        ("spectral_raw", {"norm2": 4.0, "variance": 16.0, "one": 16.0}),
        ("geometric", {"norm2": 2.0, "variance": 4.0, "one": 4.0}),
        ("geometric_raw", {"norm2": 4.0, "variance": 8.0, "one": 8.0}),
        ("token", {"norm2": 0.25, "variance": 1.0, "one": 1.0}),
    ],
)
def test_readings_of_the_influence(reading: str, bounds: dict[str, float]) -> None:
    redrawn = [stable("replacement", "half_square", math.nan, 3.0), stable("replacement", "decision", math.nan, 9.0)]
    tail = tail_of(redrawn, concentration=totals())
    assert values(tail, reading) == pytest.approx(bounds)
    assert set(tail["bound_from"]) == {"influence"}
    assert tail["rho"].isna().all()
    assert set(tail["degree"]) == {DEGREE}


def test_readings_of_gaussian_stability() -> None:
    noisy = [
        stable("gaussian", "normalised", 0.5, 0.9125),
        stable("gaussian", "normalised", 0.0, 0.875),
        stable("gaussian", "pearson", 0.5, 0.65),
        stable("gaussian", "pearson", 0.0, 0.5),
        stable("gaussian", "product", 0.5, 3.5),
    ]
    # 1 - 0.5^3 = 7/8, 1 - 0 = 1.
    bounds = {("norm2", 0.0): 0.125, ("norm2", 0.5): 0.1, ("norm2", "least"): 0.1}
    bounds |= {("variance", 0.0): 0.5, ("variance", 0.5): 0.4, ("variance", "least"): 0.4}
    assert values(tail_of(noisy, concentration=totals()), "gaussian") == pytest.approx(bounds)


def test_readings_of_resampling_stability() -> None:
    noisy = [
        stable("resampling", "normalised", 0.0, 0.5),
        stable("resampling", "normalised", 0.5, 0.768125),
        stable("resampling", "probability_dot", 0.5, 0.1, readout="output"),
    ]
    tail = tail_of(noisy)
    # kappa = 1/2 and 3/4: 1 - kappa^3 = 7/8 and 37/64.
    right = {("norm2", 0.0): 4 / 7, ("norm2", 0.5): 0.231875 * 64 / 37, ("norm2", "least"): 0.231875 * 64 / 37}
    assert values(tail, "resampling") == pytest.approx(right)
    # rho = 0 is left out; 1 - rho^3 = 7/8.
    misread = {("norm2", 0.5): 0.265, ("norm2", "least"): 0.265}
    assert values(tail, "resampling_rho") == pytest.approx(misread)
    assert set(tail["readout"]) == {"f"}


def test_bounds_are_reached_by_functions_of_one_degree() -> None:
    """f = z_1 z_2 z_3 of standard Gaussians, or of uniform signs: all mass is in degree 3, so the bounds are 1."""
    rho, scale = 0.5, 0.2
    which = ("gaussian", "uniform")
    # By the raw x = scale z the derivatives are 1 / scale times as large. A sign redrawn changes in half of all cases.
    noisy = [stable("gaussian", "normalised", rho, rho**3), stable("gaussian", "pearson", rho, rho**3)]
    kappa = (1 + rho) / 2
    noisy += [stable("resampling", name, rho, kappa**3, inputs="uniform") for name in ("normalised", "pearson")]
    noisy += [stable("replacement", "half_square", math.nan, 3 * (1 / 2) * 2**2 / 2, inputs="uniform")]
    moments = [moment(norm2=1.0, variance=1.0, scale=scale, inputs=inputs) for inputs in which]
    influences = totals(squared_l2=3 / scale**2) + totals(inputs="uniform")
    proved = tail_of(noisy, moments, influences).query("proved")
    assert len(proved) == 2 * 2 * (1 + 2)
    assert proved["value"].tolist() == pytest.approx([1.0] * len(proved))


def test_bounds_are_not_clipped_and_undefined_ones_are_nan() -> None:
    noisy = [stable("gaussian", "normalised", 0.5, math.nan), stable("gaussian", "normalised", 0.9, math.nan)]
    tail = tail_of(noisy, [moment(norm2=0.0, variance=0.0)], totals(squared_l2=1e9))
    assert values(tail, "spectral")["one"] == pytest.approx(2.5e8 / 3)
    assert math.isnan(values(tail, "spectral")["norm2"])
    assert math.isnan(values(tail, "geometric")["variance"])
    assert all(map(math.isnan, values(tail, "gaussian").values()))


def test_bounds_are_proved_under_their_own_law_only() -> None:
    kinds = ("text", "uniform", "gaussian")
    noisy = [
        stable(noise, reduction, 0.5, 0.9, inputs=inputs)
        for inputs in kinds
        for noise in ("gaussian", "resampling")
        for reduction in ("normalised", "pearson")
    ]
    redrawn = [stable("replacement", "half_square", math.nan, 3.0, inputs=inputs) for inputs in kinds]
    tail = tail_of([*noisy, *redrawn], [moment(inputs=inputs) for inputs in kinds])
    assert set(tail["reading"]) == set(READINGS)
    proved = tail[tail["proved"]]
    assert set(zip(proved["reading"], proved["inputs"], strict=True)) == {
        ("spectral", "gaussian"),
        ("gaussian", "gaussian"),
        ("token", "uniform"),
        ("resampling", "uniform"),
    }
    assert set(proved["divided_by"]) == {"norm2", "variance"}
    # Taken as rho, the correlation is too small and the bound too low.
    least = tail[tail["rho"].isna() & (tail["inputs"] == "uniform") & (tail["divided_by"] == "norm2")]
    bounds = least.set_index("reading")["value"]
    assert bounds["resampling_rho"] < bounds["resampling"]


def test_pretrained_weights_of_the_paper_stand_beside_its_numbers() -> None:
    which = [{"weights": "pretrained"}, {"weights": "random"}, {"model": "other"}]
    noisy = [stable("gaussian", "normalised", 0.5, 0.9125, **one) for one in which]
    models = [model(paper="bert"), model(weights="random", paper="bert"), model("other")]
    tail = tail_of(noisy, [moment(**one) for one in which], [row for one in which for row in totals(**one)], models)
    published = tail["published"].notna()
    assert published.equals((tail["model"] == "m") & (tail["weights"] == "pretrained"))
    assert tail["ratio"].notna().equals(published)
    own = tail[published & (tail["divided_by"] == "norm2")]
    assert own.groupby("bound_from")["published"].unique().to_dict() == {"influence": [0.04], "stability": [0.02]}
    assert own.loc[own["reading"] == "spectral", "ratio"].tolist() == pytest.approx([25.0])
    assert own.loc[own["reading"] == "gaussian", "ratio"].tolist() == pytest.approx([5.0, 5.0])


def test_no_measured_case_gives_no_bounds() -> None:
    tail = tail_bounds(
        rows(STABILITY), rows(MOMENT), rows(CONCENTRATION), rows(MODEL, model()), rows(PER_INPUT), DEGREE
    )
    assert tail.columns.tolist() == TAIL.names
    assert tail.empty
    assert smaller_bounds(tail).empty


def sample(n: int, ratio: float, seed: int, factor: float = 1.0) -> dict[str, Any]:
    """Arguments of `tail_of` for n inputs of one function; `ratio`: its true bound from stability over the other.

    Each input has a size of its own, which both bounds see; squares of noise have one degree of freedom.
    """
    generator = np.random.default_rng(seed)
    size = np.exp(generator.normal(0, 0.5, n))
    readout = 3 + generator.normal(0, 1, n)
    influence = 0.3 * factor * size * generator.gamma(8, 1 / 8, n)
    half_square = 0.1 * factor * (7 / 8) * ratio * size * generator.chisquare(1, n)
    return {
        "stability": [stable("gaussian", "half_square", 0.5, half_square.mean())],
        "moments": [moment(np.mean(readout**2), np.var(readout))],
        "concentration": totals(squared_l2=4 * influence.mean()),
        "per_input": each_input(readout, influence, {0.5: half_square}),
    }


def smaller_of(n: int, ratio: float, seed: int) -> pd.Series:
    return smaller_bounds(tail_of(**sample(n, ratio, seed))).set_index("divided_by").loc["norm2"]


def test_an_order_of_bounds_that_the_sample_decides_is_undecided() -> None:
    """Drawn twice, 8 sequences or 64 of the same function have another smaller bound."""
    for n, seeds in ((8, (1, 2)), (64, (1, 0))):
        found = [smaller_of(n, 1.0, seed) for seed in seeds]
        assert [one["stability"] < one["influence"] for one in found] == [True, False]
        assert [one["smaller"] for one in found] == ["undecided"] * 2


def test_a_clear_order_of_bounds_is_told() -> None:
    assert [smaller_of(64, ratio, 0)["smaller"] for ratio in (1 / 3, 3.0)] == ["stability", "influence"]
    # Neither says anything from 1 on; and without values of inputs there is no interval.
    assert smaller_bounds(tail_of(**sample(64, 1 / 3, 0, factor=1e3)))["smaller"].tolist() == ["neither"] * 2
    without = sample(64, 1 / 3, 0) | {"per_input": []}
    assert smaller_bounds(tail_of(**without))["smaller"].tolist() == ["undecided"] * 2


def test_limits_stand_at_the_proved_bounds_over_all_rho_only() -> None:
    tail = tail_of(**sample(16, 1.0, 0))
    limited = tail["proved"] & tail["rho"].isna()
    assert tail["upper"].notna().equals(limited)
    assert tail["standard_error"].notna().equals(limited)
    assert tail["over_influence_low"].notna().equals(limited & (tail["bound_from"] == "stability"))
    assert (tail["upper"] > tail["value"])[limited].all()


# --- joining --------------------------------------------------------------------------------------------

STAMP = {"spec": "{}", "commit": "abc"}


def parts(name: str, there: bool = True, paper: str = "") -> dict[str, pd.DataFrame]:
    """The files of one model; of one that is unavailable two have rows."""
    status = "measured" if there else "unavailable"
    one = model(name, paper=paper, status=status, reason="" if there else "set HF_TOKEN")
    made = {part: rows(schema) for part, schema in PARTS.items()}
    made["models"] = rows(MODEL, one)
    made["measured"] = rows(MEASURED, case(model=name) | {"status": status, "reason": one["reason"]})
    if there:
        made["moments"] = rows(MOMENT, moment(model=name))
        made["concentration"] = rows(CONCENTRATION, *totals(model=name))
        made["stability"] = rows(
            STABILITY,
            stable("gaussian", "normalised", 0.5, 0.9125, model=name),
            stable("replacement", "half_square", math.nan, 3.0, model=name),
        )
        at = case(model=name) | {"norm": "l1"}
        sites = [{"site": "embeddings"}, {"site": "layer", "layer": 0}, {"site": "head", "layer": 0, "head": 1}]
        made["influence"] = rows(
            PARTS["influence"], *(at | site | {"position": position} for site in sites for position in range(4))
        )
    return made


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = []
    for name, there, paper in (("z", True, "bert"), ("gone", False, "gemma"), ("a", True, "")):
        for part, table in parts(name, there, paper).items():
            write_table(tmp_path / name / f"{part}.parquet", table, PARTS[part], {})
        found.append(tmp_path / name)
    return found


def join(folders: list[Path], out: Path) -> None:
    join_models(folders, TablesSpec(models=["z", "gone", "a"], degree=DEGREE, scale="demo"), out, STAMP)


def test_models_are_joined_in_order_and_nothing_is_left_out(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "tables"
    join(folders, out)
    tables = {name: read_table(out / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    models = tables["pretrained_models"]
    assert models["model"].tolist() == ["z", "gone", "a"]
    assert models["status"].tolist() == ["measured", "unavailable", "measured"]
    assert models["reason"].tolist() == ["", "set HF_TOKEN", ""]
    assert tables["pretrained_measured"]["status"].tolist() == ["measured", "unavailable", "measured"]
    for name in ("pretrained_influence", "concentration", "pretrained_stability", "table_1"):
        assert tables[name]["model"].drop_duplicates().tolist() == ["z", "a"]
    assert tables["pretrained_influence"].groupby("site").size().to_dict() == {"embeddings": 8, "head": 8, "layer": 8}
    replaced = tables["pretrained_stability"].query("noise == 'replacement'")
    assert replaced["rho"].isna().all()
    tail = tables["table_1"]
    assert tail.loc[(tail["model"] == "z") & (tail["reading"] == "token"), "ratio"].tolist() == pytest.approx(
        [0.25 / 0.04, 1.0 / 0.04, 1.0 / 0.04]
    )
    assert tail.loc[tail["model"] == "a", "published"].isna().all()
    assert read_stamp(out / "table_1.parquet") == STAMP


def test_all_tables_but_the_influences_are_csv_too(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "tables"
    join(folders, out)
    assert {path.stem for path in out.glob("*.csv")} == set(TABLES) - {"pretrained_influence"}
    for name in ("concentration", "pretrained_stability", "table_1"):
        table = read_table(out / f"{name}.parquet", TABLES[name])
        text = pd.read_csv(out / f"{name}.csv", keep_default_na=False)
        assert text.columns.tolist() == [*TABLES[name].names, "status", "reason"]
        assert len(text) == len(table) + 1
        # The model that could not be had is a row, and says why.
        assert text.iloc[-1][["model", "status", "reason"]].tolist() == ["gone", "unavailable", "set HF_TOKEN"]
        assert set(text["status"][:-1]) == {"measured"}


def test_a_missing_part_is_named_and_nothing_is_written(folders: list[Path], tmp_path: Path) -> None:
    (folders[1] / "stability.parquet").unlink()
    with pytest.raises(RecordError, match=r"gone/stability\.parquet: no such file"):
        join(folders, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("part", ["models", "moments"])
def test_a_file_of_another_model_is_named(folders: list[Path], tmp_path: Path, part: str) -> None:
    (folders[2] / f"{part}.parquet").replace(folders[0] / f"{part}.parquet")
    with pytest.raises(RecordError, match=rf"z/{part}\.parquet: has rows of a, not of z"):
        join(folders, tmp_path / "tables")
