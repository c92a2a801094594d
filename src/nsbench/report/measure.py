"""`nsbench.measure`: one model of the user's, in memory or from files, measured.

No stage of the workflow comes here, so a file of one's own that registers a measure depends on none of it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench.config.base import ConfigError, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import nearest
from nsbench.config.pretrained import FolderModel, HubModel, Measurement, MeasureSpec, Model, PackageModel, TablesSpec

if TYPE_CHECKING:
    import torch

    from nsbench.pretrained.run import Subject
    from nsbench.report.measured import Measured

CHANGES_NO_RESULT = True

logger = logging.getLogger(__name__)

TABLES = "tables"
Source = FolderModel | HubModel | PackageModel


def measure(
    model: Any,
    tokenizer: Any = None,
    texts: Path | str | Sequence[str] | None = None,
    *,
    out: Path | str | None = None,
    rho: Sequence[float] = (0.5, 0.9),
    n_tokens: int = 256,
    n_sequences: int = 16,
    inputs: Sequence[str] = ("text",),
    readouts: Sequence[str] | None = None,
    control: bool = True,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    max_memory_gb: float = 4.0,
    config: Path | str | None = None,
    name: str | None = None,
) -> Measured | Callable[[Any], Any]:
    """Measure how stable a language model is, and which positions of its input it depends on.

    model: a causal or masked model of transformers in memory (measured as a float32 copy; it stays as it is), with its
    tokenizer; or, without one, a model's folder, a name of `config`'s, a repository of the Hugging Face hub, or a run
    of nsbench. texts: texts, or the path of a text file; of a run the file of its data set. control: measure a
    randomly initialised copy too: what it shows as well was not learned. out: a folder that keeps all tables.
    Other settings are those of `nsbench measure --help`; readouts=None: all. Raises ConfigError, ModelError,
    InputError, RecordError or DeviceError, each one sentence.

    With a name alone it is a decorator, which registers a measure of your own on checkpoints (`nsbench new measure`).
    """
    if tokenizer is None and texts is None and isinstance(model, str):
        from nsbench.measures.registry import measure as register

        return register(model)
    if texts is None:
        raise ConfigError("measure: there are no texts; a list of texts, or the path of a text file, is allowed")
    if not isinstance(texts, str | Path):
        is_list = isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping)
        texts = list(texts) if is_list else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ConfigError(
                "measure: texts has what is no text; a list of texts, or the path of a text file, is allowed"
            )
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"measure: batch_size = {batch_size} is not allowed; a whole number of 1 or more is")
    rho, inputs = (list(value) if isinstance(value, Iterable) else value for value in (rho, inputs))
    given = {"rho": rho, "n_tokens": n_tokens, "n_sequences": n_sequences, "inputs": inputs, "seed": seed}
    given |= {"readouts": list(readouts)} if readouts is not None else {}
    settings = parse(Measurement, given | ({} if control else {"control_seed": None}), "settings")
    named = isinstance(model, str | Path)
    if tokenizer is not None and (named or isinstance(model, Source)):
        raise ConfigError("measure: a model that is read from files brings its tokenizer; give none")
    name = name or (name_for(str(model)) if named else type(model).__name__)
    of_tables = parse(TablesSpec, {"models": [name], "degree": settings.degree, "scale": "paper"}, "measure")
    source = find_model(str(model), config) if named else model
    from nsbench.analysis.pretrained_tables import join_models
    from nsbench.pretrained import run
    from nsbench.report.measured import Measured
    from nsbench.storage.code_digest import code_digest
    from nsbench.storage.device import use_device
    from nsbench.storage.provenance import stamp

    subject_spec = {"model": source if isinstance(source, Source) else str(model) if named else "in memory"}
    spec = canonical_json(
        subject_spec
        | {"text": str(texts) if isinstance(texts, str | Path) else f"{len(texts)} texts", "settings": settings}
    )
    code = code_digest("nsbench.pretrained.run:measure_model", "nsbench.pretrained.checkpoints")
    with tempfile.TemporaryDirectory(prefix="nsbench-") as scratch, use_device(device) as where:
        folder = Path(out or Path(scratch, "measured"))
        subject = _subject(name, source, tokenizer, texts, settings, where, Path(scratch, "model"))
        made_by, heads = stamp(spec, code, str(where)), getattr(source, "heads", None)
        run.measure(name, subject, settings, folder, made_by, max_memory_gb, batch_size, heads, show_progress=True)
        if out:
            join_models([folder], of_tables, folder / TABLES, made_by)
        return Measured(folder)


def find_model(model: str, config: Path | str | None = None) -> Model | Path:
    """What a name means: a run's checkpoint, a folder, a name of config's or a repository of the hub, in this order.

    Imports no torch where it is none of them. Raises ModelError, and RecordError for a file that is no checkpoint.
    """
    if Path(model).exists():
        from nsbench.pretrained.checkpoints import find_checkpoint

        return find_checkpoint(Path(model)) or parse(FolderModel, {"source": "folder", "path": model}, "model")
    from nsbench.pretrained.sources import ModelError, Unavailable, from_hub, newest_of_hub

    known = _known(Path(config)) if config else {}
    if model in known:
        if isinstance(known[model], HubModel):
            from_hub(model, known[model])
        return known[model]
    no = f"{model!r} is neither a folder nor a model of config{nearest(model, known)}"
    listed = f"; {config} has {', '.join(known)}" if known else f"; {config} names no models" if config else ""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise ModelError(no + listed)
    try:
        return newest_of_hub(model)
    except Unavailable as error:
        raise Unavailable(f"{no}, nor to be had from the Hugging Face hub: {error}{listed}") from error


def _known(config: Path) -> dict[str, Model]:
    from nsbench.config.loader import read
    from nsbench.workflow.grid import load

    loaded = load(read(config)) if config.is_file() else None
    return loaded.pretrained.models if loaded and loaded.pretrained else {}


def name_for(model: str) -> str:
    """A name for files and figures: the last part of a path, in letters that a name may have."""
    parts = [part for part in Path(model).resolve().parts if part not in ("trail", "/")]
    name = "-".join(parts[-2:]) if parts[-1].startswith(("seed-", "step-")) else Path(model).name or parts[-1]
    return re.sub("[^A-Za-z0-9_.-]", "-", name).lstrip("_.-") or "model"


def _subject(
    name: str,
    source: Any,
    tokenizer: Any,
    texts: Path | str | Sequence[str],
    settings: Measurement,
    device: torch.device,
    folder: Path,
) -> Subject:
    """What is measured; `folder`, empty, gets a model that is in memory."""
    from nsbench.pretrained import checks, models, run, sources
    from nsbench.pretrained.inputs import trial_tokens
    from nsbench.pretrained.texts import read_lines

    if isinstance(source, Path):
        return _checkpoint(source, Path(str(texts)), settings, device)
    lines, label = read_lines(texts)
    about, own, is_own = {}, source, not isinstance(source, Source)
    if is_own:
        models.save(name, source, tokenizer, folder)
        about, source = {"source": "memory", "origin": "in memory"}, FolderModel(source="folder", path=str(folder))
    spec = MeasureSpec(name=name, model=source, measurement=settings)
    subject = run.subject_of(spec, sources.fetch(name, source), lines, label, device)
    if not is_own:
        return subject

    def load(seed: int | None) -> models.LanguageModel:
        copy = subject.load(seed)
        if seed is None:
            checks.compare(name, own, copy, trial_tokens(copy, subject.tokens))
        return copy

    return subject._replace(load=load, row=subject.row | about)


def _checkpoint(checkpoint: Path, dataset: Path, settings: Measurement, device: torch.device) -> Subject:
    """A checkpoint of an nsbench run, on the test inputs of its data set."""
    from nsbench.pretrained import checkpoints
    from nsbench.pretrained.run import Subject

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
