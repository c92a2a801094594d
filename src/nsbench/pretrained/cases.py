"""One case: a model, its weights and one kind of inputs; every measure of it, as rows of the records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from nsbench.config.pretrained import Measurement
from nsbench.measures import readouts
from nsbench.measures.base import Estimate
from nsbench.measures.batches import batches
from nsbench.measures.gaussian_stability import gaussian_noise_stabilities
from nsbench.measures.influence import geometric_influences
from nsbench.measures.resampling import OUTPUT, Outputs, single_replacements, token_noise_stability
from nsbench.pretrained.inputs import Inputs, Tokens, regular_ids
from nsbench.pretrained.models import LanguageModel, States
from nsbench.pretrained.sites import concentrations, positions, sites_of
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.seeding import torch_stream
from nsbench.theory.resampling import resampling_correlation

Rows = list[dict[str, Any]]


class Found(NamedTuple):
    """Rows of a case, by part of `schemas.pretrained.PARTS`, without the model's name and weights."""

    measured: pd.DataFrame
    influence: pd.DataFrame
    concentration: pd.DataFrame
    stability: pd.DataFrame
    moments: pd.DataFrame


def not_applicable(model: LanguageModel, inputs: Inputs, readout: str) -> str:
    """Why a readout cannot be read off a model on these inputs; empty where it can."""
    if readout != "pooled_norm" and model.kind == "encoder":
        return "the model has no language-model head"
    if readout == "cross_entropy" and inputs.labels is None:
        return "these inputs have no tokens to predict"
    if readout == "mean_top_logit" and model.pooled:
        return "the model has one output for all positions: top_logit_last is the same"
    return ""


def forward_passes(settings: Measurement, inputs: Inputs) -> int:
    """Sequences that go through the model in a case, to say how far it is."""
    n_sequences, copies = len(inputs.embeddings_NTC), len(settings.rho) * settings.n_draws
    per_sequence = 3 + copies
    if inputs.tokens_NT is not None:
        per_sequence += 2 + copies + min(settings.n_replaced, inputs.tokens_NT.shape[1])
    return n_sequences * per_sequence


def measure_case(
    model: LanguageModel,
    inputs: Inputs,
    tokens: Tokens,
    settings: Measurement,
    shown_heads: Sequence[tuple[int, int]],
    batch_size: int,
    passed: Callable[[int], None] = lambda n: None,
) -> Found:
    """All measures of a model on inputs. Numbers do not depend on batch_size but by rounding.

    shown_heads: (layer, head) whose influences are kept position by position. passed: called with the number of
    sequences of each forward pass.
    """
    reasons = {readout: not_applicable(model, inputs, readout) for readout in settings.readouts}
    names = [readout for readout, reason in reasons.items() if not reason]
    measured = [
        {"readout": readout, "status": "not_applicable" if reason else "measured", "reason": reason}
        for readout, reason in reasons.items()
    ]

    if not names:
        parts = {part: pd.DataFrame(columns=PARTS[part].names) for part in Found._fields}
        return Found(**parts | {"measured": pd.DataFrame(measured).assign(inputs=inputs.name)})

    def states(embeddings_NTC: Tensor) -> States:
        found = model.states(embeddings_NTC)
        passed(len(embeddings_NTC))
        return found

    def f(embeddings_NTC: Tensor, *labels: Tensor) -> list[Tensor]:
        return _values(states(embeddings_NTC), labels[0] if labels else None, names)

    others = [] if inputs.labels is None or "cross_entropy" not in names else [inputs.labels]
    moments = _moments(f, inputs, names, others, batch_size)
    influence, concentrated = [], []
    found = geometric_influences(
        f,
        inputs.embeddings_NTC,
        *others,
        layers=model.layers,
        heads=model.heads,
        batch_size=batch_size,
        coordinates=False,
    )
    for name, influences in zip(names, found, strict=True):
        sites = sites_of(influences)
        influence += [frame.assign(readout=name) for frame in positions(sites, shown_heads)]
        concentrated += [frame.assign(readout=name) for frame in concentrations(sites)]
    stability = [
        *_gaussian(f, inputs, names, others, settings, batch_size),
        *_resampled(model, states, inputs, tokens, names, settings, batch_size),
    ]
    frames = [
        pd.DataFrame(measured),
        pd.concat(influence, ignore_index=True),
        pd.concat(concentrated, ignore_index=True),
        pd.DataFrame(stability),
        pd.DataFrame(moments),
    ]
    return Found(*(frame.assign(inputs=inputs.name) for frame in frames))


