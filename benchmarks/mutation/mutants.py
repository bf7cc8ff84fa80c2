"""Mutants of a Python file: the same file with one small mistake, as a hurried programmer would make it."""

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

Place = tuple[ast.AST, str, int | None]  # parent, field, and the index in it where the field is a list
Changes = Iterator[ast.AST]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
PAIRS = (("min", "max"), ("amin", "amax"), ("any", "all"), ("floor", "ceil"), ("sum", "mean"), ("cummax", "cummin"))
NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
# Parts that hold no behavior, or are themselves a check of what cannot happen.
LEFT_OUT = {"annotation", "returns", "decorator_list", "type_params", "bases"}


class Mutant(NamedTuple):
    """A changed file: the line of the change, what it was and became, and the whole new text."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a file, in the order of the file."""
    tree = ast.parse(source)
    for node, (parent, field, index) in _places(tree):
        for change in CHANGES[type(node)](node):
            _put(parent, field, index, change)
            yield Mutant(getattr(node, "lineno", 0), ast.unparse(node), ast.unparse(change), ast.unparse(tree))
        _put(parent, field, index, node)


def _places(parent: ast.AST) -> Iterator[tuple[ast.AST, Place]]:
    """Yield the nodes that can be changed, each with where it stands."""
    for field, value in ast.iter_fields(parent):
        if field in LEFT_OUT:
            continue
        for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr) or _is_strict(node):
                continue
            if type(node) in CHANGES:
                yield node, (parent, field, index)
            if not _is_negative(node):
                yield from _places(node)


def _is_negative(node: ast.AST) -> bool:
    """Whether it is a number like -1, whose change is its sign."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)


def _is_strict(node: ast.AST) -> bool:
    """Whether it is the ``strict=True`` of a zip, whose rows are as many by construction."""
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _comparison(node: ast.Compare) -> Changes:
    for place, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield ast.Compare(node.left, [*node.ops[:place], other(), *node.ops[place + 1 :]], node.comparators)


def _arithmetic(node: ast.BinOp) -> Changes:
    if type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)


def _in_place(node: ast.AugAssign) -> Changes:
    yield ast.Pass()
    if type(node.op) in OPERATORS:
        yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)


def _logic(node: ast.BoolOp) -> Changes:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _sign(node: ast.UnaryOp) -> Changes:
    yield node.operand


def _constant(node: ast.Constant) -> Changes:
    """True and False swap; an integer is one more and one less; another number doubles."""
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, float):
        yield ast.Constant(2 * value or 1.0)


def _name(node: ast.Attribute) -> Changes:
    if node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)


def _function(node: ast.Name) -> Changes:
    if node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)


def _keyword(node: ast.keyword) -> Changes:
    if node.arg in ("min", "max"):
        yield ast.keyword(NAMES[node.arg], node.value)


def _branch(node: ast.If) -> Changes:
    yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _choice(node: ast.IfExp) -> Changes:
    yield ast.IfExp(node.test, node.orelse, node.body)


def _statement(node: ast.Expr) -> Changes:
    """A call that is a statement is forgotten; a docstring and a yield are none."""
    if isinstance(node.value, ast.Call):
        yield ast.Pass()


CHANGES: dict[type[ast.AST], Callable[..., Changes]] = {
    ast.Compare: _comparison,
    ast.BinOp: _arithmetic,
    ast.AugAssign: _in_place,
    ast.BoolOp: _logic,
    ast.UnaryOp: _sign,
    ast.Constant: _constant,
    ast.Attribute: _name,
    ast.Name: _function,
    ast.keyword: _keyword,
    ast.If: _branch,
    ast.IfExp: _choice,
    ast.Expr: _statement,
}
