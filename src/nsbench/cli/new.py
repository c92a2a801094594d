"""Write a file that a user's own arm begins with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from nsbench.arms.registry import check_kind
from nsbench.config.base import ConfigError
from nsbench.config.errors import show


def new_arm(name: str, out: Path | None = None) -> str:
    """Write a complete arm of the kind `name` to `out`, or to NAME.py, and say how a configuration uses it.

    Raises ConfigError for a name that is taken or none, and for a file that is there or cannot be written.
    """
    check_kind(name)
    out = out or Path(f"{name}.py")
    text = resources.files("nsbench.arms").joinpath("template.py").read_text(encoding="utf-8")
    text = text.replace("my_kind", name).replace("MyKind", name.title().replace("_", ""))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"--out: {show(str(out))} is there; a file that is not there yet is allowed") from None
    except OSError as error:
        raise ConfigError(f"--out: {show(str(out))} cannot be written ({error.strerror})") from None
    return (
        f"{out} is an arm of the kind {name}. Three lines of config.yaml use it:\n"
        f"plugins: [{out}]    # at the left margin\n"
        f"{name}: {{kind: {name}, strength: 0.1}}    # under tasks.<task>.arms\n"
        f"- {name}    # under arms of a block of grid"
    )
