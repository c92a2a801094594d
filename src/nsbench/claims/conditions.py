"""Conditions of a rule: comparisons of named numbers, such as `low > 0 and value >= 0.5 * paper`.

A name without a number is NaN, and every comparison with NaN is false, so a condition holds only
where it is known to hold. `not` and `!=` would turn that round and are refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping

import pandas as pd

from nsbench.config.base import ConfigError
from nsbench.config.errors import nearest

ALWAYS = ("value", "low", "high", "paper", "n")
"""The names that every condition may use: our number, the ends of its interval, the paper's number, a count."""
LONGEST = 500
"""Letters of a condition: far more than one needs, far fewer than Python's parser bears."""
_ALLOWED = (
    ast.Expression,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.Compare,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Eq,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.UnaryOp,
    ast.USub,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Call,
)


def names_in(condition: str, where: str) -> list[str]:
    """The names that a condition uses, in order.

    Raises ConfigError where it is no combination of comparisons by `and` and `or`.
    """
    if len(condition) > LONGEST:
        raise ConfigError(f"{where}: a condition of {len(condition)} letters; at most {LONGEST} are allowed")
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except SyntaxError as error:
        raise ConfigError(f"{where}: {condition!r} is no expression ({error.msg}); comparisons are allowed") from None
    functions = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id != "abs" or node.keywords:
                raise ConfigError(f"{where}: {condition!r} calls something else than abs; abs alone is allowed")
            functions.add(node.func)
        number = isinstance(node, ast.Constant) and isinstance(node.value, bool | str | bytes | complex)
        if not isinstance(node, _ALLOWED) or number:
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
    for name in names_in(condition, where):
        if name not in known:
            raise ConfigError(
                f"{where}: unknown name {name!r} in {condition!r}{nearest(name, known)}; allowed: {', '.join(known)}"
            )
    try:
        holds(condition, dict.fromkeys(known, 1.0))
    except ZeroDivisionError:
        raise ConfigError(f"{where}: {condition!r} divides by 0; another number is allowed") from None
    except RecursionError:
        raise ConfigError(f"{where}: {condition!r} has too many signs; a shorter one is allowed") from None


def holds(condition: str, values: Mapping[str, float | None]) -> bool:
    """Whether a checked condition holds for these numbers; None counts as NaN, and a name left out too."""
    row = dict.fromkeys(names_in(condition, "condition"), math.nan)
    row |= {name: math.nan if values.get(name) is None else float(values[name]) for name in row}  # type: ignore[arg-type]
    found = pd.DataFrame([row] if row else [{"value": math.nan}], dtype=float).eval(condition.strip(), engine="python")
    return bool(found.iloc[0]) if isinstance(found, pd.Series) else bool(found)


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
