"""Registries: what is found by a name and may be added by a plug-in (arms, tasks, models, measures, figures ...).

What a run computes is in the registered classes and functions; nothing here changes a number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetPydanticSchema, TypeAdapter, create_model
from pydantic_core import CoreSchema, core_schema

from nsbench.config.base import ConfigError
from nsbench.config.errors import nearest, show, side_by_side

CHANGES_NO_RESULT = True

T = TypeVar("T")
REGISTRIES: list[Registry[Any]] = []
"""All registries of this process; a plug-in may add to any of them."""


C = TypeVar("C", bound=type[BaseModel])


class Registry(dict[str, T]):
    """Registered classes or functions by name, in the order in which they were registered.

    what: what the names name, for messages, as `kind of arm`.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        REGISTRIES.append(self)

    def add(self, name: str, value: T) -> None:
        """Register a value. Raises ConfigError for a name that is taken or that is no name."""
        self.check_free(name)
        self[name] = value

    def check_free(self, name: str) -> None:
        """Raise ConfigError where nothing can be registered under a name: it is taken, or no name."""
        if not re.fullmatch("[a-z][a-z0-9_]{0,49}", name):
            raise ConfigError(f"{name!r} is no {self.what}; allowed: at most 50 of a-z, 0-9 and '_', a letter first")
        if name in self:
            taken = f"{self[name].__module__}.{self[name].__name__}"
            raise ConfigError(
                f"the {self.what} '{name}' is taken by {taken}; allowed: a name besides {', '.join(self)}"
            )

    def find(self, name: str, where: str = "") -> T:
        """What is registered under a name. Raises ConfigError naming the nearest one for a name that is not known."""
        if name not in self:
            allowed = f"{nearest(name, self)}; allowed: {side_by_side(self)}"
            raise ConfigError(f"{where}{': ' if where else ''}unknown {self.what} {show(name)}{allowed}")
        return self[name]


def settings_class(
    registry: Registry[Any], name: str, base: type[BaseModel], needs: tuple[str, ...] = (), kinds: bool = True
) -> Callable[[C], C]:
    """What registers a class of settings under a name, by which settings name it as their `kind` where `kinds`.

    Raises ConfigError for a name that is taken or no name, and for a class that is no `base` or lacks one of the
    methods that it `needs`.
    """

    def register(cls: C) -> C:
        registry.check_free(name)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise ConfigError(f"'{name}' registers {cls!r}; a subclass of nsbench.{base.__name__} is allowed")
        for method in needs:
            if getattr(cls, method) is getattr(base, method):
                raise ConfigError(f"'{name}' has no {method}; a {registry.what.split()[-1]} needs this method")
        registry.add(name, with_kind(cls, name) if kinds else cls)
        # Types that are not defined are an error here, not where settings are read.
        registry[name].model_rebuild()
        return registry[name]

    return register


def with_kind(cls: type[BaseModel], kind: str) -> type[Any]:
    """A subclass of a model of settings that has the one value of `kind`, by which pydantic distinguishes models."""
    return create_model(
        cls.__name__, __base__=cls, __module__=cls.__module__, __doc__=cls.__doc__, kind=(Literal[kind], kind)
    )


@functools.cache
def _union(classes: tuple[type[BaseModel], ...]) -> TypeAdapter[Any]:
    if len(classes) > 1:
        return TypeAdapter(Annotated[Union[classes], Field(discriminator="kind")])  # noqa: UP007

    def of_one(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Typing has no union of one class, which would report a wrong kind as an unknown key."""
        (cls,) = classes
        choices = {cls.model_fields["kind"].default: handler.generate_schema(cls)}
        return core_schema.tagged_union_schema(choices, discriminator="kind", strict=False, from_attributes=True)

    return TypeAdapter(Annotated[Any, GetPydanticSchema(of_one)])


def any_of(registry: Registry[Any], default: str = "") -> Any:
    """An annotation for a field that has settings of any registered kind.

    The key `kind` of a value is looked up in the registry as it is when the value is validated. default: the kind of
    settings without this key, where there is one.
    """
    return looked_up(lambda: _union(tuple(registry.values())), {"kind": default} if default else {})


def looked_up(adapter: Callable[[], TypeAdapter[Any]], defaults: dict[str, Any] | None = None) -> Any:
    """An annotation for a field whose type depends on registries: `adapter` is asked when a value is validated.

    defaults: keys that a section may lack, and what stands there then.
    """

    def validate(value: Any) -> Any:
        return adapter().validate_python({**defaults, **value} if defaults and isinstance(value, dict) else value)

    class LookedUp:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            return core_schema.no_info_plain_validator_function(validate)

    return LookedUp
