"""Every error that the program can tell, read from its source: message, what to do, exit code."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bids_hsf
from bids_hsf import errors
from extension.markdown import code, plain, table

PACKAGE = Path(bids_hsf.__file__).parent
# Where nothing of a sentence stands in the code.
OLDER = "<as the version that wrote the file has it>"


@dataclass(frozen=True)
class Function:
    """What a function of the package does, as its source has it.

    Attributes
    ----------
    name : str
    parameters : tuple of str
    calls : list of ast.Call
    values : dict of str to list of ast.expr
        Names to what is assigned to them.
    """

    name: str
    parameters: tuple[str, ...]
    calls: list[ast.Call]
    values: dict[str, list[ast.expr]]


@dataclass(frozen=True)
class Told:
    """One place where an error is made.

    Attributes
    ----------
    kind : str
        Class of `errors`.
    message, hint : str
        Where the program puts a value in, its name stands in angle brackets; the hint may be empty.
    """

    kind: str
    message: str
    hint: str


def classes(root: type[errors.BidsHsfError] = errors.BidsHsfError) -> Iterator[type[errors.BidsHsfError]]:
    """All errors, parents before children, in the order of the module."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from classes(child)


@cache
def told() -> list[Told]:
    """Every error of the package, in the order of its files."""
    names = {kind.__name__ for kind in classes()}
    found: list[Told] = []
    for function in _functions():
        values = function.values
        for call in function.calls:
            kind = _kind(call, names)
            if kind is None or not call.args:
                continue
            hints = [call.args[1]] if len(call.args) > 1 else [k.value for k in call.keywords if k.arg == "hint"]
            for message in _texts(call.args[0], values):
                hint = " ".join(dict.fromkeys(t for node in hints for t in _texts(node, values) if t != "<...>"))
                found.append(Told(kind, message, hint))
    return list(dict.fromkeys(each for each in found if each.message.replace("<...>", "").strip(" .:;,")))


@cache
def _functions() -> list[Function]:
    """List what each function of the package calls and gives to its names, in the order of its files."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [
        Function(node.name, tuple(each.arg for each in node.args.args), *_called_and_assigned(node))
        for node in functions
    ]


def _kind(call: ast.Call, names: set[str]) -> str | None:
    if isinstance(call.func, ast.Name) and call.func.id in names:
        return call.func.id
    if isinstance(call.func, ast.Attribute) and call.func.attr == "error" and ast.unparse(call.func.value) == "parser":
        return "UsageError"
    return None


def _called_and_assigned(function: ast.FunctionDef) -> tuple[list[ast.Call], dict[str, list[ast.expr]]]:
    """Find calls of a function, and values of its names, so far as they are assigned in it."""
    calls: list[ast.Call] = []
    values: dict[str, list[ast.expr]] = defaultdict(list)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            calls.append(node)
        elif isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                if isinstance(target, ast.Name):
                    values[target.id].append(value)
    return calls, values


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Take ``a, b = 1, 2`` as two assignments."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _texts(node: ast.expr, values: dict[str, list[ast.expr]]) -> list[str]:
    """Texts that an expression may be; nothing where it is None."""
    if isinstance(node, ast.Constant):
        return [] if node.value is None else [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(p.value) if isinstance(p, ast.Constant) else _hole(p) for p in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, values), *_texts(node.orelse, values)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts(value, values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _texts(node.left, values) for b in _texts(node.right, values)]
    if isinstance(node, ast.Name) and node.id in values:
        others = {name: value for name, value in values.items() if name != node.id}
        return [text for value in values[node.id] for text in _texts(value, others)]
    return ["<...>"]


def _hole(value: ast.expr) -> str:
    """Stand for a value that is known only when the error is told."""
    inner = value.value if isinstance(value, ast.FormattedValue) else value
    names = [
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in [inner]
        if isinstance(node, ast.Attribute | ast.Name)
    ]
    return f"<{names[0].strip('_').replace('_', ' ')}>" if names else "<...>"


def findings(_: str) -> str:
    """Every finding that a scan may have: code, weights, and how its sentence is built."""
    weights: dict[str, set[str]] = defaultdict(set)
    sentences: dict[str, list[str]] = defaultdict(list)
    for function in _functions():
        values = function.values
        for call in function.calls:
            is_finding = isinstance(call.func, ast.Name) and call.func.id == "Finding" and len(call.args) >= 3
            if not is_finding or not _weights(call.args[1], values):
                continue
            for name in _texts(call.args[0], values):
                weights[name] |= _weights(call.args[1], values)
                texts = _sentences(call.args[2], call, function)
                sentences[name] += [text for text in texts if text not in sentences[name]]
    return table(
        ["code", "weight", "sentence"],
        [
            (
                code(name),
                " or ".join(sorted(each.lower() for each in weights[name])),
                plain(" / ".join(told).replace("<...>", "...") if told != ["<...>"] else OLDER),
            )
            for name, told in sorted(sentences.items())
            if name != "<...>"
        ],
    )


def _sentences(node: ast.expr, call: ast.Call, function: Function) -> list[str]:
    """Texts of a finding; where it is a parameter of the function, those that the function's callers give."""
    if not (isinstance(node, ast.Name) and node.id in function.parameters):
        return _texts(node, _just_before(call, function.values))
    place = function.parameters.index(node.id)
    given = [
        text
        for caller in _functions()
        for each in caller.calls
        if isinstance(each.func, ast.Name) and each.func.id == function.name and len(each.args) > place
        for text in _sentences(each.args[place], each, caller)
    ]
    return list(dict.fromkeys(given))


