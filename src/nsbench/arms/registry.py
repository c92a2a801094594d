"""The registry of all kinds of arm, and how a kind is found in it.

What a run computes is in the classes; nothing here changes a number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic_core import CoreSchema, core_schema

from nsbench.arms.base import Arm
from nsbench.config.base import ConfigError, known, parse

CHANGES_NO_RESULT = True

ARMS: dict[str, type[Arm]] = {}
"""All kinds of arm that are known in this process, by name."""
A = TypeVar("A", bound=type[Arm])


def arm(kind: str) -> Callable[[A], A]:
    """Register a class of arm under the name that `kind` of an arm's settings gives it.

    Raises ConfigError for a name that is taken or no name, for a class that is no Arm, and for one that draws noise and
    has no field `rho`.
    """

    def register(cls: A) -> A:
        check_kind(kind)
        if not (isinstance(cls, type) and issubclass(cls, Arm)):
            raise ConfigError(f"'{kind}' registers {cls!r}; a subclass of nsbench.Arm is allowed")
        if cls.draws_noise and "rho" not in cls.model_fields:
            raise ConfigError(f"'{kind}' draws noise and has no rho; a field `rho: Rho` is needed for it")
        # A model of its own with the one value of `kind`, by which pydantic tells the classes apart.
        made = create_model(
            cls.__name__, __base__=cls, __module__=cls.__module__, __doc__=cls.__doc__, kind=(Literal[kind], kind)
        )
        # Types that are not defined are an error here, not where settings are read.
        made.model_rebuild()
        ARMS[kind] = made
        return made

    return register


def check_kind(kind: str) -> None:
    """Raise ConfigError where an arm cannot be registered under a name: it is taken, or no name."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,49}", kind):
        raise ConfigError(f"{kind!r} is no kind of arm; allowed: at most 50 of a-z, 0-9 and '_', a letter first")
    if kind in ARMS:
        taken = f"{ARMS[kind].__module__}.{ARMS[kind].__name__}"
        raise ConfigError(f"the kind of arm '{kind}' is taken by {taken}; allowed: a name besides {', '.join(ARMS)}")


def arm_class(kind: str) -> type[Arm]:
    """The class of a kind of arm. Raises ConfigError naming the nearest kind for one that is not known."""
    known(kind, ARMS, "arm", "kind")
    return ARMS[kind]


def describe(settings: dict[str, Any]) -> str:
    """`Arm.describe` of an arm's settings as plain values. Raises ConfigError for an unknown kind or bad settings."""
    return parse(arm_class(settings["kind"]), settings, "arm").describe()


def check(settings: Arm, variant: Any, where: str = "arm") -> None:
    """`Arm.check`. Raises ConfigError, its message starting with `where`."""
    try:
        settings.check(variant)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


@functools.cache
def _union(classes: tuple[type[Arm], ...]) -> TypeAdapter[Arm]:
    return TypeAdapter(Annotated[Union[classes], Field(discriminator="kind")])  # noqa: UP007


class _Registered:
    """Tells pydantic to look a value's `kind` up in the registry as it is when the value is validated."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: _union(tuple(ARMS.values())).validate_python(value)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(_union(tuple(ARMS.values())).core_schema)


AnyArm = Annotated[Arm, _Registered]
"""The type of a field that has an arm of any registered kind."""
