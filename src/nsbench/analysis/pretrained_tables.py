"""The tables of all pretrained models, Table 1's bounds among them, each under every reading that is possible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nsbench.analysis.bound_limits import bound_limits
from nsbench.config.pretrained import TablesSpec
from nsbench.schemas.pretrained import CASE, PAPER, PARTS, TABLES, TAIL
from nsbench.storage.parquet import RecordError, read_arrow, write_csv, write_table
from nsbench.theory.concentration import tail_mass_bound_from_influence, tail_mass_bound_from_stability
from nsbench.theory.domain import whole

CASE_NAMES = [column.name for column in CASE]
"""model, weights, inputs, readout."""

INFLUENCE_READINGS = (
    "spectral",  # Σ E[(∂f)²], standard units
    "spectral_raw",  # the same of raw embeddings
    "geometric",  # Σ E|∂f|, standard units
    "geometric_raw",
    "token",  # Σ E[(f − f, token redrawn)²] / 2
)
"""What I[f] may be."""
STABILITY_READINGS = (
    "gaussian",  # on embeddings
    "resampling",  # tokens redrawn, correlation (1 + ρ) / 2
    "resampling_rho",  # tokens redrawn, correlation taken as ρ
)
"""Which noise the stability is under, and what its correlation is taken to be."""
READINGS = INFLUENCE_READINGS + STABILITY_READINGS
DIVISORS = NORM2, VARIANCE, ONE = "norm2", "variance", "one"
"""What a bound is divided by (1 as printed); of the geometric readings its square root."""
PROVED = {"spectral": "gaussian", "gaussian": "gaussian", "token": "uniform", "resampling": "uniform"}
"""Reading -> the inputs under whose law it is a bound on the share of norm2 or of the variance."""
WITH_GAPS = ("concentration", "pretrained_stability", "table_1")
"""Tables whose CSV has a row for each case that was not measured; in Parquet `pretrained_measured` says so."""

_DIVIDED = {"normalised": NORM2, "pearson": VARIANCE}
_COLUMNS = ["bound_from", "reading", "rho", "divided_by"]


def join_models(folders: Sequence[Path], spec: TablesSpec, out_folder: Path, stamp: dict[str, str]) -> None:
    """Write the tables of `schemas.pretrained.TABLES` from the files of each model, in the order given; CSV too,
    except of influences.

    folders: one for each of spec.models, in their order, with `<part>.parquet` of `schemas.pretrained.PARTS`. A model
    that is unavailable has rows in models and measured alone. Raises RecordError naming a file that is missing,
    broken or of another model, before anything is written.
    """
    named = list(zip(folders, spec.models, strict=True))
    found = {
        part: pa.concat_tables(
            [schema.empty_table(), *(_part(Path(folder), part, name) for folder, name in named)]
        ).to_pandas()
        for part, schema in PARTS.items()
    }
    of_bounds = (found[part] for part in ("stability", "moments", "concentration", "models", "per_input"))
    tail = tail_bounds(*of_bounds, spec.degree)
    made = {
        "pretrained_models": found["models"],
        "pretrained_measured": found["measured"],
        "pretrained_influence": found["influence"],
        "concentration": found["concentration"],
        "pretrained_stability": found["stability"],
        "table_1": tail,
    }
    for name, schema in TABLES.items():
        write_table(out_folder / f"{name}.parquet", made[name], schema, stamp)
        if name != "pretrained_influence":
            shown = with_gaps(made[name], found["measured"]) if name in WITH_GAPS else made[name]
            write_csv(out_folder / f"{name}.csv", shown)


def with_gaps(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """A table with columns `status` and `reason`, and a row, otherwise empty, for each case that has no number."""
    gaps = measured[measured["status"] != "measured"]
    return pd.concat([table.assign(status="measured", reason=""), gaps], ignore_index=True)


def _part(folder: Path, part: str, name: str) -> pa.Table:
    """A file of a model, which must be of that model and, of models and measured, have rows."""
    path = folder / f"{part}.parquet"
    table = read_arrow(path, PARTS[part])
    models = table["model"].unique().to_pylist()
    if models != [name] and (models or part in ("models", "measured")):
        raise RecordError(
            f"{path}: has rows of {', '.join(models) or 'no model'}, not of {name}; delete it and run its stage again"
        )
    return table


def tail_bounds(
    stability: pd.DataFrame,
    moments: pd.DataFrame,
    concentration: pd.DataFrame,
    models: pd.DataFrame,
    per_input: pd.DataFrame,
    degree: int,
) -> pd.DataFrame:
    """Table 1: bounds on the share of f's mass in degrees >= `degree`, under READINGS and DIVISORS; schema TAIL.

    The first five are of STABILITY, MOMENT, CONCENTRATION, MODEL and PER_INPUT; each case of `moments` has its rows.
    From an influence: I / (degree norm2), norm2 replaced by the variance or by 1 (section 3); the geometric readings,
    which are no bounds (docs/errata.md, entry 35), by square roots, as they scale with f. A case without rows in
    `concentration` has no influence at all. From stability: (1 - Stab) / (1 - c^degree), c the noise's correlation,
    Stab normalised or, for the variance, pearson; at each rho, and over all, where rho is NaN: the least, or of proved
    bounds what `bound_limits` has, limits included. `resampling_rho` takes c = rho, where rho > 0, and so is too low.
    An estimate of Stab above 1 is taken as 1, one below 0 as 0: then the bound is at least 1 and says nothing. Bounds
    are not clipped, and NaN where norm2 or the variance is 0. `proved` (PROVED) is of the law of the inputs; estimates
    stand for its moments. Raises ValueError for a degree below 1.
    """
    whole("degree", degree, 1)
    cases = _cases(stability, moments, concentration)
    tables = [*_from_influence(cases, degree), *_from_stability(stability, moments, degree)]
    tail = pd.concat([pd.DataFrame(columns=[*CASE_NAMES, *_COLUMNS, "value"]), *(one for one in tables if len(one))])
    tail = tail.astype({"rho": np.float64, "value": np.float64})
    place = cases[CASE_NAMES].assign(_case=np.arange(len(cases)))
    papers = models[["model", "weights"]].assign(_paper=models["paper"].where(models["weights"] == "pretrained", ""))
    tail = tail.merge(place, on=CASE_NAMES, how="left").merge(papers, on=["model", "weights"], how="left")
    for column, names in (("reading", READINGS), ("divided_by", DIVISORS)):
        tail[f"_{column}"] = tail[column].map({name: index for index, name in enumerate(names)})
    order = ["_case", "bound_from", "_reading", "_divided_by", "rho"]  # influence before stability
    tail = tail.sort_values(order, kind="stable", ignore_index=True)
    stable = tail["bound_from"] == "stability"
    published = [
        PAPER[paper][column] if paper in PAPER else math.nan
        for paper, column in zip(tail["_paper"], stable.astype(int), strict=True)
    ]
    tail = tail.assign(
        proved=(tail["reading"].map(PROVED) == tail["inputs"]) & (tail["divided_by"] != ONE),
        degree=degree,
        published=np.array(published, dtype=np.float64),
    )
    tail = _with_limits(tail, bound_limits(per_input, degree))
    return tail.assign(ratio=tail["value"] / tail["published"])[TAIL.names]


def _with_limits(tail: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """The limits beside the bounds that they are of, and stability's by halves in place of the least."""
    keys = [*CASE_NAMES, "bound_from", "divided_by"]
    of_limits = tail["proved"] & tail["rho"].isna()
    joined = tail.merge(limits.rename(columns={"value": "_value"}), on=keys, how="left", validate="many_to_one")
    numbers = [name for name in limits if name not in (*keys, "value")]
    joined.loc[~of_limits, [*numbers, "_value"]] = math.nan
    by_halves = joined["_value"].where(joined["bound_from"] == "stability")
    return joined.assign(value=by_halves.fillna(joined["value"])).astype(dict.fromkeys(numbers, np.float64))


