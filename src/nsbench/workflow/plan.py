"""The grid as jobs: which packs there are, and for each stage its spec and its code digest.

A spec is the canonical JSON of exactly the settings that a stage reads; a digest covers exactly the
code that it runs. Snakemake gets both as params, so that an edit reruns what depends on it and
nothing else. Device, paths and the rhythm of progress files change no number and are in no spec.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nsbench.config.base import ConfigError
from nsbench.config.canonical import canonical_json
from nsbench.config.pretrained import FolderModel, Pretrained
from nsbench.config.theory import EXPERIMENTS, Theory
from nsbench.data.tasks import TASKS
from nsbench.measures import MEASURES
from nsbench.storage.provenance import content_digest
from nsbench.workflow.config import Config
from nsbench.workflow.digests import REGISTRIES, USES, digest
from nsbench.workflow.grid import Cell, expand, packs
from nsbench.workflow.plugins import added_to, file_of

if TYPE_CHECKING:
    from nsbench.workflow.recorded_runs import RecordIndex


class Stack(NamedTuple):
    """Packs of the same seeds and data, by the names of their arms."""

    task: str
    variant: str
    seeds: list[int]
    arms: dict[str, Any]


def pack_name(seeds: list[int]) -> str:
    """A pack's name: `seeds-0-4` for consecutive seeds, else with a digest of the list."""
    name = f"seeds-{seeds[0]}-{seeds[-1]}"
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return name
    return f"{name}-{hashlib.sha256(canonical_json(seeds).encode()).hexdigest()[:8]}"


