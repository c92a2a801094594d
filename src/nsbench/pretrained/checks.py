"""What a language model must do to be measured, tried before work starts. Uses transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nsbench.measures.gradients import each_gradients
from nsbench.pretrained.models import LanguageModel, States, in_one_sentence
from nsbench.pretrained.sources import ModelError

LARGEST_DIFFERENCE = 1e-4
"""Of outputs that should be equal, as a share of the largest."""
OWN_DIFFERENCE, HALF_DIFFERENCE = 1e-3, 0.1
"""The same of a model in memory and its float32 copy: in float32, perhaps on another device, and in half precision."""


def try_out(name: str, model: LanguageModel, tokens_NT: Tensor) -> None:
    """Pass sequences forward and backward, to refuse a model that cannot be measured before work starts.

    Raises ModelError for a model that fails or has outputs that are not finite; whose outputs for tokens are not those
    for their embeddings; that is called causal and sees what follows, or masked and does not; that takes no
    embeddings but those of tokens; and whose layers do not take sequences first.
    """
    title, n_tokens = f"{name}: {model.architecture}", tokens_NT.shape[1]
    with in_one_sentence(f"{title} cannot be measured at {n_tokens} tokens", "; fewer tokens, or another model"):
        tokens_NT = tokens_NT.to(model.device)
        x_NTC = model.embed(tokens_NT)
        # Of the embeddings' own size, but no token's.
        noise_NTC = torch.randn(x_NTC.shape, generator=torch.Generator().manual_seed(0)).to(x_NTC) * x_NTC.std()
        with torch.no_grad():
            found, wanted = model.states(x_NTC), model.of_tokens(tokens_NT)
            last_NTC = x_NTC.clone()
            last_NTC[:, -1] += noise_NTC[:, -1]
            moved = model.states(last_NTC)
        for output, of_embeddings, of_tokens in zip(States._fields, found, wanted, strict=True):
            if of_embeddings is None:
                continue
            rows = of_embeddings.shape[: 1 if output == "logits" and model.pooled else 2]
            if rows != tokens_NT.shape[: len(rows)]:
                shape = tuple(of_embeddings.shape)
                raise ModelError(f"{title} gives {output} of shape {shape} for tokens {tuple(tokens_NT.shape)}")
            if not (of_embeddings.isfinite().all() and of_tokens.isfinite().all()):
                raise ModelError(f"{title} gives outputs that are not finite; other weights are needed")
            if (difference := _difference(of_embeddings, of_tokens)) > LARGEST_DIFFERENCE:
                raise ModelError(
                    f"{title} gives other outputs for tokens than for their embeddings (by {difference:.1g} of the "
                    "largest); what it does to tokens alone cannot be measured"
                )
        if found.logits is not None and not model.pooled:
            before = _difference(found.logits[:, -2], moved.logits[:, -2])
            if model.kind == "causal" and before > LARGEST_DIFFERENCE:
                raise ModelError(f"{title} is called causal, but sees tokens that follow; is_decoder may be missing")
            if model.kind == "masked" and before == 0:
                raise ModelError(f"{title} is called masked, but sees no tokens that follow")
        weights_TC = torch.randn(found.hidden_NTC.shape[1:], generator=torch.Generator().manual_seed(1)).to(x_NTC)
        (gradients,) = each_gradients(
            lambda x_NTC: [(model.states(x_NTC).hidden_NTC * weights_TC).flatten(1).sum(1)],
            x_NTC + noise_NTC,
            layers=model.layers,
            heads=model.heads,
        )
        if not gradients.inputs_NTC.isfinite().all() or not gradients.inputs_NTC.any():
            raise ModelError(f"{title} has gradients that are all 0 or not finite; other weights are needed")
        for gradient in (*gradients.layers.values(), *(each.flatten(2) for each in gradients.heads.values())):
            if gradient.shape[:2] != tokens_NT.shape or gradient.ndim != 3:
                shape = tuple(gradient.shape)
                raise ModelError(
                    f"{title} has layers that take {shape}, not sequences first, then tokens, then a width"
                )


@torch.no_grad()
def compare(name: str, model: Any, copy: LanguageModel, tokens_NT: Tensor) -> None:
    """Raise ModelError where a model in memory has other outputs than the copy that was loaded of its folder.

    A folder brings no hooks, no functions that were replaced, no parts that are not the class's own.
    """
    modes = {module: module.training for module in model.modules()}
    with in_one_sentence(f"{name}: cannot be compared with its copy"):
        try:
            own = model.eval()(input_ids=tokens_NT.to(model.device), output_hidden_states=True)
        finally:
            for module, mode in modes.items():
                module.training = mode
        kept = copy.of_tokens(tokens_NT.to(copy.device))
        pairs = [(own.hidden_states[-1], kept.hidden_NTC)]
        pairs += [] if kept.logits is None else [(own.logits, kept.logits)]
    most = OWN_DIFFERENCE if model.dtype == torch.float32 else HALF_DIFFERENCE
    if any(a.shape != b.shape or not _difference(a.to(b), b) <= most for a, b in pairs):
        raise ModelError(
            f"{name}: has other outputs than its class with its weights and configuration; hooks, functions and parts "
            "of your own, or a configuration that was changed, cannot be measured"
        )


def _difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
