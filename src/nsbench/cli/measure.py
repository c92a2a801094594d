"""`nsbench measure`: one model of the user's, measured, printed as a short table, written and drawn."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nsbench.analysis.pretrained_tables import join_models
from nsbench.config.base import ConfigError, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import nearest
from nsbench.config.loader import read
from nsbench.config.pretrained import (
    FolderModel,
    Measurement,
    MeasureSpec,
    Model,
    PretrainedFigureSpec,
    Shown,
    TablesSpec,
)
from nsbench.figures.drawing import render
from nsbench.pretrained import checkpoints
from nsbench.pretrained.run import Subject, measure, measure_model
from nsbench.pretrained.sources import ModelError
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.code_digest import code_digest
from nsbench.storage.device import use_device
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp
from nsbench.workflow.config import Config
from nsbench.workflow.grid import load

logger = logging.getLogger(__name__)

TABLES = "tables"


@dataclass(frozen=True)
class Request:
    """What is to be measured, and how."""

    model: str
    """A name of config's, a folder with safetensors, or a run's folder or checkpoint."""
    text: Path
    out: Path
    settings: dict[str, Any]
    """Fields of `config.pretrained.Measurement`."""
    config: Path
    """Where names are looked up."""


def measure_one(request: Request, *, device: str, batch_size: int | None, max_memory_gb: float) -> None:
    """Measure a model, write the files of `schemas.pretrained.PARTS` and a figure under `request.out`, print a table.

    Raises ConfigError, ModelError, InputError or RecordError, each one sentence.
    """
    settings = parse(Measurement, request.settings, "settings")
    if request.out.exists() and not request.out.is_dir():
        raise ConfigError(f"--out {str(request.out)!r} is a file; a folder, there or not, is allowed")
    checkpoint = checkpoints.find_checkpoint(Path(request.model))
    name = _name(request.model)
    model = None if checkpoint else _model(request)
    identity = {"model": model or request.model, "text": str(request.text), "settings": settings}
    spec = canonical_json(identity)
    with use_device(device) as chosen:
        # One process alone: all cores are its own.
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        made_by = stamp(
            spec, code_digest("nsbench.pretrained.run:measure_model", "nsbench.pretrained.checkpoints"), str(chosen)
        )
        how = {"max_memory_gb": max_memory_gb, "batch_size": batch_size}
        if checkpoint:
            _measure_checkpoint(name, checkpoint, request.text, settings, request.out, chosen, made_by, **how)
        else:
            measured = MeasureSpec(name=name, model=model, measurement=settings)
            measure_model(measured, request.text, request.out, chosen, made_by, **how)
    tables = request.out / TABLES
    join_models([request.out], TablesSpec(models=[name], degree=settings.degree, scale="paper"), tables, made_by)
    shown = _shown(settings, request.out)
    figure = PretrainedFigureSpec(models=[name], figures=shown, scale="paper")
    render("figure_01", request.out, figure, request.out / "influence.png", request.out / "influence.pdf")
    print(summary(request.out, shown))
    print(f"\nwritten: {request.out}: *.parquet, {TABLES}/*.csv, influence.png, influence.pdf")


def _measure_checkpoint(
    name: str,
    checkpoint: Path,
    dataset: Path,
    settings: Measurement,
    out: Path,
    device: torch.device,
    stamp: dict[str, str],
    max_memory_gb: float,
    batch_size: int | None,
) -> None:
    """`measure_model` for a checkpoint of an nsbench run, on the test inputs of its data set."""
    tokens = checkpoints.dataset_tokens(checkpoint, dataset, settings.n_sequences)
    length = tokens.text_NT.shape[1]
    if length != settings.n_tokens:
        logger.info("%s: sequences are those of its data set, %d tokens long", name, length)
    row = {
        "source": "checkpoint",
        "origin": str(checkpoint),
        "weights_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "remark": "",
        "paper": "",
    }
    subject = Subject(lambda seed: checkpoints.load_checkpoint(checkpoint, device, seed), tokens, row, "")
    measure(name, subject, settings, out, stamp, max_memory_gb, batch_size)


def summary(folder: Path, shown: Shown) -> str:
    """The short table: what stands out of a measured model, the control beside it."""
    frames = {part: read_table(folder / f"{part}.parquet", PARTS[part]) for part in ("models", "measured")}
    first = frames["models"].iloc[0]
    remark = f"; {first.remark}" if first.remark else ""
    lines = [
        f"{first.model}: {first.architecture}, {first.kind}, {first.n_parameters / 1e6:.1f}M parameters{remark}",
        f"{first.n_sequences} sequences of {first.n_tokens} tokens of {first.text}",
    ]
    for row in frames["measured"].drop_duplicates(["inputs", "readout", "status"]).itertuples():
        if row.status != "measured":
            lines.append(f"{row.readout} on {row.inputs}: {row.status} ({row.reason})")
    concentration = read_table(folder / "concentration.parquet", PARTS["concentration"])
    here = concentration[
        (concentration["site"] == "embeddings")
        & (concentration["norm"] == shown.norm)
        & (concentration["of"] == "mean")
    ]
    table = pd.DataFrame(
        {
            "weights": here["weights"],
            "inputs": here["inputs"],
            "readout": here["readout"],
            "at least 0.1": here["n_large"].map("{:.0f}".format),
            "hold half": here["n_half"].map("{:.0f}".format),
            "none": here["n_zero"].map("{:.0f}".format),
            "first": here["first_share"].map("{:.1%}".format),
            "last": here["last_share"].map("{:.1%}".format),
            "top 5": here["top_five_share"].map("{:.1%}".format),
            "Gini": here["gini"].map("{:.2f}".format),
        }
    )
    lines += ["", f"influence of positions ({shown.norm}), mean over sequences:", table.to_string(index=False)]
    stability = read_table(folder / "stability.parquet", PARTS["stability"])
    wanted = stability["reduction"].isin(["pearson", "probability_cosine", "decision"]) & stability["rho"].notna()
    if wanted.any():
        chosen = stability[wanted].assign(
            measure=lambda rows: rows["noise"] + " " + rows["reduction"],
            value=lambda rows: rows["value"].map("{:.3f}".format) + rows["standard_error"].map(" ±{:.3f}".format),
        )
        wide = chosen.pivot(index=["weights", "inputs", "readout", "measure"], columns="rho", values="value")
        wide.columns = [f"ρ = {rho:.12g}" for rho in wide.columns]
        lines += ["", "noise stability ± standard error over sequences:", wide.reset_index().to_string(index=False)]
    replaced = stability[stability["noise"] == "replacement"]
    if len(replaced):
        shown_sums = replaced.assign(
            value=replaced["value"].map("{:.4g}".format) + replaced["standard_error"].map(" ±{:.2g}".format)
        )[["weights", "inputs", "readout", "reduction", "value"]]
        lines += [
            "",
            "average sensitivity, one token replaced, summed over positions:",
            shown_sums.to_string(index=False),
        ]
    return "\n".join(lines)


def _name(model: str) -> str:
    """A name for files and figures: the last part of a path, in letters that a name may have."""
    parts = [part for part in Path(model).resolve().parts if part not in ("trail", "/")]
    name = "-".join(parts[-2:]) if parts[-1].startswith(("seed-", "step-")) else Path(model).name or parts[-1]
    cleaned = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in name
    ).lstrip("_.-")
    return cleaned or "model"


def _model(request: Request) -> Model:
    """The model that the request means: a folder, or a name of config's."""
    if Path(request.model).is_dir():
        return FolderModel(source="folder", path=request.model)
    known = _known(request.config)
    if request.model not in known:
        listed = f"{request.config} has {', '.join(known)}" if known else f"{request.config} names no models"
        hint = nearest(request.model, known)
        raise ModelError(f"--model {request.model!r} is neither a folder nor a model of config{hint}; {listed}")
    return known[request.model]


def _known(config: Path) -> dict[str, Model]:
    if not config.is_file():
        return {}
    loaded: Config = load(read(config))
    return dict(loaded.pretrained.models) if loaded.pretrained else {}


def _shown(settings: Measurement, out: Path) -> Shown:
    """What the figure shows: the first readout that the model has, on the first kind of inputs."""
    measured = read_table(out / "measured.parquet", PARTS["measured"])
    inputs = settings.inputs[0]
    here = measured[(measured["status"] == "measured") & (measured["inputs"] == inputs)]
    if here.empty:
        raise ModelError(
            f"none of the readouts {', '.join(settings.readouts)} can be read off this model; add pooled_norm"
        )
    readout = here["readout"].iloc[0]
    return Shown(readout=readout, fallback=readout, inputs=inputs)
