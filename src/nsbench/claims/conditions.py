"""Conditions of a rule: comparisons of named numbers, such as `low > 0 and value >= 0.5 * paper`.

A name without a number is NaN, and every comparison with NaN is false, so a condition holds only
where it is known to hold. `not` and `!=` would turn that round and are refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping

import numpy as np

from nsbench.config.base import ConfigError, known

ALWAYS = ("value", "low", "high", "paper", "n")
"""The names that every condition may use: our number, the ends of its interval, the paper's number, a count."""
_JOINED = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
_COMPUTED = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UnaryOp, ast.USub, ast.Call)
_ALLOWED = (*_JOINED, *_COMPUTED, ast.Name, ast.Load, ast.Constant)


def names_in(condition: str, where: str = "") -> list[str]:
    """The names that a condition uses, in order.

    Raises ConfigError where it is no combination of comparisons by `and` and `or`.
    """
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except SyntaxError as error:
        raise ConfigError(f"{where}: {condition!r} is no expression ({error.msg}); comparisons are allowed") from None
    nodes = list(ast.walk(tree))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    for node in nodes:
        is_value = isinstance(node, ast.Constant) and type(node.value) not in (int, float)
        if not isinstance(node, _ALLOWED) or is_value or (node in functions and ast.unparse(node) != "abs"):
            raise ConfigError(
                f"{where}: {condition!r} uses {ast.unparse(node) or type(node).__name__}; names, numbers, + - * /, "
                "abs, < <= > >= ==, `and` and `or` are allowed"
            )
    if not _is_condition(tree.body):
        raise ConfigError(f"{where}: {condition!r} is a number, not a condition; a comparison is allowed")
    return list(dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name) and node not in functions))


def check(condition: str, names: Collection[str], where: str) -> None:
    """Raise ConfigError for a condition that uses a name that is none of `names`, or a form that is not allowed."""
    for name in names_in(condition, where):
        known(name, names, f"{where}: {condition!r}", "name")


def holds(condition: str, values: Mapping[str, float | None]) -> bool:
    """Whether a checked condition holds for these numbers; None counts as NaN, and a name left out too."""
    numbers = {name: values.get(name) for name in names_in(condition)}
    given = {name: np.float64(math.nan if number is None else number) for name, number in numbers.items()}
    with np.errstate(all="ignore"):
        # `names_in` refuses all but comparisons of numbers.
        return bool(eval(condition.strip(), {"__builtins__": {}, "abs": abs}, given))


def _is_condition(node: ast.expr) -> bool:
    """Whether a node is a comparison of numbers, or several joined."""
    if isinstance(node, ast.BoolOp):
        return all(_is_condition(part) for part in node.values)
    inner = [part for part in ast.walk(node) if isinstance(part, ast.BoolOp | ast.Compare)]
    return isinstance(node, ast.Compare) and inner == [node]
