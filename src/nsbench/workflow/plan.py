"""The grid as jobs: which packs there are, and for each stage its spec and its source digest.

A spec is the canonical JSON of exactly the settings that a stage reads; a digest covers exactly the
code that it runs. Snakemake gets both as params, so that an edit reruns what depends on it and
nothing else. Device, paths and the rhythm of progress files change no number and are in no spec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbench.arms import ARMS, Arm
from nsbench.config.base import ConfigError
from nsbench.config.canonical import canonical_json
from nsbench.config.pretrained import FolderModel, Pretrained
from nsbench.config.theory import Theory
from nsbench.config.variant import OF_TEXT
from nsbench.data.leaks import leaks
from nsbench.storage.code_digest import code_digest
from nsbench.storage.definitions import defines
from nsbench.workflow.config import Config
from nsbench.workflow.grid import Cell, expand, packs
from nsbench.workflow.plugins import file_of

if TYPE_CHECKING:
    from nsbench.workflow.recorded_runs import RecordIndex


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
        for key, cell in self.cells.items():
            to_do = [] if cell.shares else [seed for seed in cell.seeds if seed not in self.recorded[key]]
            for seeds in packs(to_do, config.runs_per_pack):
                name = pack_name(seeds)
                self.seeds[name] = seeds
                self.packs.append((*key, name))

    def arm_class(self, task: str, variant: str, arm: str) -> type[Arm]:
        """The class of a cell's arm."""
        return type(self.cells[task, variant, arm].arm_settings)

    def training_code(self, task: str, variant: str, arm: str) -> str:
        """Digest of the code that a cell's training runs: that of its own arm, and of no other."""
        return digest("train", self.cells[task, variant, arm].arm_settings.kind)

    def kinds(self) -> list[str]:
        """The kinds of arm in the grid."""
        return sorted({cell.arm_settings.kind for cell in self.cells.values()})

    def datasets(self) -> list[tuple[str, str, str]]:
        """(task, variant, pack) of every data set: the arms of a variant share them."""
        return list(dict.fromkeys((task, variant, pack) for task, variant, _, pack in self.packs))

    def needs_text(self) -> bool:
        """Whether a run to train has its data from a text, or pretrained models are measured on one."""
        return self.config.pretrained is not None or any(pack[0] in OF_TEXT for pack in self.packs)

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

    def grid(self, *sections: str) -> str:
        """Spec of the stages that look at the whole grid: the grid with the variants and arms that
        it uses, its scale, and the named further sections of the configuration; plug-ins where it uses their arms."""
        tasks: dict[str, Any] = {}
        for entry in self.config.grid:
            task = getattr(self.config.tasks, entry.task)
            used = tasks.setdefault(entry.task, {"arms": {}, "variants": {}})
            named = [*entry.arms, *([entry.arm_sweep.arm] if entry.arm_sweep else [])]
            used["arms"] |= {name: task.arms[name] for name in named}
            used["variants"] |= {name: task.variants[name] for name in entry.variants}
        files = {file_of(type(arm)) for used in tasks.values() for arm in used["arms"].values()}
        plugins = sorted(files - {None})
        return canonical_json(
            {
                "seeds": self.config.seeds,
                "scale": self.config.scale,
                "grid": self.config.grid,
                "tasks": tasks,
                **({"plugins": plugins} if plugins else {}),
                **{name: getattr(self.config, name) for name in sections},
            }
        )

    def experiment(self, name: str) -> str:
        """Spec of the stages simulate and theory for an experiment. max_values bounds memory, and
        changes no number."""
        theory = self._theory()
        return canonical_json({"experiment": name, "seed": theory.seed, "settings": getattr(theory, name)})

    def theory_figure(self, experiment: str) -> str:
        """Spec of the figure of an experiment."""
        spec = json.loads(self.experiment(experiment))
        return canonical_json({"scale": self.config.scale, "experiment": spec})

    def pretrained(self, name: str) -> str:
        """Spec of the measurement of a model. Memory and what an unreachable model does change no number."""
        settings = self._pretrained()
        return canonical_json({"name": name, "model": settings.models[name], "measurement": settings.measurement})

    def model_files(self, name: str) -> list[str]:
        """The files of a model in a folder of the user's; none for other sources, which are pinned by their settings.

        Raises ConfigError where the folder is not there.
        """
        model = self._pretrained().models[name]
        if not isinstance(model, FolderModel):
            return []
        folder = Path(model.path).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"pretrained.models.{name}.path = {model.path!r} is no folder; one with config.json and safetensors is "
                "allowed"
            )
        return sorted(str(file) for file in folder.iterdir() if file.is_file())

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


OF_TASK = {"dataset": ["make", "floor_rows", "read_text_file"], "evaluate": ["target_value"]}
"""Stage -> the functions that it calls of a task's module, where this has them."""


TELL_OF_ARMS = ("analyse", "figure", "figures", "report")
"""Stages that show an arm's settings in words, or ask for its family."""


def digest(stage: str, name: str = "") -> str:
    """Digest of the code that a stage runs; `name` is the task (dataset, evaluate), the kind of arm (train), the
    figure's module (figures: all of them, blanks between), or the theory's experiment.

    Stages that tell of arms run the code of every kind that is known.
    """
    arms = [ARMS.find(name)] if stage == "train" else ARMS.values() if stage in TELL_OF_ARMS else []
    of_arms = [f"{arm.__module__}:{arm.__name__}" for arm in arms]
    figures = [f"nsbench.figures.{module}:draw" for module in name.split()]
    leaks, threads = "nsbench.data.leaks:leaks", "nsbench.storage.seeding:one_thread"
    roots = {
        "text": ["nsbench.data.text_sources:make_text", "nsbench.data.text_sources:resolve"],
        "dataset": ["nsbench.data.generate:make_datasets"],
        "train": ["nsbench.training.pack:train_pack", threads],
        "evaluate": ["nsbench.evaluation.run:evaluate_pack", threads],
        "finished": ["nsbench.workflow.run_states:write_finished"],
        "collect": ["nsbench.analysis.collect:collect", "nsbench.workflow.recorded_runs:index"],
        "analyse": ["nsbench.analysis.tables:analyse", leaks],
        "figure": ["nsbench.figures:render", *figures, leaks],
        "figures": ["nsbench.figures:render_all", *figures, leaks],
        "simulate": ["nsbench.simulation.run:simulate", threads, f"nsbench.simulation.{name}:simulate"],
        "theory": ["nsbench.simulation.curves:compute_theory", "nsbench.simulation.curves:join_tables"],
        "theory-figure": ["nsbench.figures.theory:render", *figures],
        "pretrained": ["nsbench.pretrained.run:measure_model", threads],
        "pretrained-tables": ["nsbench.analysis.pretrained_tables:join_models"],
        "pretrained-figure": ["nsbench.figures.pretrained:render", *figures],
        "claims": ["nsbench.claims:write_claims", leaks],
        "report": ["nsbench.report:write_report", leaks],
        "track": ["nsbench.tracking:track", leaks],
    }
    task, functions = f"nsbench.data.tasks.{name}", OF_TASK.get(stage, [])
    return code_digest(
        *roots[stage], *of_arms, *(f"{task}:{function}" for function in functions if defines(task, function))
    )


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
            "leaks": leaks(cell.settings),
            "curve": cell.curve,
            "choices": cell.choices,
            "curve_only": cell.curve_only,
            "shares": cell.shares,
        }
        for cell in cells
    ]


def _identity(cell: Cell) -> dict[str, str]:
    return {"task": cell.task, "variant": cell.variant, "arm": cell.arm}
