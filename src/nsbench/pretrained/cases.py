"""One case: a model, its weights and one kind of inputs; every measure of it, as rows of the records."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from nsbench.config.pretrained import Measurement
from nsbench.measures import readouts
from nsbench.measures.estimate import ByInput, Estimate
from nsbench.measures.gaussian_stability import gaussian_noise_stabilities
from nsbench.measures.influence import geometric_influences
from nsbench.measures.outputs import batches
from nsbench.measures.resampling import OUTPUT, Outputs, single_replacements, token_noise_stability
from nsbench.pretrained.inputs import Inputs, Tokens, regular_ids
from nsbench.pretrained.models import LanguageModel, States
from nsbench.pretrained.sites import concentrations, halves, positions, sites_of
from nsbench.pretrained.sources import ModelError
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.seeding import torch_stream
from nsbench.theory.resampling import resampling_correlation

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


class Found(NamedTuple):
    """Rows of a case, by part of `schemas.pretrained.PARTS`, without the model's name and weights."""

    measured: pd.DataFrame
    influence: pd.DataFrame
    concentration: pd.DataFrame
    sequences: pd.DataFrame
    stability: pd.DataFrame
    moments: pd.DataFrame
    per_input: pd.DataFrame


def not_applicable(model: LanguageModel, inputs: Inputs, readout: str) -> str:
    """Why a readout cannot be read off a model on these inputs; empty where it can."""
    if readout != "pooled_norm" and model.kind == "encoder":
        return model.headless
    if readout == "cross_entropy" and inputs.labels is None:
        return "these inputs have no tokens to predict"
    if readout == "mean_top_logit" and model.pooled:
        return "the model has one output for all positions: top_logit_last is the same"
    return ""


def passes(model: LanguageModel, inputs: Inputs, settings: Measurement) -> tuple[int, int]:
    """How much work a case is, in forward passes of one sequence: all of it, and of one pass with its gradients."""
    n_readouts = sum(not not_applicable(model, inputs, readout) for readout in settings.readouts)
    noisy, with_gradients = 1 + len(settings.rho) * settings.n_draws, 1 + 2 * n_readouts
    of_tokens = 0 if inputs.tokens_NT is None else noisy + 1 + settings.n_replaced
    return (1 + with_gradients + noisy + of_tokens) * bool(n_readouts), with_gradients


def measure_case(
    model: LanguageModel,
    inputs: Inputs,
    tokens: Tokens,
    settings: Measurement,
    shown_heads: Sequence[tuple[int, int]],
    batch_size: int,
) -> Found:
    """All measures of a model on inputs. Numbers do not depend on batch_size but by rounding.

    shown_heads: (layer, head) whose influences are kept position by position.
    """
    reasons = {readout: not_applicable(model, inputs, readout) for readout in settings.readouts}
    measured = [
        {"readout": readout, "status": "not_applicable" if reason else "measured", "reason": reason}
        for readout, reason in reasons.items()
    ]
    frames = {part: pd.DataFrame(columns=PARTS[part].names) for part in Found._fields}
    frames["measured"] = pd.DataFrame(measured)
    names = [readout for readout, reason in reasons.items() if not reason]
    if names:
        case = _Case(model, inputs, tokens, settings, names, batch_size)
        frames["moments"] = pd.DataFrame(case.moments())
        frames["influence"], frames["concentration"], frames["sequences"] = case.influences(shown_heads)
        logger.info("%s: influences measured", inputs.name)
        gaussian = case.gaussian()
        logger.info("%s: stability under Gaussian noise measured", inputs.name)
        frames["stability"] = pd.DataFrame([*gaussian, *case.resampled()])
        if case.per_input:
            frames["per_input"] = pd.concat(case.per_input, ignore_index=True)
        logger.info("%s: stability under token noise measured", inputs.name)
    return Found(**{part: frame.assign(inputs=inputs.name) for part, frame in frames.items()})


