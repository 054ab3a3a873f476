"""Mutants of a module: one small change of its source each, as a programmer may slip."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
OPERATOR = re.compile(rb"[^\s()#]+(?:\s+(?:in|not)\b)?")
Name = tuple[str, str, str, str]
"""A mutant's path, function, and changed lines before and after."""
UNREAD = (ast.JoinedStr, ast.Import, ast.ImportFrom)
"""Texts for people, and imports, which the linter watches. An f-string's parts have no place in Python 3.11."""


@dataclass(frozen=True)
class Mutant:
    """`before` and `after`: the changed lines without their indentation, by which a judgement names it."""

    path: str
    function: str
    first_line: int
    last_line: int
    before: str
    after: str
    source: str
    """The whole module, changed."""

    @property
    def name(self) -> Name:
        """What stays when lines above it come and go."""
        return self.path, self.function, self.before, self.after

    def diff(self, original: str) -> str:
        """The change, without the lines around it."""
        lines = difflib.unified_diff(original.splitlines(), self.source.splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


@dataclass(frozen=True)
class _Edit:
    """Bytes of the source that are replaced."""

    start: int
    end: int
    text: bytes


def mutants(path: str, source: str, only: Container[Name] | None = None) -> list[Mutant]:
    """Every mutant of the module, or those with a name in `only`, in the order of its lines.

    None of them is the module itself.
    """
    data, tree = source.encode(), ast.parse(source)
    walk = _Walk(data)
    same = ast.dump(tree)
    seen: set[str] = set()
    made = []
    for function, edit in walk.edits(tree, ""):
        changed = (data[: edit.start] + edit.text + data[edit.end :]).decode()
        if changed in seen:
            continue
        seen.add(changed)
        first = data.count(b"\n", 0, edit.start) + 1
        last = data.count(b"\n", 0, edit.end) + 1
        until = data.find(b"\n", edit.end) % (len(data) + 1)
        since = data.rfind(b"\n", 0, edit.start) + 1
        before = data[since:until]
        after = data[since : edit.start] + edit.text + data[edit.end : until]
        mutant = Mutant(path, function, first, last, _one_line(before), _one_line(after), changed)
        if only is not None and mutant.name not in only:
            continue  # before it is parsed, which takes longest
        try:
            # Parenthesised once more, a text may mean the same.
            is_same = ast.dump(ast.parse(changed)) == same
        except SyntaxError:
            continue
        if not is_same:
            made.append(mutant)
    return sorted(made, key=lambda mutant: (mutant.first_line, mutant.last_line))


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())


