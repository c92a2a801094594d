"""What one GPU does: are steps captured and right, how fast are stacks, what memory do they take.

    python benchmarks/gpu.py [--device cpu] [--small] [--rounds 3] [--stacks 1 10 100 400] [--out gpu.md]

Writes Markdown: the device with its clocks; whether graphs give what eager steps give; milliseconds per step and run
of a plain loop of torch's own layers, of ours one run at a time and of a stack, which take turns in each round; the
device's idle share (of the time that steps take, what their graphs alone do not); peak memory beside the line by which
stacks are sized. --small: tiny models and one round, to see that it runs through; on a CPU there are no graphs and no
memory.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from stack_time import CASES, Case, training_step
from torch import nn

from nsbench import NoiseStabilityRegularizer
from nsbench.training.models.transformer import Transformer
from nsbench.training.models.transformer_stack import sinusoidal_positions
from nsbench.training.pack import PROBED
from nsbench.training.step import TrainingStep, matrix_products

NAMES = {"addition": "modular addition", "text": "next token, every position"}
PRECISIONS = ("float32", "tf32", "bfloat16")
HEADER = [
    "case",
    "arm",
    "precision",
    "runs",
    "ms per step and run",
    "range",
    "plain / ours",
    "idle",
    "MiB, of fit",
]


class Plain(nn.Module):
    """A case's transformer of torch's own layers, dropout included."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        settings = case.model
        self.embedding = nn.Embedding(case.vocabulary, settings.d_model)
        layer = nn.TransformerEncoderLayer(
            settings.d_model,
            settings.n_heads,
            settings.hidden_width,
            settings.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, settings.n_layers, nn.LayerNorm(settings.d_model), False)
        self.head = nn.Linear(settings.d_model, case.classes)
        self.register_buffer("positions", sinusoidal_positions(case.length, settings.d_model))
        future = nn.Transformer.generate_square_subsequent_mask(case.length) if settings.causal else None
        self.register_buffer("future", future)
        self.scale, self.pooled = math.sqrt(settings.d_model), not settings.positions

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.embedding(tokens) * self.scale + self.positions, self.future)
        return self.head(x.mean(1) if self.pooled else x)


def plain_loop(case: Case, regularised: bool, device: torch.device, precision: str) -> Callable[[], None]:
    """One step of the loop that one would write without this library."""
    model = Plain(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(case.classes, (case.batch, case.length), device=device)
    labels = torch.randint(case.classes, tokens.shape if case.model.positions else (case.batch,), device=device)
    regularizer = NoiseStabilityRegularizer(0.25, 0.75, symbols=case.classes)

    def step() -> None:
        optimizer.zero_grad()
        with matrix_products(precision):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = model(tokens)
                loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten())
                if regularised:
                    loss = loss + regularizer(model, tokens, clean_logits=logits)
            loss.backward()
        optimizer.step()

    return step


