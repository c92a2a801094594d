"""The registry of all kinds of arm. What a run computes is in the classes; nothing here changes a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from nsbench.arms.base import Arm
from nsbench.config.base import ConfigError, parse
from nsbench.config.registry import Registry, any_of, settings_class

CHANGES_NO_RESULT = True

ARMS: Registry[type[Arm]] = Registry("kind of arm")
"""All kinds of arm that are known in this process, by name."""
A = TypeVar("A", bound=type[Arm])


def arm(kind: str) -> Callable[[A], A]:
    """Register a class of arm under the name that `kind` of an arm's settings gives it.

    Raises ConfigError for a name that is taken or no name, for a class that is no Arm, and for one that draws noise and
    has no field `rho`.
    """

    register = settings_class(ARMS, kind, Arm)

    def checked(cls: A) -> A:
        if getattr(cls, "draws_noise", False) and "rho" not in cls.model_fields and not hasattr(cls, "rho"):
            raise ConfigError(f"'{kind}' draws noise and has no rho; a field `rho: Rho` is needed for it")
        return register(cls)

    return checked


def describe(settings: dict[str, Any]) -> str:
    """`Arm.describe` of an arm's settings as plain values. Raises ConfigError for an unknown kind or bad settings."""
    return parse(ARMS.find(settings["kind"]), settings, "arm").describe()


def check(settings: Arm, variant: Any, where: str = "arm") -> None:
    """`Arm.check`. Raises ConfigError, its message starting with `where`."""
    try:
        settings.check(variant)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


AnyArm = Annotated[Arm, any_of(ARMS)]
"""The type of a field that has an arm of any registered kind."""