class _Walk:
    """The edits of a tree, each with the function that it is in."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lines = [0]
        for line in data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._useless: set[ast.stmt] = set()
        """Returns at a function's end that say no more than the end itself."""

    def edits(self, node: ast.AST, function: str) -> Iterator[tuple[str, _Edit]]:
        if isinstance(node, UNREAD) or (isinstance(node, ast.Call) and _is_declaration(node)):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        for edit in [*self._of(node), *self._texts(node), *self._ends(node)]:
            yield function, edit
        for child in self._children(node):
            yield from self.edits(child, function)

    def _texts(self, node: ast.AST) -> Iterator[_Edit]:
        """Words that are compared, looked up or handed on. Those that are only shown are left alone."""
        match node:
            case ast.Compare():
                parts = [node.left, *node.comparators]
            case ast.Subscript(slice=part):
                parts = [part]
            case ast.Dict(keys=keys):
                parts = [key for key in keys if key]
            case ast.Call(func=ast.Attribute(), args=parts):
                pass
            case _:
                return
        for part in parts:
            for each in part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]:
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and not re.search(r"\s", each.value):
                    yield self._replace(each, repr(f"{each.value}x"))

    def _ends(self, node: ast.AST) -> Iterator[_Edit]:
        """What a function that says yes or no returns, the other way round."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            says_yes_or_no = isinstance(node.returns, ast.Name) and node.returns.id == "bool"
            for each in ast.walk(node) if says_yes_or_no else ():
                if isinstance(each, ast.Return) and isinstance(each.value, ast.Call | ast.Name | ast.Attribute):
                    yield self._replace(each.value, f"not {self._text(each.value)}")

    def _children(self, node: ast.AST) -> Iterator[ast.AST]:
        """Without types, decorators and docstrings, of which no test says anything."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases", "keywords" if _is_class(node) else ""):
                continue
            if isinstance(node, ast.Raise) and name == "exc" and isinstance(value, ast.Call):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_text(child):
                    yield child

    def _of(self, node: ast.AST) -> Iterable[_Edit]:
        match node:
            case ast.Compare():
                yield from self._comparison(node)
            case ast.BoolOp():
                yield from self._condition(node)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._replace(node, f"({self._text(operand)})")
            case ast.BinOp(op=op) if type(op) in ARITHMETIC:
                yield from self._between(node.left, node.right, (ARITHMETIC[type(op)],))
            case ast.Constant():
                yield from self._constant(node)
            case ast.Call():
                yield from self._call(node)
            case ast.If() | ast.IfExp() | ast.While():
                yield from self._test(node.test)
            case ast.comprehension():
                for test in node.ifs:
                    yield self._replace(test, "True")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                last = node.body[-1]
                if isinstance(last, ast.Return) and _is_none(last.value):
                    self._useless.add(last)
        if isinstance(node, ast.stmt) and _may_be_dropped(node) and node not in self._useless:
            yield self._replace(node, "pass")

    def _comparison(self, node: ast.Compare) -> Iterator[_Edit]:
        sides = [node.left, *node.comparators]
        for (left, right), op in zip(pairwise(sides), node.ops, strict=True):
            yield from self._between(left, right, COMPARISONS[type(op)])

    def _between(self, left: ast.expr, right: ast.expr, others: tuple[str, ...]) -> Iterator[_Edit]:
        """The operator between two operands, which may be in parentheses."""
        start, end = self._end(left), self._start(right)
        if found := OPERATOR.search(self._data, start, end):
            for other in others:
                yield _Edit(found.start(), found.end(), other.encode())

    def _condition(self, node: ast.BoolOp) -> Iterator[_Edit]:
        values = [f"({self._text(value)})" for value in node.values]
        other = " and " if isinstance(node.op, ast.Or) else " or "
        own = " or " if isinstance(node.op, ast.Or) else " and "
        yield self._replace(node, f"({other.join(values)})")
        for index in range(len(values)):
            yield self._replace(node, f"({own.join(values[:index] + values[index + 1 :])})")

    def _constant(self, node: ast.Constant) -> Iterator[_Edit]:
        match node.value:
            case bool():
                yield self._replace(node, str(not node.value))
            case int() | float():
                yield self._replace(node, f"({self._text(node)} + 1)")

    def _call(self, node: ast.Call) -> Iterator[_Edit]:
        if isinstance(node.func, ast.Name) and node.func.id in TWINS:
            yield self._replace(node.func, TWINS[node.func.id])
        arguments: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for index, argument in enumerate(arguments):
            if isinstance(argument, ast.keyword) or (index and index == len(node.args) - 1):
                # From the end of the one before it, which takes the comma along.
                start = self._end(arguments[index - 1]) if index else self._start(argument)
                yield _Edit(start, self._end(argument), b"")

    def _test(self, test: ast.expr) -> Iterator[_Edit]:
        if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr | ast.BoolOp):
            yield self._replace(test, f"not ({self._text(test)})")

    def _replace(self, node: ast.expr | ast.stmt, text: str) -> _Edit:
        return _Edit(self._start(node), self._end(node), text.encode())

    def _text(self, node: ast.expr) -> str:
        return self._data[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset


def _is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def _is_declaration(node: ast.Call) -> bool:
    """What a dataclass or a type checker reads."""
    return isinstance(node.func, ast.Name) and node.func.id in ("field", "TypeVar")


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _is_text(node: ast.AST) -> bool:
    """Whether the statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _may_be_dropped(node: ast.stmt) -> bool:
    """Without an assignment to a name, the next line fails. That teaches nothing."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Return() | ast.Continue() | ast.Break() | ast.Delete():
            return True
        case ast.Assign(targets=targets):
            return all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
    return False
