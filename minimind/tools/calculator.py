"""The tool that computes: arithmetic, exactly, of numbers and sizes that are bounded.

It runs in a process of its own, which imports this file alone: so it uses the standard library only. An expression is
parsed as Python and its tree walked by hand; nothing of it is ever run.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

LONGEST = 200
"""How many characters an expression may have."""

LARGEST = 10**30
"""No number on the way may be larger, on either side of zero; none of its fractions finer than a part of this."""

MOST_POWER = 1000
"""An exponent may not be larger, on either side of zero."""

_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "（": "(", "）": ")", "^": "**"})
_DIGITS = 12

_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def answers(calls: list[dict[str, Any]]) -> list[str | dict[str, str]]:
    """The value of each call's `expression`, or {"error": why there is none}."""
    return [_answer(call["arguments"]) for call in calls]


def computed(expression: str) -> str:
    """The value of an expression: + - * / // % **, brackets, whole numbers and decimals. × ÷ − ^ are read too.

    As a whole number where it is one, else with 12 digits. Raises ValueError, in words for whoever wrote it.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has more than {LONGEST} characters")
    try:
        tree = ast.parse(expression.translate(_SIGNS).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("this is no arithmetic expression") from None
    value = _value(tree.body)
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.{_DIGITS}g}"


def _answer(arguments: dict[str, Any]) -> str | dict[str, str]:
    expression = arguments.get("expression")
    if isinstance(expression, (int, float)) and not isinstance(expression, bool):
        expression = str(expression)
    if not isinstance(expression, str) or len(arguments) > 1:
        return {"error": "one argument is needed: expression, a text"}
    try:
        return computed(expression)
    except ValueError as error:
        return {"error": str(error)}


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=bool() | complex()):
            raise ValueError("only numbers can be computed with")
        case ast.Constant(value=int() | float() as number):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError("a number is too large")
            return _bounded(Fraction(repr(number)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bounded(_power(_value(left), _value(right)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            first, second = _value(left), _value(right)
            if not second and isinstance(op, (ast.Div, ast.FloorDiv, ast.Mod)):
                raise ValueError("division by zero")
            return _bounded(Fraction(_BINARY[type(op)](first, second)))
    raise ValueError("only + - * / // % ** and brackets can be used with numbers")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if abs(exponent) > MOST_POWER:
        raise ValueError(f"an exponent is larger than {MOST_POWER}")
    if not base and exponent < 0:
        raise ValueError("division by zero")
    if exponent.denominator == 1:
        # At most 1000 times 100 digits: how large it is, is seen once it is there.
        return Fraction(base ** int(exponent))
    if base < 0:
        raise ValueError("a root of a negative number")
    try:
        return Fraction(repr(float(base) ** float(exponent)))
    except OverflowError:
        raise ValueError("a number is too large") from None


def _bounded(value: Fraction) -> Fraction:
    if abs(value) > LARGEST or value.denominator > LARGEST:
        raise ValueError("a number is too large, or too fine")
    return value