def _values(states: States, labels: Tensor | None, names: list[str]) -> list[Tensor]:
    """Readouts of N sequences, (N) each."""
    found = []
    for name in names:
        if name == "cross_entropy":
            found.append(readouts.cross_entropy(states.logits, labels))
        else:
            source = states.hidden_NTC if name == "pooled_norm" else states.logits
            found.append(readouts.READOUTS[name](source))
    return found


def _moments(
    f: Callable[..., list[Tensor]], inputs: Inputs, names: list[str], others: list[Tensor], batch_size: int
) -> Rows:
    x_NTC = inputs.embeddings_NTC
    with torch.no_grad():
        parts = [
            torch.stack(f(x_NTC[cut], *(other[cut] for other in others)), 1).double().cpu()
            for cut in batches(len(x_NTC), x_NTC[0].numel(), batch_size)
        ]
    values_NR = torch.cat(parts)
    scale = float(inputs.standard.std_C[0])
    return [
        {
            "readout": name,
            "mean": float(values_N.mean()),
            "norm2": float(values_N.square().mean()),
            "variance": float((values_N - values_N.mean()).square().mean()),
            "scale": scale,
        }
        for name, values_N in zip(names, values_NR.T, strict=True)
    ]


def _gaussian(
    f: Callable[..., list[Tensor]],
    inputs: Inputs,
    names: list[str],
    others: list[Tensor],
    settings: Measurement,
    batch_size: int,
) -> Rows:
    standard, x_NTC = inputs.standard, inputs.embeddings_NTC
    generator = torch_stream(settings.seed, "pretrained", "gaussian_noise", device=x_NTC.device)
    found = gaussian_noise_stabilities(
        standard.of_standard(f),
        standard.to_standard(x_NTC),
        settings.rho,
        generator,
        *others,
        n_draws=settings.n_draws,
        batch_size=batch_size,
    )
    return [
        _row(name, "gaussian", estimate, correlation=estimate.rho)
        for name, estimates in zip(names, found, strict=True)
        for estimate in estimates
    ]


def _resampled(
    model: LanguageModel,
    states: Callable[[Tensor], States],
    inputs: Inputs,
    tokens: Tokens,
    names: list[str],
    settings: Measurement,
    batch_size: int,
) -> Rows:
    """Stability and average sensitivity under token noise. Cross entropy is left out: its labels are the tokens."""
    if inputs.tokens_NT is None:
        return []
    kept = [name for name in names if name != "cross_entropy"]
    regular = regular_ids(model, tokens)

    @torch.no_grad()
    def outputs(tokens_NT: Tensor) -> Outputs:
        found = states(model.embed(tokens_NT))
        values_NR = torch.stack(_values(found, None, kept), 1)
        logits = found.logits
        return Outputs(values_NR, logits[:, None] if logits is not None and model.pooled else logits)

    def rows(noise: str, found: list[Any]) -> Rows:
        made = []
        for readout, estimate in found:
            known = noise == "resampling"
            correlation = float(resampling_correlation(estimate.rho, len(regular))) if known else math.nan
            made.append(_row("output" if readout == OUTPUT else kept[readout], noise, estimate, correlation))
        return made

    def generator(noise: str) -> torch.Generator:
        return torch_stream(settings.seed, "pretrained", noise, device=model.device)

    common: dict[str, Any] = {"fixed_ids": tokens.fixed_ids.to(model.device), "batch_size": batch_size}
    tokens_NT, n_draws, n_replaced = inputs.tokens_NT, settings.n_draws, settings.n_replaced
    resampled = token_noise_stability(
        outputs, tokens_NT, settings.rho, regular, generator("resampling"), n_draws=n_draws, **common
    )
    replaced = single_replacements(
        outputs, tokens_NT, regular, generator("replacement"), n_positions=n_replaced, **common
    )
    return [*rows("resampling", resampled), *rows("replacement", replaced)]


def _row(readout: str, noise: str, estimate: Estimate, correlation: float) -> dict[str, Any]:
    return {
        "readout": readout,
        "noise": noise,
        "reduction": estimate.reduction,
        "rho": estimate.rho,
        "correlation": correlation,
        "value": estimate.value,
        "standard_error": estimate.standard_error,
    }