class _Case:
    """A model on inputs, and the readouts that it has there."""

    def __init__(
        self,
        model: LanguageModel,
        inputs: Inputs,
        tokens: Tokens,
        settings: Measurement,
        names: list[str],
        batch_size: int,
    ) -> None:
        self.model, self.inputs, self.tokens, self.settings = model, inputs, tokens, settings
        self.names, self.batch_size = names, batch_size
        self.labels = [inputs.labels] if inputs.labels is not None and "cross_entropy" in names else []
        self.scale = float(inputs.standard.std_C[0])
        self.per_input: list[pd.DataFrame] = []
        """Rows of PER_INPUT so far."""

    def keep(self, readout: str, quantity: str, values_N: Tensor, *laws: str, correlation: float = math.nan) -> None:
        """Keep a number of each input for Table 1, where the inputs are of one of these laws, under which it is proved.

        Cross entropy has no bounds: its labels are the tokens that are redrawn.
        """
        if self.inputs.name in laws and readout != "cross_entropy":
            named = {"readout": readout, "quantity": quantity, "correlation": correlation}
            values = values_N.double().cpu().numpy()
            self.per_input.append(pd.DataFrame(named | {"input": range(len(values)), "value": values}))

    def readouts(self, embeddings_NTC: Tensor, *labels: Tensor) -> list[Tensor]:
        """The readouts of N sequences, (N) each, from their embeddings."""
        return values(self.model.states(embeddings_NTC), labels[0] if labels else None, self.names)

    def moments(self) -> Rows:
        x_NTC = self.inputs.embeddings_NTC
        with torch.no_grad():
            parts = [
                torch.stack(self.readouts(x_NTC[cut], *(labels[cut] for labels in self.labels)), 1).double().cpu()
                for cut in batches(len(x_NTC), self.batch_size)
            ]
        for name, values_N in zip(self.names, torch.cat(parts).T, strict=True):
            self.keep(name, "readout", values_N, "gaussian", "uniform")
        return [
            {
                "readout": name,
                "mean": float(values_N.mean()),
                "norm2": float(values_N.square().mean()),
                "variance": float((values_N - values_N.mean()).square().mean()),
                "scale": self.scale,
            }
            for name, values_N in zip(self.names, torch.cat(parts).T, strict=True)
        ]

    def influences(self, shown_heads: Sequence[tuple[int, int]]) -> tuple[pd.DataFrame, ...]:
        """Position by position, how concentrated they are, and how much so on each sequence."""
        found = geometric_influences(
            self.readouts,
            self.inputs.embeddings_NTC,
            *self.labels,
            layers=self.model.layers,
            heads=self.model.heads,
            batch_size=self.batch_size,
        )
        for name, influences in zip(self.names, found, strict=True):
            self.keep(name, "influence", influences.inputs["squared_l2"].sum(-1) * self.scale**2, "gaussian")
        sites = {name: sites_of(influences) for name, influences in zip(self.names, found, strict=True)}
        kinds = (partial(positions, shown_heads=shown_heads), concentrations, halves)
        return tuple(
            pd.concat([frame.assign(readout=name) for name in sites for frame in of(sites[name])], ignore_index=True)
            for of in kinds
        )

    def gaussian(self) -> Rows:
        """Stability under Gaussian noise on standardised embeddings."""
        standard, x_NTC = self.inputs.standard, self.inputs.embeddings_NTC
        found = gaussian_noise_stabilities(
            standard.of_standard(self.readouts),
            standard.to_standard(x_NTC),
            self.settings.rho,
            self._generator("gaussian_noise"),
            *self.labels,
            n_draws=self.settings.n_draws,
            batch_size=self.batch_size,
        )
        rows = []
        for name, estimates in zip(self.names, found, strict=True):
            for estimate in estimates:
                rows.append(_row(name, "gaussian", estimate, correlation=estimate.rho))
                if isinstance(estimate, ByInput):
                    self.keep(name, "half_square", estimate.per_input_N, "gaussian", correlation=estimate.rho)
        return rows

    def resampled(self) -> Rows:
        """Stability and average sensitivity under token noise. Cross entropy is left out: its labels are the tokens."""
        tokens_NT, settings = self.inputs.tokens_NT, self.settings
        if tokens_NT is None:
            return []
        kept = [name for name in self.names if name != "cross_entropy"]
        regular = regular_ids(self.model, self.tokens)

        @torch.no_grad()
        def outputs(tokens_NT: Tensor) -> Outputs:
            found = self.model.states(self.model.embed(tokens_NT))
            values_NR = torch.stack(values(found, None, kept), 1)
            logits = found.logits
            return Outputs(values_NR, logits[:, None] if logits is not None and self.model.pooled else logits)

        fixed, size = self.tokens.fixed_ids.to(self.model.device), self.batch_size
        resampled = token_noise_stability(
            outputs, tokens_NT, settings.rho, regular, self._generator("resampling"), n_draws=settings.n_draws,
            fixed_ids=fixed, batch_size=size,
        )  # fmt: skip
        replaced = single_replacements(
            outputs, tokens_NT, regular, self._generator("replacement"), n_positions=settings.n_replaced,
            fixed_ids=fixed, batch_size=size,
        )  # fmt: skip
        rows = []
        for noise, found in (("resampling", resampled), ("replacement", replaced)):
            for readout, estimate in found:
                known = noise == "resampling"
                correlation = float(resampling_correlation(estimate.rho, len(regular))) if known else math.nan
                name = "output" if readout == OUTPUT else kept[readout]
                rows.append(_row(name, noise, estimate, correlation))
                if isinstance(estimate, ByInput) and readout != OUTPUT:
                    quantity = "half_square" if known else "influence"
                    self.keep(name, quantity, estimate.per_input_N, "uniform", correlation=correlation)
        return rows

    def _generator(self, noise: str) -> torch.Generator:
        return torch_stream(self.settings.seed, "pretrained", noise, device=self.inputs.embeddings_NTC.device)


def values(states: States, labels: Tensor | None, names: list[str]) -> list[Tensor]:
    """Readouts of N sequences, (N) each. Raises ModelError for one that is not finite."""
    found = []
    for name in names:
        if name == "cross_entropy":
            found.append(readouts.cross_entropy(states.logits, labels))
        else:
            found.append(readouts.READOUTS[name](states.hidden_NTC if name == "pooled_norm" else states.logits))
        if not found[-1].isfinite().all():
            raise ModelError(f"{name} is not finite on some sequence; other weights or inputs are needed")
    return found


def _row(readout: str, noise: str, estimate: Estimate, correlation: float) -> dict[str, Any]:
    shared = {name: getattr(estimate, name) for name in ("reduction", "rho", "value", "standard_error")}
    return {"readout": readout, "noise": noise, "correlation": correlation, **shared}