class Plan:
    """All jobs of a configuration.

    records: what `config.records` names (`workflow.recorded_runs.index`), where it is asked for. A run with a record is
    in no pack, and so is one that the grid shares (`Cell.shares`).
    """

    def __init__(self, config: Config, records: RecordIndex | None = None) -> None:
        self.config = config
        self.records = records
        self.cells = {(cell.task, cell.variant, cell.arm): cell for cell in expand(config)}
        self.data: dict[tuple[str, str], Any] = {}
        for (task, variant, _), cell in self.cells.items():
            self.data.setdefault((task, variant), cell.settings.data)
        self.seeds: dict[str, list[int]] = {}
        self.packs: list[tuple[str, str, str, str]] = []
        self.recorded = {key: records.of(cell) if records else {} for key, cell in self.cells.items()}
        """(task, variant, arm) -> seed -> its record."""
        self.devices: dict[tuple[str, str, str, str], str] = {}
        """Pack -> `cpu` or `cuda`: what the other half of its pairs was trained on; empty where that has no record."""
        pair = self._devices_of_pairs()
        for key, cell in self.cells.items():
            to_do = [] if cell.shares else [seed for seed in cell.seeds if seed not in self.recorded[key]]
            by_device: dict[str, list[int]] = {}
            for seed in to_do:
                by_device.setdefault(pair.get((*key[:2], seed), ""), []).append(seed)
            for device, listed in by_device.items():
                for seeds in packs(listed, config.runs_per_pack):
                    name = pack_name(seeds)
                    self.seeds[name] = seeds
                    self.packs.append((*key, name))
                    self.devices[*key, name] = device

    def _devices_of_pairs(self) -> dict[tuple[str, str, int], str]:
        """(task, variant, seed) -> what kind of device the recorded runs were trained on: the baseline, or else an arm.

        Variants that share the runs of a baseline are compared with one another.
        """
        cells = sorted(self.cells.items(), key=lambda item: item[1].arm_settings.kind == "baseline")
        baseline = {
            key[:2]: (key[0], cell.shares or cell.variant)
            for key, cell in cells
            if cell.arm_settings.kind == "baseline"
        }
        found = {
            (*baseline[key[:2]], seed): "cpu" if record.summary["device"] == "cpu" else "cuda"
            for key, _ in cells
            for seed, record in self.recorded[key].items()
        }
        pairs = [(key, seed) for key, cell in cells for seed in cell.seeds]
        return {
            (*key[:2], seed): found[*baseline[key[:2]], seed]
            for key, seed in pairs
            if (*baseline[key[:2]], seed) in found
        }

    @functools.cached_property
    def stacks(self) -> list[Stack]:
        """The packs that a GPU can train as one: those of cells that differ in rho, strength and the like alone."""
        found: dict[str, Stack] = {}
        for task, variant, arm, pack in self.packs:
            cell = self.cells[task, variant, arm]
            common = {**cell.trained_by(), "arm_settings": cell.arm_settings.stacked()}
            new = Stack(task, variant, self.seeds[pack], {})
            found.setdefault(canonical_json([task, variant, pack, common]), new).arms[arm] = cell.arm_settings
        return [stack for stack in found.values() if len(stack.arms) > 1]

    def packs_for(self, device: str) -> list[tuple[str, str, str, str]]:
        """The packs whose runs can be trained on this kind of device, `cpu` or `cuda`, if pairs are to be on one."""
        return [pack for pack in self.packs if self.devices[pack] in ("", device)]

    def code(self, stage: str, task: str, variant: str, arm: str = "") -> str:
        """Digest of the code that a stage of a cell runs: of what is registered that of USES alone."""
        return digest(stage, *self._used(stage, task, variant, arm), measures=self.config.evaluation.measures)

    def plugin_files(self, stage: str, task: str, variant: str, arm: str = "") -> list[str]:
        """The files of the plug-ins that a stage of a cell uses."""
        names = self._used(stage, task, variant, arm)
        found = {file_of(REGISTRIES[use][name]) for use, name in zip(USES[stage], names, strict=True)}
        found |= {file_of(MEASURES[name]) for name in self.config.evaluation.measures} if stage == "evaluate" else set()
        return sorted(found - {None})

    def codes(self) -> dict[tuple[str, str, str, str], tuple[str, ...]]:
        """(stage, task, variant, arm) -> `code`, of all cells of the grid; of evaluations also that of the built-in
        measures alone, which records have."""
        found = {(stage, *key): (self.code(stage, *key),) for key in self.cells for stage in USES}
        for key in self.cells:
            found["evaluate", *key] += (digest("evaluate", *self._used("evaluate", *key)),)
        return found

    def _used(self, stage: str, task: str, variant: str, arm: str) -> list[str]:
        """Under which names what a stage of a cell uses is registered, as USES. Data are without an arm."""
        cell = self.cells[task, variant, arm] if arm else None
        found = {"task": task, **({"model": cell.settings.model.kind, "arm": cell.arm_settings.kind} if cell else {})}
        return [found[use] for use in USES[stage]]

    def datasets(self) -> list[tuple[str, str, str]]:
        """(task, variant, pack) of every data set: the arms of a variant share them."""
        return list(dict.fromkeys((task, variant, pack) for task, variant, _, pack in self.packs))

    def needs_text(self) -> bool:
        """Whether a run to train has its data from a text, or pretrained models are measured on one."""
        return self.config.pretrained is not None or any(TASKS[pack[0]].from_text for pack in self.packs)

    def dataset(self, task: str, variant: str, pack: str) -> str:
        """Spec of the dataset stage."""
        data = self.data[task, variant]
        return canonical_json({"task": task, "variant": variant, "data": data, "seeds": self.seeds[pack]})

    def train(self, task: str, variant: str, arm: str, pack: str) -> str:
        """Spec of the train stage."""
        cell = self.cells[task, variant, arm]
        return canonical_json(
            {
                **_identity(cell),
                **cell.trained_by(),
                "checkpoint_count": self.config.checkpoints.count,
                "checkpoint_dtype": self.config.checkpoints.dtype,
                "seeds": self.seeds[pack],
            }
        )

    def evaluate(self, task: str, variant: str, arm: str, pack: str) -> str:
        """Spec of the evaluate stage."""
        cell = self.cells[task, variant, arm]
        return canonical_json(
            {
                **_identity(cell),
                "data": cell.settings.data,
                "noise": cell.settings.noise,
                "evaluation": self.config.evaluation,
                "keep_checkpoints": self.config.checkpoints.keep,
                "seeds": self.seeds[pack],
            }
        )

    def grid(self, *sections: str, adds: str = "", inputs: Iterable[Path | str] = ()) -> str:
        """Spec of the stages that look at the whole grid: the grid with the variants and arms that
        it uses, its scale, and the named further sections of the configuration; the plug-ins that it uses, and those
        that add to the registry `adds`; what `inputs`, files from outside of the workflow, hold."""
        tasks: dict[str, Any] = {}
        for entry in self.config.grid:
            task = getattr(self.config.tasks, entry.task)
            used = tasks.setdefault(entry.task, {"arms": {}, "variants": {}})
            named = [*entry.arms, *([entry.arm_sweep.arm] if entry.arm_sweep else [])]
            used["arms"] |= {name: task.arms[name] for name in named}
            used["variants"] |= {name: task.variants[name] for name in entry.variants}
        # Of cells, not of what is written: a sweep may vary a model's kind.
        files = {file_of(type(cell.arm_settings)) for cell in self.cells.values()}
        files |= {file_of(type(cell.settings.model)) for cell in self.cells.values()}
        files |= {file_of(TASKS[name]) for name in tasks}
        files |= {file_of(value) for value in added_to(adds)}
        if "evaluation" in sections:
            files |= {file_of(MEASURES[name]) for name in self.config.evaluation.measures}
        plugins = sorted(files - {None})
        return canonical_json(
            {
                "seeds": self.config.seeds,
                "scale": self.config.scale,
                "grid": self.config.grid,
                "tasks": tasks,
                **({"plugins": plugins} if plugins else {}),
                **({"content": content_digest(inputs)} if inputs else {}),
                **{name: getattr(self.config, name) for name in sections},
            }
        )

    def experiment(self, name: str) -> str:
        """Spec of the stage simulate for an experiment."""
        theory = self._theory()
        return canonical_json({"experiment": name, "seed": theory.seed, "settings": getattr(theory, name)})

    def theory(self) -> str:
        """Spec of the stage theory."""
        return canonical_json({"experiments": [json.loads(self.experiment(name)) for name in EXPERIMENTS]})

    def theory_figure(self, experiment: str) -> str:
        """Spec of the figure of an experiment."""
        spec = json.loads(self.experiment(experiment))
        return canonical_json({"scale": self.config.scale, "experiment": spec})

    def check_models(self) -> None:
        """Raise ConfigError where a pretrained model is in a folder of the user's that is not there."""
        settings = self.config.pretrained
        for name in settings.chosen if settings else []:
            model = settings.models[name]
            if isinstance(model, FolderModel) and not Path(model.path).expanduser().is_dir():
                raise ConfigError(
                    f"pretrained.models.{name}.path = {model.path!r} is no folder; one with config.json and "
                    "safetensors is allowed"
                )

    def pretrained(self, name: str) -> str:
        """Spec of the measurement of a model. Memory and what an unreachable model does change no number."""
        settings = self._pretrained()
        model = settings.models[name]
        files = {"files": files_of(model)} if isinstance(model, FolderModel) else {}
        return canonical_json({"name": name, "model": model, "measurement": settings.measurement, **files})

    def pretrained_tables(self) -> str:
        """Spec of the tables of pretrained models."""
        settings = self._pretrained()
        degree = settings.measurement.degree
        return canonical_json({"models": list(settings.chosen), "degree": degree, "scale": self.config.scale})

    def pretrained_figure(self) -> str:
        """Spec of each figure of pretrained models."""
        settings = self._pretrained()
        return canonical_json(
            {"models": list(settings.chosen), "figures": settings.figures, "scale": self.config.scale}
        )

    def _pretrained(self) -> Pretrained:
        if self.config.pretrained is None:
            raise ConfigError("pretrained: null leaves pretrained models out; their settings are needed for this")
        return self.config.pretrained

    def _theory(self) -> Theory:
        if self.config.theory is None:
            raise ConfigError("theory: null leaves the theory out; its settings are needed for this")
        return self.config.theory


