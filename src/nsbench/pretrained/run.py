"""The stage `pretrained`: one model and its control, measured on every kind of inputs, into Parquet files.

A case (weights x inputs) that is done is kept beside the results until all are: an interrupted job goes on from there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from nsbench.config.canonical import canonical_json
from nsbench.config.pretrained import Measurement, MeasureSpec
from nsbench.pretrained import checks, models
from nsbench.pretrained.cases import Found, measure_case, passes
from nsbench.pretrained.inputs import Tokens, make_inputs, tokenise, trial_tokens
from nsbench.pretrained.models import LanguageModel, States
from nsbench.pretrained.sources import Fetched, Unavailable, fetch, origin, settings_digest
from nsbench.pretrained.texts import read_lines
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table

logger = logging.getLogger(__name__)

LARGEST_BATCH = 8
"""On a CPU more sequences at a time are no faster; on a GPU, memory ends before speed does."""
BYTES = 4
BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
MUCH_UNKNOWN = 0.1
"""The share of tokens from which on a remark tells that the tokenizer does not know them, as lower-case DNA."""


class Subject(NamedTuple):
    """What is measured: how it loads, and on which sequences."""

    load: Callable[[int | None], LanguageModel]
    """None: the weights themselves; a seed: the randomly initialised copy."""
    tokens: Tokens
    row: dict[str, Any]
    """Columns of MODEL that loading does not give."""
    settings: str
    """Digests of the model's small files and the library's version."""


def measure_model(
    spec: MeasureSpec,
    text_file: Path,
    out: Path,
    device: torch.device,
    stamp: dict[str, str],
    *,
    unreachable: str = "stop",
    max_memory_gb: float = 4.0,
    batch_size: int | None = None,
    cache: Path | None = None,
) -> None:
    """Measure a model and write `schemas.pretrained.PARTS` into the folder `out`, each whole.

    Where the model cannot be had and `unreachable` is "skip", its rows say `unavailable` and why. Raises
    ModelError, InputError or RecordError, each one sentence, for a model, a text or a file that cannot be used.
    """
    lines, label = read_lines(text_file)
    try:
        fetched = fetch(spec.name, spec.model, cache)
    except Unavailable as error:
        if unreachable != "skip":
            raise
        logger.warning("%s; its rows will say `unavailable`", error)
        _write_unavailable(spec, str(error), label, out, stamp)
        return
    subject = subject_of(spec, fetched, lines, label, device)
    measure(spec.name, subject, spec.measurement, out, stamp, max_memory_gb, batch_size, spec.model.heads)


def measure(
    name: str,
    subject: Subject,
    settings: Measurement,
    out: Path,
    stamp: dict[str, str],
    max_memory_gb: float,
    batch_size: int | None,
    heads: list[list[int]] | None = None,
    show_progress: bool = False,
) -> None:
    """Measure a subject, case by case, and write all its files; show_progress: a bar, on a terminal."""
    bar = tqdm(desc=name, disable=None if show_progress else True, bar_format=BAR)
    seeds = {"pretrained": None} | ({} if settings.control_seed is None else {"random": settings.control_seed})
    frames: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
    tokens, n_tokens = subject.tokens, subject.tokens.text_NT.shape[1]
    for weights, seed in seeds.items():
        model = found = None  # Free the previous weights first: one model at a time is in memory.
        model = subject.load(seed)
        if seed is None and model.n_positions is not None and n_tokens > model.n_positions:
            logger.warning("%s: sequences of %d tokens, more than its %d positions", name, n_tokens, model.n_positions)
        checks.try_out(name, model, trial_tokens(model, tokens))
        found, scale = make_inputs(model, tokens, settings.inputs, settings.seed, "cross_entropy" in settings.readouts)
        row = _model_row(name, weights, model, subject, settings) | {"scale": scale}
        frames["models"].append(pd.DataFrame([row]))
        size, shown = batch_size or _batch_size(model, n_tokens, max_memory_gb), _shown_heads(heads, model)
        works = [len(tokens.text_NT) * passes(model, inputs, settings)[0] for inputs in found]
        bar.total = len(seeds) * sum(works)
        for inputs, work in zip(found, works, strict=True):
            before = bar.n
            title, folder = f"{name} ({weights}), {inputs.name}", out / "cases" / f"{weights}-{inputs.name}"
            key = _case_key(stamp, subject, weights, inputs.name)
            done = _read_case(folder, key)
            if done is None:
                logger.info("%s: measuring %d sequences", title, len(inputs.embeddings_NTC))
                states = _counted(model.states, bar, passes(model, inputs, settings)[1])
                done = measure_case(replace(model, states=states), inputs, tokens, settings, shown, size)
                del states  # It holds the weights.
                done = Found(*(frame.assign(model=name, weights=weights) for frame in done))
                for part, frame in done._asdict().items():
                    write_table(folder / f"{part}.parquet", frame, PARTS[part], {**stamp, "case_key": key})
            else:
                logger.info("%s: measured before, kept", title)
            for part, frame in done._asdict().items():
                frames[part].append(frame)
            bar.update(before + work - bar.n)
    for part, schema in PARTS.items():
        write_table(out / f"{part}.parquet", pd.concat(frames[part], ignore_index=True), schema, stamp)
    shutil.rmtree(out / "cases", ignore_errors=True)
    bar.close()


def _counted(
    states: Callable[[Tensor], States], bar: tqdm[NoReturn], with_gradients: int
) -> Callable[[Tensor], States]:
    """A model's states, and the bar moved on by each sequence's pass."""

    def counted(embeddings_NTC: Tensor) -> States:
        found = states(embeddings_NTC)
        bar.update(len(embeddings_NTC) * (with_gradients if found.hidden_NTC.requires_grad else 1))
        return found

    return counted


def subject_of(
    spec: MeasureSpec, fetched: Fetched, lines: tuple[str, ...], label: str, device: torch.device
) -> Subject:
    """A model of a hub, a package or a folder, on sequences of a text.

    Raises ModelError or InputError for a configuration, a tokenizer or a text that cannot be used.
    """
    settings, folder = spec.measurement, fetched.folder
    models.configuration(spec.name, folder)
    tokenizer = models.load_tokenizer(spec.name, folder)
    tokens = tokenise(
        spec.name, tokenizer, lines, label, settings.n_tokens, settings.n_sequences, settings.special_tokens
    )
    row = {
        "source": spec.model.source,
        "origin": origin(spec.model),
        "weights_sha256": fetched.sha256,
        "remark": spec.model.remark,
        "paper": spec.model.paper or "",
    }
    spread = getattr(spec.model, "initializer_range", None)
    digests = f"{settings_digest(folder)} transformers {importlib.metadata.version('transformers')}"
    return Subject(lambda seed: models.load(spec.name, folder, device, seed, spread), tokens, row, digests)


def _model_row(
    name: str, weights: str, model: LanguageModel, subject: Subject, settings: Measurement
) -> dict[str, Any]:
    row = subject.row
    if weights == "random":
        start = f"initialised with seed {settings.control_seed}"
        row = row | {"weights_sha256": "", "origin": start, "remark": "", "paper": ""}
    own = ("architecture", "kind", "n_parameters", "n_layers", "n_heads", "d_model", "n_vocabulary")
    n_sequences, n_tokens = subject.tokens.text_NT.shape
    remarks = [row["remark"], *model.remarks]
    if model.n_positions is not None and n_tokens > model.n_positions:
        remarks.append(f"{n_tokens} tokens, more than its {model.n_positions} positions")
    if subject.tokens.unknown >= MUCH_UNKNOWN:
        remarks.append(f"{subject.tokens.unknown:.0%} of the text's tokens unknown")
    return {
        **row,
        "model": name,
        "weights": weights,
        "status": "measured",
        "reason": "",
        "remark": "; ".join(part for part in remarks if part),
        **{column: getattr(model, column) for column in own},
        "text": subject.tokens.text,
        "n_tokens": n_tokens,
        "n_special": subject.tokens.n_special,
        "n_sequences": n_sequences,
    }


def _shown_heads(heads: list[list[int]] | None, model: LanguageModel) -> list[tuple[int, int]]:
    """The heads that are kept position by position. Raises ModelError for one that the model has not."""
    if heads is None:
        return [(0, 0), (model.n_layers // 2, 0)]
    for layer, head in heads:
        if layer >= model.n_layers or head >= model.n_heads:
            raise models.ModelError(
                f"heads: [{layer}, {head}] is not in a model of {model.n_layers} layers with {model.n_heads} heads; "
                "both are counted from 0"
            )
    return [(layer, head) for layer, head in heads]


def _batch_size(model: LanguageModel, n_tokens: int, max_memory_gb: float) -> int:
    """How many sequences fit into the memory by a rough estimate; at least one is tried."""
    fitting = int(max_memory_gb * 1e9 / BYTES / model.values_per_sequence(n_tokens))
    return max(1, min(LARGEST_BATCH, fitting))


def _case_key(stamp: dict[str, str], subject: Subject, weights: str, inputs: str) -> str:
    """What a kept case depends on: settings, code, weights, the model's small files, tokens and the case itself."""
    tokens = subject.tokens
    digest = hashlib.sha256()
    for tensor in (tokens.text_NT, tokens.labels, tokens.regular_ids, tokens.fixed_ids):
        digest.update(b"none" if tensor is None else tensor.numpy().tobytes())
    made_by = [stamp.get("spec", ""), stamp.get("source_digest", "")]
    identity = [*made_by, subject.row["weights_sha256"], subject.settings, digest.hexdigest(), weights, inputs]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def _read_case(folder: Path, key: str) -> Found | None:
    """The case that an earlier call kept, if all of it is of this key; a warning where it is damaged."""
    paths = {part: folder / f"{part}.parquet" for part in Found._fields}
    try:
        if all(path.exists() and read_stamp(path).get("case_key") == key for path in paths.values()):
            return Found(*(read_table(path, PARTS[part]) for part, path in paths.items()))
    except RecordError as error:
        logger.warning("measured again, since it cannot be used: %s", error)
    return None


def _write_unavailable(spec: MeasureSpec, reason: str, text: str, out: Path, stamp: dict[str, str]) -> None:
    """Rows that say that a model could not be had, and why; no others."""
    settings, model = spec.measurement, spec.model
    row = {
        **{field.name: "" if pa.types.is_string(field.type) else 0 for field in PARTS["models"]},
        "model": spec.name,
        "status": "unavailable",
        "reason": reason,
        "source": model.source,
        "origin": origin(model),
        "remark": model.remark,
        "paper": model.paper or "",
        "text": text,
        "n_tokens": settings.n_tokens,
        "n_sequences": settings.n_sequences,
        "scale": math.nan,
    }
    every = ["pretrained"] + (["random"] if settings.control_seed is not None else [])
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    rows["models"] = [{**row, "weights": weights} for weights in every]
    why = {"model": spec.name, "status": "unavailable", "reason": reason}
    cases = itertools.product(every, settings.inputs, settings.readouts)
    rows["measured"] = [why | dict(zip(("weights", "inputs", "readout"), case, strict=True)) for case in cases]
    for part, schema in PARTS.items():
        write_table(out / f"{part}.parquet", rows[part], schema, stamp)
