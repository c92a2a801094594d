"""Conditions of a rule: comparisons of named numbers, such as `low > 0 and value >= 0.5 * paper`.

A name without a number is NaN, and every comparison with NaN is false, so a condition holds only
where it is known to hold. `not` and `!=` would turn that round and are refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping

import numpy as np

from nsbench.config.base import ConfigError
from nsbench.config.errors import nearest

ALWAYS = ("value", "low", "high", "paper", "n")
"""The names that every condition may use: our number, the ends of its interval, the paper's number, a count."""
LONGEST = 500
"""Letters of a condition: far more than one needs, far fewer than Python's parser bears."""
_JOINED = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
_COMPUTED = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UnaryOp, ast.USub, ast.Call)
_ALLOWED = (*_JOINED, *_COMPUTED, ast.Name, ast.Load, ast.Constant)


def names_in(condition: str, where: str) -> list[str]:
    """The names that a condition uses, in order.

    Raises ConfigError where it is no combination of comparisons by `and` and `or`.
    """
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except SyntaxError as error:
        raise ConfigError(f"{where}: {condition!r} is no expression ({error.msg}); comparisons are allowed") from None
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if any(ast.unparse(function) != "abs" for function in functions):
        raise ConfigError(f"{where}: {condition!r} calls something else than abs; abs alone is allowed")
    for node in ast.walk(tree):
        number = not isinstance(node, ast.Constant) or type(node.value) in (int, float)
        if not (isinstance(node, _ALLOWED) and number):
            raise ConfigError(
                f"{where}: {condition!r} uses {_what(node)}; names, numbers, + - * /, abs, < <= > >= ==, `and` and "
                "`or` are allowed"
            )
    if not _is_condition(tree.body):
        raise ConfigError(f"{where}: {condition!r} is a number, not a condition; a comparison is allowed")
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in functions]
    return list(dict.fromkeys(used))


def check(condition: str, known: Collection[str], where: str) -> None:
    """Refuse a condition with a name that is not in `known` or a form that is not allowed, by ConfigError."""
    if len(condition) > LONGEST:
        raise ConfigError(f"{where}: a condition of {len(condition)} letters; at most {LONGEST} are allowed")
    for name in names_in(condition, where):
        if name not in known:
            raise ConfigError(
                f"{where}: unknown name {name!r} in {condition!r}{nearest(name, known)}; allowed: {', '.join(known)}"
            )
    try:
        holds(condition, dict.fromkeys(known, 1.0))
    except ZeroDivisionError:
        raise ConfigError(f"{where}: {condition!r} divides by 0; another number is allowed") from None


def holds(condition: str, values: Mapping[str, float | None]) -> bool:
    """Whether a checked condition holds for these numbers; None counts as NaN, and a name left out too."""
    numbers = {name: values.get(name) for name in names_in(condition, "condition")}
    given = {name: np.float64(math.nan if number is None else number) for name, number in numbers.items()}
    with np.errstate(all="ignore"):
        # `names_in` refuses all but comparisons of numbers.
        return bool(eval(condition.strip(), {"__builtins__": {}, "abs": abs}, given))


def _is_condition(node: ast.expr) -> bool:
    """Whether a node says something: a comparison, or several joined; their sides are numbers."""
    if isinstance(node, ast.BoolOp):
        return all(_is_condition(part) for part in node.values)
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    return not any(isinstance(part, ast.BoolOp | ast.Compare) for side in sides for part in ast.walk(side))


def _what(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return repr(node.value)
    return {"NotEq": "!=", "Not": "not", "Pow": "**"}.get(type(node).__name__, f"a {type(node).__name__}")
