"""Lines that write over what dies in them: ``d_c = d_r * mask`` as ``d_c = d_r.mul_(mask)``.

What a step holds at most is the largest layer at work, and much of that are tensors that the
expressions make on their way. A product or sum can take the memory of its left side, where that is
a tensor of the result's shape that nothing reads again, or was made within the expression. Formulas
are written plainly; here they are turned, and only for the profile that has in-place operations.

>>> written_over("d_r * r_mask", spare={"d_r"}, wide={"d_r"})
'd_r.mul_(r_mask)'
>>> written_over("x * x * 0.5", spare={"x"}, wide={"x"})
'(x * x).mul_(0.5)'
"""

import ast
from collections import Counter
from collections.abc import Collection
from functools import cache
from typing import NamedTuple

#: Stands among what a result shares memory with where its elements share memory with one another.
OVERLAP = "expand"
_METHODS = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}
_EITHER_WAY = (ast.Add, ast.Mult)
#: Functions that a file carries which write over their first argument, an expression.
_WRITERS = ("less_products_",)
_SAME_SHAPE = ("F.softmax", "F.log_softmax")
_ELEMENTWISE = {
    "F.relu": "relu_",
    "torch.erf": "erf_",
    "torch.exp": "exp_",
    "torch.sigmoid": "sigmoid_",
    "torch.tanh": "tanh_",
}
#: Methods whose result is, or may be, the same memory; those of other names make their own.
_VIEWS = ("expand", "flatten", "permute", "reshape", "transpose", "unsqueeze", "view")
#: Functions of each element that a file carries, which take the place for their result.
_WITH_PLACE = ("gelu_slope", "gelu_tanh_slope", "silu_slope")
#: Functions that make tensors as large as what they are for.
_MAKERS = ("decompress_", "unpool")


@cache
def shares(code: str) -> frozenset[str]:
    """Names whose memory the value of an expression may be, and `OVERLAP` if it may repeat it."""
    return frozenset(_sharing(ast.parse(code, mode="eval").body))


def _sharing(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Subscript | ast.Attribute):
        return _sharing(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        places = [keyword.value for keyword in node.keywords if keyword.arg == "out"]
        places += node.args[:1] if node.func.id.endswith("_") else []
        return set().union(*map(_sharing, places))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner, method = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and owner.id in ("F", "torch"):
            return set()
        if method in _VIEWS or method.endswith("_"):
            return _sharing(owner) | ({OVERLAP} if method == "expand" else set())
    return set()


def written_over(code: str, *, spare: Collection[str], wide: Collection[str]) -> str:
    """The expression with what it makes put where memory is spare.

    ``spare`` are variables that may be overwritten; ``wide`` those that are floats and have the
    shape of the result, as the others that are overwritten must.
    """
    body = ast.parse(code, mode="eval").body
    names = Counter(node.id for node in ast.walk(body) if isinstance(node, ast.Name))
    # What stands there twice would be read after it is overwritten.
    once = {name for name in spare if names[name] == 1}
    return _Rewriter(code, once, set(wide)).put(body, known=True).text


class _Put(NamedTuple):
    text: str
    writable: bool = False
    atom: bool = True  # may a method be called on it as it stands?


class _Rewriter:
    def __init__(self, code: str, spare: set[str], wide: set[str]) -> None:
        self.code, self.spare, self.wide = code, spare, wide

    def put(self, node: ast.expr, known: bool = False) -> _Put:
        """An expression; ``known`` says that it has the result's shape."""
        if isinstance(node, ast.Name):
            free = node.id in self.spare and node.id in self.wide
            return _Put(node.id, free)
        if isinstance(node, ast.BinOp) and (known or self.is_wide(node)):
            return self.combined(node, known)
        if isinstance(node, ast.Call):
            method = _ELEMENTWISE.get(self.text(node.func))
            if method is not None and (known or self.is_wide(node)):
                inner = self.put(node.args[0], known)
                return _called(inner, method, "") if inner.writable else _Put(self.text(node), True)
            return self.called(node, known)
        return _Put(self.text(node), atom=not isinstance(node, ast.BinOp | ast.UnaryOp))

    def called(self, node: ast.Call, known: bool) -> _Put:
        """A function, not a method, or one that nothing is known of."""
        name, text = self.text(node.func), self.text(node)
        if name in _SAME_SHAPE or (name in _WRITERS and (known or self.is_wide(node))):
            argument = node.args[0]
            inner = self.put(argument, known and name in _WRITERS)
            return _Put(text.replace(self.text(argument), inner.text, 1), True)
        if name in _WITH_PLACE and known and self.put(node.args[0]).writable:
            return _Put(f"{text[:-1]}, out={self.text(node.args[0])})", True)
        return _Put(text, name.startswith(_MAKERS))

    def combined(self, node: ast.BinOp, known: bool) -> _Put:
        method = _METHODS.get(type(node.op))
        if method is not None:
            left, right = node.left, node.right
            turns = [(left, right), (right, left)][: 1 + isinstance(node.op, _EITHER_WAY)]
            for base, other in turns:
                alone = known and isinstance(other, ast.Constant)
                if alone or self.is_wide(base):
                    inner = self.put(base, alone)
                    if inner.writable:
                        return _called(inner, method, self.put(other).text)
        return _Put(self.text(node), True, atom=False)

    def is_wide(self, node: ast.expr) -> bool:
        """Has it the result's shape for certain, and floats?"""
        if isinstance(node, ast.Name):
            return node.id in self.wide
        if isinstance(node, ast.BinOp):
            return type(node.op) in _METHODS and (
                self.is_wide(node.left) or self.is_wide(node.right)
            )
        if isinstance(node, ast.Call):
            name = self.text(node.func)
            first = name in _ELEMENTWISE or name in _WRITERS
            return name.startswith(_MAKERS) or (first and self.is_wide(node.args[0]))
        return False

    def text(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.code, node) or ""


def _called(inner: _Put, method: str, argument: str) -> _Put:
    owner = inner.text if inner.atom else f"({inner.text})"
    return _Put(f"{owner}.{method}({argument})", True)