def _cases(stability: pd.DataFrame, moments: pd.DataFrame, concentration: pd.DataFrame) -> pd.DataFrame:
    """Each case's moments, and the totals of its influences in raw units: l1, squared_l2, token (NaN: none)."""
    embeddings = concentration[(concentration["site"] == "embeddings") & (concentration["of"] == "mean")]
    redrawn = stability[(stability["noise"] == "replacement") & (stability["reduction"] == "half_square")]
    cases = moments
    for column, rows, value in (
        ("l1", embeddings[embeddings["norm"] == "l1"], "total"),
        ("squared_l2", embeddings[embeddings["norm"] == "squared_l2"], "total"),
        ("token", redrawn, "value"),
    ):
        named = rows[[*CASE_NAMES, value]].rename(columns={value: column})
        cases = cases.merge(named, on=CASE_NAMES, how="left", validate="one_to_one")
    # Concentration leaves out what is 0 at every position.
    return cases.fillna({"l1": 0.0, "squared_l2": 0.0})


def _from_influence(cases: pd.DataFrame, degree: int) -> Iterator[pd.DataFrame]:
    """Rows of each reading of I[f] and each divisor."""
    scale = cases["scale"]
    readings = {
        "spectral": (cases["squared_l2"] * scale**2, False),
        "spectral_raw": (cases["squared_l2"], False),
        "geometric": (cases["l1"] * scale, True),
        "geometric_raw": (cases["l1"], True),
        "token": (cases["token"], False),
    }
    for reading, (total, rooted) in readings.items():
        had = cases[total.notna()]
        for divided_by in DIVISORS:
            divisor = np.ones(len(had)) if divided_by == ONE else had[divided_by].to_numpy("float64")
            value = _over(total[had.index].to_numpy("float64"), np.sqrt(divisor) if rooted else divisor, degree)
            row = {"bound_from": "influence", "reading": reading, "rho": math.nan, "divided_by": divided_by}
            yield had[CASE_NAMES].assign(**row, value=value)