def seconds(call: Callable[[int], None], count: int, device: torch.device) -> float:
    """Seconds of the wall that a number of calls take."""
    begun = time.perf_counter()
    for number in range(count):
        call(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@dataclasses.dataclass
class Contender:
    """Something that is timed: `call(n)` does `steps` steps of `runs` runs, for the n-th time.

    alone: what of it the device does, without the host's part; None where that is not known.
    """

    name: str
    runs: int
    steps: int
    call: Callable[[int], None]
    alone: Callable[[int], None] | None = None
    mib: float = math.nan
    times: list[float] = dataclasses.field(default_factory=list)
    idle: list[float] = dataclasses.field(default_factory=list)

    def measure(self, device: torch.device, least_seconds: float, keep: bool) -> None:
        count = max(2, math.ceil(least_seconds / seconds(self.call, 1, device)))
        spent = seconds(self.call, count, device)
        of_device = seconds(self.alone, count, device) if self.alone else math.nan
        if keep:
            self.times.append(1000 * spent / count / self.steps / self.runs)
            self.idle.append(max(0.0, 1 - of_device / spent) if self.alone else math.nan)


def ours(case: Case, runs: int, regularised: bool, device: torch.device, precision: str) -> Contender:
    with peak(device) as mib:
        step = training_step(case, runs, regularised, device, precision)
        step(0, step.at_once)
    alone = None if step.eager else lambda number: next(iter(step._graphs.values())).replay()
    each = step.at_once
    return Contender(f"{runs} stacked", runs, each, lambda number: step(number * each, each), alone, mib[0])


@contextlib.contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """Most memory that tensors take inside, in MiB, once the block is left."""
    found = [math.nan]
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if device.type == "cuda":
        found[0] = (torch.cuda.max_memory_allocated() - before) / 2**20


def agreement(case: Case, regularised: bool, device: torch.device, precision: str) -> str:
    """Weights after some steps of a stack of three by graphs, beside those of eager steps."""
    steps: list[TrainingStep] = []
    for eager in (False, True):
        torch.manual_seed(0)
        step = training_step(case, 3, regularised, device, precision)
        step.eager |= eager
        for number in range(0, 2 * step.at_once, step.at_once):
            step(number, step.at_once)
        steps.append(step)
    graphs, eager = steps
    if graphs.eager:
        return "no graph"
    gap = (graphs.optimizer.weights_RP - eager.optimizer.weights_RP).abs().max().item()
    return f"{graphs.launches}; " + ("equal to the bit" if gap == 0 else f"weights at most {gap:.1e} apart")


def machine(device: torch.device) -> list[str]:
    """The device and its clocks, now and at most."""
    lines = [f"torch {torch.__version__}, {device}"]
    if device.type == "cuda":
        fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,utilization.gpu"
        asked = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"]
        lines += subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    return lines


def rows(name: str, case: Case, regularised: bool, precision: str, options: argparse.Namespace) -> Iterator[list[str]]:
    """The table's rows of one case, all of whose contenders are timed in turn."""
    device = torch.device(options.device)
    step = plain_loop(case, regularised, device, precision)
    contenders = [Contender("plain loop", 1, 1, lambda number: step())]
    contenders += [ours(case, runs, regularised, device, precision) for runs in options.stacks]
    probes = [ours(case, runs, regularised, device, precision).mib for runs in PROBED]
    of_one = (probes[1] - probes[0]) / (PROBED[1] - PROBED[0])
    for keep in [False] + [True] * options.rounds:
        for contender in contenders:
            contender.measure(device, 0.05 if options.small else 1.0, keep)
    base = statistics.median(contenders[0].times)
    for contender in contenders:
        middle, idle = statistics.median(contender.times), statistics.median(contender.idle)
        fitted = probes[0] + (contender.runs - PROBED[0]) * of_one
        yield [
            name,
            "regularised" if regularised else "baseline",
            precision,
            contender.name,
            f"{middle:.3f}",
            f"{min(contender.times):.3f} - {max(contender.times):.3f}",
            f"{base / middle:.1f}",
            "" if math.isnan(idle) else f"{idle:.0%}",
            "" if math.isnan(contender.mib) else f"{contender.mib:,.0f}, {fitted:,.0f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stacks", type=int, nargs="+", default=[1, 10, 100, 400])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, cases, precisions = (
        torch.device(options.device),
        {key: CASES[name] for key, name in NAMES.items()},
        PRECISIONS,
    )
    if options.small:
        options.rounds, options.stacks, precisions = 1, [1, 2], ("float32", "bfloat16")
        cases = {key: small(case) for key, case in cases.items()}
    out = options.out.open("w") if options.out else None

    def say(line: str) -> None:
        print(line, flush=True)
        if out:
            print(line, file=out, flush=True)

    for line in machine(device):
        say(line)
    settings = [
        (key, regularised, precision) for key in cases for regularised in (False, True) for precision in precisions
    ]
    say("\nGraphs beside eager steps:\n")
    for key, regularised, precision in settings:
        arm = "regularised" if regularised else "baseline"
        say(f"- {key}, {arm}, {precision}: {agreement(cases[key], regularised, device, precision)}")
    say("\n| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for key, regularised, precision in settings:
        for row in rows(key, cases[key], regularised, precision, options):
            say("| " + " | ".join(row) + " |")
    if out:
        out.close()


def small(case: Case) -> Case:
    model = Transformer(**{**case.model.model_dump(exclude={"kind"}), "d_model": 12, "n_layers": 1})
    return dataclasses.replace(case, model=model, batch=8, vocabulary=20, classes=11, length=min(case.length, 5))


if __name__ == "__main__":
    main()