def _just_before(call: ast.Call, values: dict[str, list[ast.expr]]) -> dict[str, list[ast.expr]]:
    """Of values that were given to one name after another, the last before a call."""
    before = {name: [each for each in given if each.lineno < call.lineno] for name, given in values.items()}
    return {name: [max(given, key=lambda each: each.lineno)] for name, given in before.items() if given}


def _weights(node: ast.expr, values: dict[str, list[ast.expr]]) -> set[str]:
    """Weights that an expression may be."""
    sources = values.get(node.id, []) if isinstance(node, ast.Name) else [node]
    return {name for source in sources for name in re.findall(r"Weight\.(\w+)", ast.unparse(source))}


def exit_codes(_: str) -> str:
    """Exit codes of the errors, from the classes."""
    by_code: dict[int, list[type[errors.BidsHsfError]]] = defaultdict(list)
    for kind in classes():
        if kind is errors.BidsHsfError or kind.exit_code != kind.__bases__[0].exit_code:  # type: ignore[attr-defined]
            by_code[kind.exit_code].append(kind)
    rows = [
        (
            f"**{number}**",
            " ".join(plain((kind.__doc__ or "").split("\n")[0]) for kind in kinds),
            " ".join(plain(kind.remedy) for kind in kinds),
        )
        for number, kinds in sorted(by_code.items())
    ]
    return table(["code", "what happened", "what to do"], rows)


def messages(_: str) -> str:
    """All messages by class, with what to do."""
    by_kind = defaultdict(list)
    for each in told():
        by_kind[each.kind].append(each)
    parts = []
    for kind in classes():
        summary = (kind.__doc__ or "").split("\n")[0]
        parts.append(f"## {kind.__name__}: exit code {kind.exit_code}\n\n{plain(summary)}\n\n{plain(kind.remedy)}\n")
        if by_kind[kind.__name__]:
            rows = [(plain(each.message), plain(each.hint) or "as above") for each in by_kind[kind.__name__]]
            parts.append(table(["message", "what to do"], rows))
    return "\n".join(parts)


def count(_: str) -> str:
    """How many there are."""
    return f"The program has {len(told())} messages of {sum(1 for _ in classes())} kinds; here is each of them.\n"


MAKERS = {"exit-codes": exit_codes, "messages": messages, "message-count": count, "findings": findings}