def _over(total: NDArray[np.float64], divisor: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """total / (degree divisor), NaN where a divisor is 0 or one of them is not finite."""
    good = np.isfinite(total) & np.isfinite(divisor) & (divisor > 0)
    value = np.full(len(total), math.nan)
    value[good] = tail_mass_bound_from_influence(total[good], divisor[good], degree)
    return value


def _stabilities(stability: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
    """Stability as a share of norm2 and of the variance: columns of CASE, noise, rho, correlation, divided_by, value.

    Where X and Y are of one law the share that is lost is E[(f(X) - f(Y))^2] / 2 over the divisor: the same number,
    with far less noise than a difference of two numbers near 1.
    """
    names = [*CASE_NAMES, "noise", "rho", "correlation", "divided_by", "value"]
    of_one_law = stability["inputs"] == stability["noise"].map(PROVED)
    shares = stability[stability["reduction"].isin(_DIVIDED) & ~of_one_law]
    found = [shares.assign(divided_by=shares["reduction"].map(_DIVIDED))[names]]
    lost = stability[(stability["reduction"] == "half_square") & of_one_law].merge(moments, on=CASE_NAMES)
    for divisor in (NORM2, VARIANCE):
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 1.0 - lost["value"].to_numpy("float64") / lost[divisor].to_numpy("float64")
        found.append(lost.assign(divided_by=divisor, value=value)[names])
    return pd.concat(found, ignore_index=True)


def _from_stability(stability: pd.DataFrame, moments: pd.DataFrame, degree: int) -> Iterator[pd.DataFrame]:
    """Rows of each reading of the noise, at each rho, and the least of them."""
    shares = _stabilities(stability, moments)
    for reading in STABILITY_READINGS:
        noise = "resampling" if reading == "resampling_rho" else reading
        rows = shares[shares["noise"] == noise]
        if reading == "resampling_rho":
            rows = rows[rows["rho"] > 0]
        correlation = rows["correlation" if reading == "resampling" else "rho"].to_numpy("float64")
        stable = rows["value"].to_numpy("float64")
        good = np.isfinite(stable)
        value = np.full(len(rows), math.nan)
        value[good] = tail_mass_bound_from_stability(np.clip(stable[good], 0.0, 1.0), 1.0, correlation[good], degree)
        at_each = rows[[*CASE_NAMES, "rho", "divided_by"]].assign(bound_from="stability", reading=reading, value=value)
        yield at_each
        keys = [*CASE_NAMES, "bound_from", "reading", "divided_by"]
        yield at_each.groupby(keys, sort=False, as_index=False)["value"].min().assign(rho=math.nan)


def smaller_bounds(tail: pd.DataFrame) -> pd.DataFrame:
    """The proved bounds of each case, side by side, and which one is the smaller.

    tail: of schema TAIL. Columns: model, weights, inputs, readout, divided_by; influence, influence_upper, stability,
    stability_upper: the bounds and their upper limits; over_influence and the ends of its interval; smaller: influence
    or stability where the interval of their ratio excludes 1, else undecided; or neither, where both are at least 1 (or
    unknown) and say nothing.
    """
    proved = tail[tail["proved"] & tail["rho"].isna()]
    keys = [*CASE_NAMES, "divided_by"]
    table = proved[keys].drop_duplicates(ignore_index=True)
    over = ["over_influence", "over_influence_low", "over_influence_high"]
    for bound_from, more in (("influence", []), ("stability", over)):
        rows = proved.loc[proved["bound_from"] == bound_from, [*keys, "value", "upper", *more]]
        rows = rows.rename(columns={"value": bound_from, "upper": f"{bound_from}_upper"})
        table = table.merge(rows, on=keys, how="left", validate="one_to_one")
    influence, stable = (table[name].fillna(math.inf) for name in ("influence", "stability"))
    smaller = np.select(
        [(influence >= 1) & (stable >= 1), table["over_influence_low"] > 1, table["over_influence_high"] < 1],
        ["neither", "influence", "stability"],
        "undecided",
    )
    return table.assign(smaller=smaller)
