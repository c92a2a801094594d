"""`nsbench measure`: one model of the user's, measured, printed as a short table, written and drawn."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
from pathlib import Path

import torch

from nsbench.analysis.pretrained_tables import join_models
from nsbench.config.base import parse
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
from nsbench.measures.estimate import LEAST_INPUTS
from nsbench.pretrained import checkpoints
from nsbench.pretrained.run import Subject, measure, measure_model
from nsbench.pretrained.sources import ModelError
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.code_digest import code_digest
from nsbench.storage.cores import usable_cores
from nsbench.storage.device import use_device
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp
from nsbench.workflow.grid import load

logger = logging.getLogger(__name__)

TABLES = "tables"
SETTINGS = ("rho", "n_tokens", "n_sequences", "readouts", "inputs", "seed")
COLUMNS = {
    "at least 0.1": ("n_large", "{:.0f}"),
    "hold half": ("n_half", "{:.0f}"),
    "none": ("n_zero", "{:.0f}"),
    "first": ("first_share", "{:.1%}"),
    "last": ("last_share", "{:.1%}"),
    "top 5": ("top_five_share", "{:.1%}"),
    "Gini": ("gini", "{:.2f}"),
}
"""Of the printed table: title -> column of `concentration`, and how its numbers are written."""


def measure_one(options: argparse.Namespace) -> None:
    """Measure a model, write the files of `schemas.pretrained.PARTS` and a figure into `out`, print a table.

    options: those of the command; `model` is a name of config's, a folder with safetensors, or a run's folder or
    checkpoint. Raises ConfigError, ModelError, InputError or RecordError, each one sentence.
    """
    given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    settings = parse(Measurement, given | ({"control_seed": None} if options.no_control else {}), "settings")
    out, name, checkpoint = options.out, _name(options.model), checkpoints.find_checkpoint(Path(options.model))
    model = None if checkpoint else _model(options.model, options.config)
    spec = canonical_json({"model": model or options.model, "text": str(options.text), "settings": settings})
    with use_device(options.device) as device:
        _use_cores()
        code = code_digest("nsbench.pretrained.run:measure_model", "nsbench.pretrained.checkpoints")
        made_by = stamp(spec, code, str(device))
        how = {"max_memory_gb": options.max_memory_gb, "batch_size": options.batch_size}
        if checkpoint:
            subject = _subject(checkpoint, options.text, settings, device)
            measure(name, subject, settings, out, made_by, **how)
        else:
            measured = MeasureSpec(name=name, model=model, measurement=settings)
            measure_model(measured, options.text, out, device, made_by, **how)
    join_models([out], TablesSpec(models=[name], degree=settings.degree, scale="paper"), out / TABLES, made_by)
    shown = _shown(settings, out)
    figure = PretrainedFigureSpec(models=[name], figures=shown, scale="paper")
    render("figure_01", out, figure, out / "influence.png", out / "influence.pdf")
    print(summary(out, shown))
    print(f"\nwritten: {out}: *.parquet, {TABLES}/*.csv, influence.png, influence.pdf")


def _use_cores() -> None:
    """Compute on all cores, since one process is alone, or on as many as the environment says."""
    if not any(map(os.environ.get, ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))):
        torch.set_num_threads(usable_cores())


def _subject(checkpoint: Path, dataset: Path, settings: Measurement, device: torch.device) -> Subject:
    """A checkpoint of an nsbench run, on the test inputs of its data set."""
    tokens = checkpoints.dataset_tokens(checkpoint, dataset, settings.n_sequences)
    length = tokens.text_NT.shape[1]
    if length != settings.n_tokens:
        logger.info("%s: sequences are those of its data set, %d tokens long", checkpoint, length)
    row = {
        "source": "checkpoint",
        "origin": str(checkpoint),
        "weights_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "remark": "",
        "paper": "",
    }
    return Subject(lambda seed: checkpoints.load_checkpoint(checkpoint, device, seed), tokens, row, "")


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
    shown_columns = {title: here[name].map(form.format) for title, (name, form) in COLUMNS.items()}
    table = here[["weights", "inputs", "readout"]].assign(**shown_columns)
    lines += ["", f"influence of positions ({shown.norm}), mean over sequences:", table.to_string(index=False)]
    stability = read_table(folder / "stability.parquet", PARTS["stability"])
    wanted = stability["reduction"].isin(["pearson", "probability_cosine", "decision"]) & stability["rho"].notna()
    unknown = wanted & stability["value"].isna()
    if unknown.any():
        few = first.n_sequences < LEAST_INPUTS
        why = f"{first.n_sequences} sequences; at least {LEAST_INPUTS} are needed" if few else "outputs do not vary"
        lines += ["", f"no {', '.join(stability[unknown]['reduction'].unique())} where it is not shown: {why}"]
        wanted &= ~unknown
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
    return re.sub("[^A-Za-z0-9_.-]", "-", name).lstrip("_.-") or "model"


def _model(model: str, config: Path) -> Model:
    """The model that is meant: a folder, or a name of config's."""
    if Path(model).is_dir():
        return FolderModel(source="folder", path=model)
    known = _known(config)
    if model not in known:
        listed = f"{config} has {', '.join(known)}" if known else f"{config} names no models"
        hint = nearest(model, known)
        raise ModelError(f"--model {model!r} is neither a folder nor a model of config{hint}; {listed}")
    return known[model]


def _known(config: Path) -> dict[str, Model]:
    loaded = load(read(config)) if config.is_file() else None
    return loaded.pretrained.models if loaded and loaded.pretrained else {}


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
