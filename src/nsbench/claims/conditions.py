"""Conditions of a rule: comparisons of named numbers, such as `low > 0 and value >= 0.5 * paper`.

A name without a number is NaN, and every comparison with NaN is false, so a condition holds only
where it is known to hold. `not` and `!=` would turn that round and are refused.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from nsbench.config.base import ConfigError, known
from nsbench.config.errors import show

ALWAYS = ("value", "low", "high", "paper", "n")
"""The names that every condition may use: our number, the ends of its interval, the paper's number, a count."""
LONGEST, LARGEST = 300, 1e300
"""Characters of a condition, so that none is nested too deep to be read; and numbers in it are smaller."""
_COMPARED = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq}
_COMPUTED = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def names_in(condition: str) -> list[str]:
    """The names that a checked condition uses, in order."""
    nodes = list(ast.walk(_tree(condition)))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    return list(dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name) and node not in functions))


def check(condition: str, names: Collection[str], where: str) -> None:
    """Raise ConfigError for what is no combination of comparisons by `and` and `or`, and for a name that is none of
    `names`."""
    where = f"{where}: {show(condition)}"
    try:
        if len(condition) > LONGEST:
            raise ValueError(f"it has {len(condition)} characters; {LONGEST} are allowed")
        tree = _tree(condition)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = getattr(error, "msg", error)
        raise ConfigError(f"{where} is no expression ({problem}); comparisons are allowed") from None
    _check(tree, condition, where)
    for name in names_in(condition):
        known(name, names, where, "name")


def holds(condition: str, values: Mapping[str, float | None]) -> bool:
    """Whether a checked condition holds for these numbers; None counts as NaN, and a name left out too."""
    with np.errstate(all="ignore"):
        return bool(_result(_tree(condition), values))


def _tree(condition: str) -> ast.expr:
    return ast.parse(condition.strip(), mode="eval").body


def _check(node: ast.expr, condition: str, where: str, is_condition: bool = True) -> None:
    """Refuse a part of a condition that must be one itself, or else a number, and is not."""
    match node:
        case ast.BoolOp(values=parts) if is_condition:
            pass
        case ast.Compare(ops=ops) if is_condition and _COMPARED.keys() >= {*map(type, ops)}:
            parts = [node.left, *node.comparators]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMPUTED:
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub(), operand=part) | ast.Call(func=ast.Name("abs"), args=[part], keywords=[]):
            parts = [part]
        case ast.Name():
            parts = []
        case ast.Constant(value) if type(value) in (int, float) and abs(value) < LARGEST:
            parts = []
        case _:
            raise ConfigError(
                f"{where} uses {show(ast.get_source_segment(condition.strip(), node))}; names, numbers, + - * /, abs, "
                "< <= > >= ==, `and` and `or` are allowed"
            )
    if is_condition and not isinstance(node, ast.BoolOp | ast.Compare):
        raise ConfigError(f"{where} is a number, not a condition; a comparison is allowed")
    for part in parts:
        _check(part, condition, where, isinstance(node, ast.BoolOp))


def _result(node: ast.expr, values: Mapping[str, float | None]) -> Any:
    """The value of a part of a checked condition: a number, or whether it holds."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            return (any if isinstance(op, ast.Or) else all)(_result(part, values) for part in parts)
        case ast.Compare(left=left, ops=ops, comparators=others):
            numbers = [_result(part, values) for part in (left, *others)]
            return all(_COMPARED[type(op)](*pair) for op, pair in zip(ops, itertools.pairwise(numbers), strict=True))
        case ast.BinOp(left=left, op=op, right=right):
            return _COMPUTED[type(op)](_result(left, values), _result(right, values))
        case ast.UnaryOp(operand=part):
            return -_result(part, values)
        case ast.Call(args=[part]):
            return abs(_result(part, values))
        case ast.Name(name):
            return np.float64(math.nan if values.get(name) is None else values[name])
        case ast.Constant(value):
            return np.float64(value)
