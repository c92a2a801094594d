"""Which records a grid takes as finished runs: those whose settings are a cell's, whatever the cell is called."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nsbench.arms import AnyArm
from nsbench.config.base import Closed, ConfigError, parse
from nsbench.config.canonical import canonical_json
from nsbench.config.sections import Evaluation
from nsbench.config.variant import Noise, Optimizer, Target, Training
from nsbench.data.tasks import TASKS
from nsbench.schemas.training import TEXT_LABELS
from nsbench.storage.parquet import RecordError
from nsbench.storage.records import Recorded, read_identities, record_files
from nsbench.training.models import AnyModel
from nsbench.workflow.config import Config

TEXTS = {"auto": TEXT_LABELS, "hub": TEXT_LABELS[0], "local": TEXT_LABELS[:2], "embedded": TEXT_LABELS[2]}
"""`text.source` -> how the label of a text begins that it gives (`nsbench.data.text_sources`)."""


class RunSettings(Closed):
    """All that a run's numbers depend on, but for its seed and the code; no names of variants and arms."""

    task: str
    data: dict[str, Any]
    arm_settings: AnyArm
    model: AnyModel
    optimizer: Optimizer
    training: Training
    noise: Noise
    target: Target | None
    """As of `nsbench.training.run.TrainSpec`."""


def settings_of(cell: Any) -> str:
    """The RunSettings of the runs of a cell (`nsbench.workflow.grid.Cell`), as canonical JSON."""
    return canonical_json({"task": cell.task, "data": cell.settings.data, **cell.trained_by()})


def evaluation_settings_of(config: Config) -> str:
    """What a measure on a run's checkpoints depends on besides its settings, as canonical JSON."""
    kept = {"count": config.checkpoints.count, "dtype": config.checkpoints.dtype}
    return canonical_json({"checkpoints": kept, "evaluation": _how(config.evaluation)})


@functools.lru_cache(maxsize=100_000)
def current(settings: str) -> str:
    """Settings of a record as this code would write them: what an older record does not name has its default.

    Raises ConfigError where this code has no such settings.
    """
    try:
        values = json.loads(settings)
        data = TASKS[values["task"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError("settings: no settings of a run") from None
    found = parse(RunSettings, values, "settings")
    return canonical_json({**found.model_dump(mode="json"), "data": parse(data, found.data, "settings.data")})


class RecordIndex:
    """What `records:` of a configuration names, by settings and seed; the numbers are not read.

    text: `text.source` of the configuration; runs on another text do not count.
    """

    def __init__(self, paths: Iterable[Path | str], evaluation_settings: str, text: str = "auto") -> None:
        """Raises RecordError naming a file that cannot be read, or a run with two records of other numbers."""
        self.evaluation_settings = evaluation_settings
        self.files: list[Path] = []
        self._found: dict[tuple[str, int], Recorded] = {}
        for path in record_files(paths):
            self.files.append(path)
            for row in read_identities(path):
                label = row["summary"]["text"]
                if label.startswith(TEXT_LABELS) and not label.startswith(TEXTS[text]):
                    continue
                try:
                    key = (current(row["settings"]), row["seed"])
                except ConfigError:
                    continue  # of code with other settings: it fits no cell
                self._add(key, _recorded(path, row), row)

    def _add(self, key: tuple[str, int], new: Recorded, row: dict[str, Any]) -> None:
        old = self._found.setdefault(key, new)
        if old.summary["history_sha256"] != new.summary["history_sha256"]:
            name = " / ".join((row["task"], row["variant"], row["arm"], f"seed {row['seed']}"))
            raise RecordError(
                f"{new.path}: its record of {name} has other numbers than that in {old.path}; take one of them out, "
                "nsbench records verify says which is right"
            )
        if new.better(old, self.evaluation_settings):
            self._found[key] = new

    def of(self, cell: Any) -> dict[int, Recorded]:
        """The records of a cell's runs, by seed."""
        if not self._found:
            return {}
        settings = settings_of(cell)
        return {seed: found for seed in cell.seeds if (found := self._found.get((settings, seed)))}


def index(config: Config) -> RecordIndex:
    """The records that a configuration names."""
    return RecordIndex(config.records, evaluation_settings_of(config), config.text.source)


def _recorded(path: Path, row: dict[str, Any]) -> Recorded:
    return Recorded(path, row["settings"], _current_evaluation(row["evaluation_settings"]), row["summary"])


@functools.lru_cache(maxsize=1000)
def _current_evaluation(settings: str | None) -> str | None:
    """What `evaluation_settings_of` would write of a record's; what an older one does not name has its default."""
    try:
        values = json.loads(settings or "null")
        return values and canonical_json({**values, "evaluation": _how(parse(Evaluation, values["evaluation"]))})
    except (ValueError, KeyError, TypeError, RecursionError):
        return settings  # of code with other settings


def _how(evaluation: Evaluation) -> dict[str, Any]:
    """How measures are made, but not which: one more leaves those that a record has as they are."""
    return evaluation.model_dump(mode="json", exclude={"measures"})


def difference(first: str, second: str) -> str:
    """The first setting in which two RunSettings differ, as `training.steps = 10 instead of 20`."""
    pairs = [("", json.loads(first), json.loads(second))]
    while pairs:
        where, one, other = pairs.pop(0)
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [*one, *(key for key in other if key not in one)]
            pairs += [(f"{where}.{key}".lstrip("."), one.get(key), other.get(key)) for key in keys]
        elif one != other:
            return f"{where} = {json.dumps(one)} instead of {json.dumps(other)}"
    return "nothing"
