"""Write a file that a plug-in of a user's own begins with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from nsbench.arms import ARMS
from nsbench.config.base import ConfigError
from nsbench.config.errors import show
from nsbench.config.registry import Registry
from nsbench.data.tasks import TASKS
from nsbench.figures import FIGURES
from nsbench.measures import MEASURES
from nsbench.training.models import MODELS

TEMPLATES: dict[str, tuple[Registry[Any], str, str]] = {
    "arm": (
        ARMS,
        "nsbench.arms",
        "{name}: {{kind: {name}, strength: 0.1}}    # under tasks.<task>.arms\n"
        "- {name}    # under arms of a block of grid",
    ),
    "model": (
        MODELS,
        "nsbench.training.models",
        "model: {{kind: {name}, width: 128}}    # in a variant, under tasks.<task>.variants.<variant>",
    ),
    "task": (
        TASKS,
        "nsbench.data.tasks",
        "{name}:    # under tasks\n"
        "  arms: {{baseline: {{kind: baseline}}, noise_stability: {{kind: noise_stability, rho: 0.25, gamma: 0.75}}}}\n"
        "  variants:\n"
        "    small: {{model: {{d_model: 32}}, training: {{steps: 500, eval_every_steps: 50}}}}\n"
        "- {{task: {name}, variants: [small], arms: [baseline, noise_stability], seeds: [0, 1]}}    # under grid",
    ),
    "measure": (
        MEASURES,
        "nsbench.measures",
        "evaluation: {{measures: [noise_stability, average_sensitivity, test_scores, {name}]}}",
    ),
    "figure": (FIGURES, "nsbench.figures", ""),
}
"""Kind of plug-in -> its registry; the package whose file `template.py` is written, in which `my_kind` and `MyKind`
stand for the name; what to write into config.yaml besides the line of `plugins`."""


def new(what: str, name: str, out: Path | None = None) -> str:
    """Write a complete plug-in to `out`, or to NAME.py, and say how a configuration uses it.

    what: of TEMPLATES. Raises ConfigError for a name that is taken or none, and for a file that is there or cannot be
    written.
    """
    registry, package, lines = TEMPLATES[what]
    registry.check_free(name)
    out = out or Path(f"{name}.py")
    text = resources.files(package).joinpath("template.py").read_text(encoding="utf-8")
    text = text.replace("my_kind", name).replace("MyKind", name.title().replace("_", ""))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"--out: {show(str(out))} is there; a file that is not there yet is allowed") from None
    except OSError as error:
        raise ConfigError(f"--out: {show(str(out))} cannot be written ({error.strerror})") from None
    told = f"{out} registers the {registry.what} {name}. In config.yaml:\nplugins: [{out}]    # at the left margin\n"
    return (told + lines.format(name=name)).rstrip()
