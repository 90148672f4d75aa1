"""The figures of the house are counted as they are told."""

from pathlib import Path

import pytest
from house_figures import PACKAGE, figures, long_functions, long_modules, main, read_modules

SOURCE = '''"""A module."""

class Box:
    """A box."""

    def _inner(self, a: int) -> int:
        return a

    def outer(self, a, *rest, key=1, **more):
        """Say what it does.

        At length.
        """
        def within() -> None:
            pass
        return print(*(a, key), *rest)


def plain() -> str:
    text = "# fmt: skip"
    return text  # fmt: skip
'''


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    (tmp_path / "room/module.py").write_text(SOURCE)
    (tmp_path / "long.py").write_text("def long():\n" + "    pass\n" * 450)
    return tmp_path


def test_figures_of_a_small_house(house: Path) -> None:
    modules = read_modules(house)
    assert [module.name for module in modules] == ["long.py", "room/module.py"]
    functions = {function.place: function for function in modules[1].functions}
    assert [*functions] == [
        "room/module.py:Box:_inner",
        "room/module.py:Box:outer",
        "room/module.py:Box:outer:within",
        "room/module.py:plain",
    ]
    outer = functions["room/module.py:Box:outer"]
    assert (outer.n_lines, outer.n_parameters) == (4, 4)
    assert (outer.public, outer.documented, outer.typed) == (True, True, False)
    assert [function.public for function in functions.values()] == [False, True, False, True]
    assert long_modules(modules) == ["long.py (451)"]
    assert long_functions(modules) == ["long.py:long (451)"]
    found = figures(modules)
    assert found["functions"] == "5"
    assert found["lines a function, median"] == "3"
    assert found["parameters, most"] == "4"
    assert found["public functions with a docstring"] == "33.3 %"
    assert found["functions typed throughout"] == "60.0 %"
    assert found["calls with a splatted literal"] == "1"
    assert found["lines kept from the formatter"] == "1"


def test_a_column_is_printed_a_folder(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(house), str(house / "room")])
    told = capsys.readouterr().out
    assert next(line.split() for line in told.splitlines()) == ["modules", "2", "1"]
    assert f"Over a limit in {house}:\n  long.py (451)\n  long.py:long (451)\n" in told


def test_every_public_function_of_the_package_is_typed_and_has_a_docstring() -> None:
    found = figures(read_modules(PACKAGE))
    assert found["functions typed throughout"] == "100.0 %"
    assert found["public functions with a docstring"] == "100.0 %"
    assert long_functions(read_modules(PACKAGE)) == []