DIGESTED = 1_000_000
"""Bytes; larger files of a model are known by size and time."""


def files_of(model: FolderModel) -> dict[str, str]:
    """What is in a model's folder, by file: a digest, or where that would take long, as of weights, size and time."""
    files = sorted(file for file in Path(model.path).expanduser().glob("*") if file.is_file())
    about = {file: file.stat() for file in files}
    return {
        file.name: f"{about[file].st_size} bytes, {about[file].st_mtime_ns} ns"
        if about[file].st_size > DIGESTED
        else content_digest([file])
        for file in files
    }


def grid_cells(config: Config) -> list[dict[str, Any]]:
    """The cells of a grid as plain values, for the stages that look at the whole grid."""
    return plain(expand(config))


def plain(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Cells as plain values."""
    return [
        {
            **_identity(cell),
            "arm_settings": cell.arm_settings.model_dump(mode="json"),
            "settings": cell.settings.model_dump(mode="json"),
            "seeds": cell.seeds,
            "target": cell.settings.target.model_dump(mode="json"),
            "budget_steps": cell.settings.training.steps,
            "n_tokens": cell.settings.data.sequence_length(),
            "leaks": cell.settings.data.leaks(cell.settings.model),
            "curve": cell.curve,
            "choices": cell.choices,
            "curve_only": cell.curve_only,
            "shares": cell.shares,
        }
        for cell in cells
    ]


def _identity(cell: Cell) -> dict[str, str]:
    return {"task": cell.task, "variant": cell.variant, "arm": cell.arm}
