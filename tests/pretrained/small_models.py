"""What the tests of pretrained models share: tiny ones loaded, their text, settings and cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nsbench.config.base import parse
from nsbench.config.pretrained import Measurement, MeasureSpec
from nsbench.pretrained import cases, inputs, models, texts
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.parquet import read_table

CPU = torch.device("cpu")
STAMP = {"spec": "spec", "source_digest": "digest"}
SMALL = Measurement(n_tokens=8, n_sequences=3, rho=[0.5], n_replaced=3)


def loaded(made: Path, kind: str, seed: int | None = None) -> models.LanguageModel:
    return models.load(kind, made / kind, CPU, seed)


def text_of(made: Path, kind: str, n_tokens: int = 8, count: int = 3, special: bool = True) -> inputs.Tokens:
    tokenizer = models.load_tokenizer(kind, made / kind)
    lines, label = texts.read_lines(made / "text.txt")
    return inputs.tokenise(kind, tokenizer, lines, label, n_tokens, count, special)


def case(made: Path, kind: str, which: str, batch_size: int = 2, **changes: Any) -> cases.Found:
    settings = Measurement(**{**SMALL.model_dump(), **changes})
    model, tokens = loaded(made, kind), text_of(made, kind, count=settings.n_sequences)
    (made_inputs,), _ = inputs.make_inputs(model, tokens, [which], settings.seed, True)
    return cases.measure_case(model, made_inputs, tokens, settings, [(0, 1), (1, 0)], batch_size)


def spec_of(path: Path | str, **changes: Any) -> MeasureSpec:
    model = {"source": "folder", "path": str(path), **changes}
    return parse(MeasureSpec, {"name": "mine", "model": model, "measurement": SMALL.model_dump()})


def measured(folder: Path) -> dict[str, pd.DataFrame]:
    return {part: read_table(folder / f"{part}.parquet", schema) for part, schema in PARTS.items()}
