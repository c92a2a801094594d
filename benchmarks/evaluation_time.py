"""Time of evaluating a checkpoint: the shipped measures against their definitions in plain float64.

    python benchmarks/evaluation_time.py [--rounds 3] [--trail FOLDER DATASET]

Prints processor milliseconds for a checkpoint of text and of addition at full scale (500 inputs, 5 rho, 8 noisy
copies an input): minimum and median over rounds in which the contenders take turns, their ratios, and how far values
are apart. One contender has glibc's own thresholds for freed memory, the others a heap that is kept. Weights are
random; with --trail, those of the last checkpoint of a run of seed 0.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.base import parse
from nsbench.config.shape import Shape
from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.evaluation.run import Checkpoint, estimates
from nsbench.measures import MeasureSettings
from nsbench.perturbations.tokens import resample_tokens
from nsbench.schemas.metrics import TARGETS
from nsbench.storage.device import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_heap
from nsbench.storage.seeding import torch_stream
from nsbench.storage.tensors import read_tensors
from nsbench.training.models.transformer import Transformer

SETTINGS = parse(MeasureSettings, {"noise": Noise().model_dump()})
MODELS = {
    "text": (Transformer(d_model=30, n_layers=4, n_heads=6, mask="causal", pooling="none"), 20, 500),
    "addition": (Transformer(), 2, 113),
}
N_TEST = 1000
Values = dict[tuple[str, str, str], float]


def plainly(model: Callable[[Tensor], Tensor], data: Dataset) -> Values:
    """All measures by their definitions: each by itself, all of a noisy pass at once, in float64."""

    def mean(values: Tensor) -> Tensor:
        return values.reshape(len(values), -1).mean(1)

    def softmax(tokens: Tensor) -> Tensor:
        return torch.cat([model(some) for some in tokens.split(200)]).softmax(-1, dtype=torch.float64)

    found, tokens, generator = {}, data["test_tokens"][: SETTINGS.n_inputs], torch_stream(0, "evaluation_noise")
    p = softmax(tokens)
    for rho in SETTINGS.rho:
        draws = []
        for _ in range(SETTINGS.n_draws):
            q = softmax(resample_tokens(tokens, rho, data["symbols"], generator))
            dot = torch.linalg.vecdot(p, q)
            lengths = torch.linalg.vecdot(p, p) * torch.linalg.vecdot(q, q)
            draws.append(torch.stack([mean(dot), mean(dot / lengths.sqrt())]))
        dot, cosine = torch.stack(draws).mean(dim=(0, 2)).tolist()
        found["noise_stability", "probability_dot", str(rho)] = dot
        found["noise_stability", "probability_cosine", str(rho)] = cosine
    p, decision, distance = softmax(tokens), 0.0, 0.0
    changed = resample_tokens(tokens, -1.0, data["symbols"], generator, same_symbol=False)
    for position in range(tokens.shape[1]):
        one = tokens.clone()
        one[:, position] = changed[:, position]
        q = softmax(one)
        decision += (p.argmax(-1) != q.argmax(-1)).double().mean().item()
        distance += ((p - q).square().sum(-1) / 2).mean().item()
    found["average_sensitivity", "decision", "nan"] = decision
    found["average_sensitivity", "probability_distance", "nan"] = distance
    logits = torch.cat([model(some) for some in data["test_tokens"].split(200)])
    right = (logits.argmax(-1) == data["test_labels"]).double()
    losses = F.cross_entropy(logits.flatten(0, -2), data["test_labels"].flatten(), reduction="none").view(right.shape)
    for kind in TARGETS:
        counted = data.counted(kind, "test")
        found["test_accuracy", kind, "nan"] = right[counted].mean().item()
        found["test_loss", kind, "nan"] = losses[counted].double().mean().item()
    return found


def made(name: str) -> tuple[dict[str, Tensor], dict[str, str], Dataset]:
    """A checkpoint of random weights, its metadata and made-up data."""
    model, length, classes = MODELS[name]
    size = Shape(length, classes, classes)
    stack, shape = model.build(size, [0]), [N_TEST, length][: 1 + model.positions]
    weights = stack.run_weights(0)
    metadata = {"model": model.model_dump_json(), "shape": json.dumps(asdict(size))}
    tensors = {
        "test_tokens": torch.randint(classes, (N_TEST, length)),
        "train_tokens": torch.zeros(1, length, dtype=torch.int64),
        "test_labels": torch.randint(classes, shape),
        "symbols": torch.arange(classes),
    }
    return weights, metadata, Dataset(tensors, classes, classes, "")


def from_trail(trail: Path, dataset: Path) -> tuple[dict[str, Tensor], dict[str, str], Dataset]:
    """The last checkpoint of a run of seed 0, and its data."""
    weights, metadata = read_tensors(max(trail.glob("step-*")), "checkpoint", "train it again")
    return weights, metadata, read_dataset(dataset, 0)


def give_back() -> None:
    """The thresholds that glibc comes to by itself where large tensors are freed."""
    c = ctypes.CDLL(None)
    c.mallopt(M_MMAP_THRESHOLD, 2**25)
    c.mallopt(M_TRIM_THRESHOLD, 2**26)


def contenders(weights: dict[str, Tensor], metadata: dict[str, str], data: Dataset) -> dict[str, Callable[[], Values]]:
    def shipped() -> Values:
        checkpoint = Checkpoint(weights, metadata, torch.device("cpu"), data["test_tokens"])
        return {
            (one.measure, one.reduction, str(one.rho)): one.value for one in estimates(checkpoint, data, SETTINGS, 0)
        }

    def plain() -> Values:
        stack = Checkpoint(weights, metadata, torch.device("cpu"), data["test_tokens"]).stack
        with torch.no_grad():
            return plainly(lambda tokens: stack.logits(stack.hidden(stack.embed(tokens[None])))[0], data)

    def given_back() -> Values:
        give_back()
        found = plain()
        keep_heap()
        return found

    return {"plain": given_back, "plain, heap kept": plain, "shipped": shipped}


def apart(one: Values, other: Values) -> float:
    """The largest relative difference of two sets of values."""
    if one.keys() != other.keys():
        raise ValueError(f"other values: {one.keys() ^ other.keys()}")
    return max(abs(one[key] - other[key]) / max(abs(one[key]), 1e-300) for key in one if not math.isnan(one[key]))


def cases(trails: list[list[Path]]) -> Iterator[tuple[str, tuple[dict[str, Tensor], dict[str, str], Dataset]]]:
    yield from ((trail.parents[3].name, from_trail(trail, dataset)) for trail, dataset in trails)
    yield from () if trails else ((name, made(name)) for name in MODELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trail", type=Path, nargs=2, action="append", default=[], metavar=("FOLDER", "DATASET"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_heap()
    print(f"torch {torch.__version__}, one thread; {SETTINGS.n_inputs} inputs, {len(SETTINGS.rho)} rho, "
          f"{SETTINGS.n_draws} draws")  # fmt: skip
    print(f"{'case':<12} {'contender':<17} {'least, ms':>10} {'median':>8} {'ratio':>7} {'median':>7}")
    for name, case in cases(options.trail):
        times: dict[str, list[float]] = {}
        values: dict[str, Values] = {}
        for _ in range(options.rounds):
            for contender, measure in contenders(*case).items():
                begun = time.process_time()
                values[contender] = measure()
                times.setdefault(contender, []).append(1000 * (time.process_time() - begun))
        base = times["plain"]
        for contender, found in times.items():
            middle = statistics.median(found)
            ratios = f"{min(base) / min(found):>7.2f} {statistics.median(base) / middle:>7.2f}"
            print(f"{name:<12} {contender:<17} {min(found):>10.0f} {middle:>8.0f} {ratios}", flush=True)
        print(f"{name:<12} values apart by at most {apart(values['plain'], values['shipped']):.1e}, relative")


if __name__ == "__main__":
    main()
