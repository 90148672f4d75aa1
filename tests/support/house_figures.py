"""Print the figures of a house by its syntax trees: ``house_figures.py FOLDER ...``, one column a folder.

Without a folder it measures the package. Nothing is imported, so that old states can be measured from anywhere.
"""

import ast
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "bids_hsf"
LONGEST_MODULE, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 45, 6
AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """One function or method.

    Attributes
    ----------
    place : str
        Module and name.
    n_lines : int
        From ``def`` to the last line, without the docstring.
    n_parameters : int
        Without ``self`` and ``cls``.
    public : bool
        Whether neither it nor its module begins with an underscore, and it lies in no other function.
    documented, typed : bool
        Whether it has a docstring; whether all parameters and what it returns are annotated.
    """

    place: str
    n_lines: int
    n_parameters: int
    public: bool
    documented: bool
    typed: bool


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes
    ----------
    name : str
        Path from the folder.
    n_lines : int
    functions : tuple of Function
    n_splatted : int
        Calls with a literal behind the star: ``f(*(a, b))``.
    n_unformatted : int
        Lines that are kept from the formatter.
    """

    name: str
    n_lines: int
    functions: tuple[Function, ...]
    n_splatted: int
    n_unformatted: int


def read_modules(folder: Path) -> list[Module]:
    """Read all modules below a folder."""
    return [read_module(path, path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.py"))]


def read_module(path: Path, name: str) -> Module:
    """Read one module."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    splatted = (
        any(isinstance(word, ast.Starred) and isinstance(word.value, ast.Tuple | ast.List) for word in node.args)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    )
    with path.open("rb") as stream:
        comments = [token.string for token in tokenize.tokenize(stream.readline) if token.type == tokenize.COMMENT]
    n_unformatted = sum(comment.startswith(("# fmt: skip", "# fmt: off")) for comment in comments)
    return Module(name, len(text.splitlines()), tuple(_functions(tree, name)), sum(splatted), n_unformatted)


def _functions(tree: ast.AST, place: str, inside: bool = False) -> Iterator[Function]:
    for node in ast.iter_child_nodes(tree):
        name = f"{place}:{node.name}" if isinstance(node, AnyFunction | ast.ClassDef) else place
        if isinstance(node, AnyFunction):
            yield _describe(node, name, inside)
        yield from _functions(node, name, inside or isinstance(node, AnyFunction))


def _describe(node: AnyFunction, place: str, inside: bool) -> Function:
    names = node.args
    parameters = [*names.posonlyargs, *names.args, *names.kwonlyargs]
    parameters += [each for each in (names.vararg, names.kwarg) if each]
    parameters = [each for each in parameters if each.arg not in ("self", "cls")]
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    n_lines = _height(node) - (_height(docstring) if docstring else 0)
    private = any(part.startswith("_") and not part.endswith("__.py") for part in place.replace("/", ":").split(":"))
    typed = node.returns is not None and all(each.annotation is not None for each in parameters)
    return Function(place, n_lines, len(parameters), not inside and not private, docstring is not None, typed)


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def figures(modules: Sequence[Module]) -> dict[str, str]:
    """Figures of all modules together, by what they count, as text."""
    functions = [function for module in modules for function in module.functions]
    lengths = sorted(function.n_lines for function in functions) or [0]
    public = [function for function in functions if function.public]
    return {
        "modules": f"{len(modules)}",
        "lines": f"{sum(module.n_lines for module in modules):,}",
        f"modules over {LONGEST_MODULE} lines": f"{len(long_modules(modules))}",
        "functions": f"{len(functions):,}",
        "lines a function, median": f"{statistics.median(lengths):g}",
        "lines a function, 95th percentile": f"{lengths[int(0.95 * (len(lengths) - 1))]}",
        "lines a function, most": f"{lengths[-1]}",
        f"functions over {LONGEST_FUNCTION} lines": f"{len(long_functions(modules))}",
        "parameters, most": f"{max((function.n_parameters for function in functions), default=0)}",
        f"functions over {MOST_PARAMETERS} parameters": f"{sum(f.n_parameters > MOST_PARAMETERS for f in functions)}",
        "public functions with a docstring": _share([function.documented for function in public]),
        "functions with a docstring": _share([function.documented for function in functions]),
        "functions typed throughout": _share([function.typed for function in functions]),
        "calls with a splatted literal": f"{sum(module.n_splatted for module in modules)}",
        "lines kept from the formatter": f"{sum(module.n_unformatted for module in modules)}",
    }


def _share(truths: Sequence[bool]) -> str:
    return f"{100 * sum(truths) / len(truths):.1f} %" if truths else "none"


def long_modules(modules: Sequence[Module]) -> list[str]:
    """Modules over the limit, each with its lines."""
    return [f"{module.name} ({module.n_lines})" for module in modules if module.n_lines > LONGEST_MODULE]


def long_functions(modules: Sequence[Module]) -> list[str]:
    """Functions over the limit, each with its lines."""
    functions = (function for module in modules for function in module.functions)
    return [f"{each.place} ({each.n_lines})" for each in functions if each.n_lines > LONGEST_FUNCTION]


def main(folders: Sequence[str]) -> None:
    """Print a table with one column a folder, and by name what is over a limit."""
    houses = [read_modules(Path(folder)) for folder in folders or [str(PACKAGE)]]
    columns = [figures(modules) for modules in houses]
    for name in columns[0]:
        print(f"{name:<36}" + "".join(f"{column[name]:>12}" for column in columns))
    for folder, modules in zip(folders or [PACKAGE.name], houses, strict=True):
        over = [*long_modules(modules), *long_functions(modules)]
        if over:
            print(f"\nOver a limit in {folder}:", *over, sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
