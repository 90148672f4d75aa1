"""The guide for contributors names what is there, and the forms of issues are forms."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
GUIDE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
# From the repository's root, or from the package's.
NAMED = sorted(set(re.findall(r"(?<![\w/.])(?:[\w.-]+/)+[\w.-]+\.(?:def|json|md|py|sh|ya?ml)\b", GUIDE)))


def layers() -> list[str]:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract["type"] == "layers")


def test_the_order_of_the_rooms_is_that_of_the_contract() -> None:
    assert " > ".join(layers()) in GUIDE


def test_every_room_is_on_the_map() -> None:
    package = REPOSITORY / "bids_hsf"
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert set(re.findall(r"^\| `bids_hsf/(\w+)/`", GUIDE, flags=re.MULTILINE)) == rooms
    alone = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert alone <= set(re.findall(r"`(\w+)`", GUIDE))


@pytest.mark.parametrize("path", NAMED)
def test_what_is_named_is_there(path: str) -> None:
    places = (REPOSITORY / path, REPOSITORY / "bids_hsf" / path)
    assert any(place.exists() for place in places)


@pytest.mark.parametrize("name", ["bug", "feature", "model"])
def test_forms_of_issues_have_what_github_asks_for(name: str) -> None:
    form = yaml.safe_load((REPOSITORY / ".github/ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
