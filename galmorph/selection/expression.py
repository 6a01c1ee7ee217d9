"""Conditions on rows: parsed by Python's parser and evaluated with a few operations; no code is run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import GalmorphError

Array = NDArray[Any]
MAX_LENGTH = 10_000

_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMPUTED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}


class Condition:
    """A condition on rows, parsed.

    Parameters
    ----------
    text : str
        Names, numbers, texts in quotes, ``< <= > >= == !=``, ``and or not``, ``+ - * /``, and ``& |`` of bits.

    Raises
    ------
    GalmorphError
        If it is anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise GalmorphError(f"The condition has {len(text)} characters; {MAX_LENGTH} are read at most.")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            hint = " (equality is ==)" if "=" in text else ""
            raise GalmorphError(f"The condition {text!r} cannot be read: {error}{hint}.") from error
        self.names = list(dict.fromkeys(node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)))

    def __call__(self, values: Mapping[str, Array]) -> NDArray[np.bool_]:
        """Return where the condition holds.

        Parameters
        ----------
        values : mapping of name to ndarray, shape (n,)
            The values of all `names`: numbers, booleans, or text as objects.

        Raises
        ------
        GalmorphError
            If it compares text with numbers, or is not a condition.
        """
        try:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                result = self._value(self._tree, values)
        except RecursionError as error:
            raise GalmorphError(f"The condition {self.text[:40]!r}... is nested too deeply.") from error
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            raise GalmorphError(f"The condition {self.text!r} mixes text, numbers or conditions: {error}.") from error
        if not _is_boolean(result) or result.ndim != 1:
            raise GalmorphError(f"{self.text!r} is no condition: compare it with a number, such as {self.text} >= 0.5.")
        return result

    def _value(self, node: ast.expr, values: Mapping[str, Array]) -> Any:
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            return node.value
        if isinstance(node, ast.Compare):
            return self._compare(node, values)
        if isinstance(node, ast.BoolOp):
            joined = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return joined.reduce([self._truth(part, values) for part in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self._truth(node.operand, values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand, values)
        if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
            pair = self._value(node.left, values), self._value(node.right, values)
            if any(map(_is_text, pair)):
                raise TypeError(ast.unparse(node))
            return _COMPUTED[type(node.op)](*pair)
        raise GalmorphError(
            f"The condition {self.text!r} holds {ast.unparse(node)!r}, which is not allowed: names, numbers, texts, "
            "comparisons, and, or, not, + - * / & | are."
        )

    def _compare(self, node: ast.Compare, values: Mapping[str, Array]) -> Any:
        operands = [self._value(operand, values) for operand in (node.left, *node.comparators)]
        results = []
        for compare, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(compare) not in _COMPARED:
                raise GalmorphError(f"The condition {self.text!r} compares by something else than < <= > >= == !=.")
            if _is_text(left) != _is_text(right):
                raise TypeError(f"{ast.unparse(node)}")
            results.append(np.asarray(_COMPARED[type(compare)](left, right), dtype=bool))
        return np.logical_and.reduce(results)

    def _truth(self, node: ast.expr, values: Mapping[str, Array]) -> Any:
        value = self._value(node, values)
        if not _is_boolean(value):
            raise GalmorphError(f"{ast.unparse(node)!r} is no condition: compare it with a number.")
        return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or getattr(getattr(value, "dtype", None), "kind", "") == "O"


def _is_boolean(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "b"
