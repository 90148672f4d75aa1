"""What images and registries are made from agrees with the package."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from bids_hsf import __version__
from bids_hsf.cli.arguments import build_parser

REPOSITORY = Path(__file__).parents[1]
DOCKER = REPOSITORY / "docker"
LOCKS = sorted(DOCKER.glob("*.lock"))
DESCRIPTOR = json.loads((REPOSITORY / "bids_hsf/data/bids_hsf.boutiques.json").read_text())
# Flags that Boutiques has no use for.
NOT_IN_DESCRIPTOR = {"help", "version", "bids_exec_spec", "print_completion", "low_mem", "debug", "habits"}


def pins(*paths):
    found = (re.match(r"([\w.-]+)==([^\s;]+)", line) for path in paths for line in path.read_text().splitlines())
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def dependencies():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


@pytest.mark.parametrize("runtime", ["openvino", "cpu"])
def test_locks_hold_every_dependency_in_a_version_that_it_allows(runtime):
    # docker/lock.sh renews the locks.
    locked = pins(DOCKER / "requirements.lock", DOCKER / "torch.lock", DOCKER / f"onnxruntime-{runtime}.lock")
    machine = {"openvino": "x86_64", "cpu": "aarch64"}[runtime]
    environment = {"platform_machine": machine, "sys_platform": "linux", "python_version": "3.11"}
    wanted = [each for each in dependencies() if each.marker is None or each.marker.evaluate(environment)]
    missing = [str(each) for each in wanted if canonicalize_name(each.name) not in locked]
    assert not missing
    outside = [str(each) for each in wanted if locked[canonicalize_name(each.name)] not in each.specifier]
    assert not outside


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_locked_packages_have_checksums_and_no_index(path):
    text = path.read_text()
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


def test_locked_versions_are_those_of_the_constraints():
    constraints = pins(REPOSITORY / "constraints.txt")
    locked = pins(*[path for path in LOCKS if "cpu" not in path.name and "cuda" not in path.name])
    assert {name: locked[name] for name in constraints.keys() & locked.keys()} == {
        name: version for name, version in constraints.items() if name in locked
    }


def test_groups_bring_no_second_build_of_onnx_runtime():
    """Two builds in one environment overwrite each other: a group has to ask for that of the package."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wanted = {each for each in project["project"]["dependencies"] if each.startswith("onnxruntime")}
    groups = [*project["dependency-groups"].values(), *project["project"]["optional-dependencies"].values()]
    for group in groups:
        builds = {each for each in group if each.startswith("onnxruntime")}
        assert builds in (set(), wanted)


def test_descriptor_and_bundles_have_the_version_of_the_package():
    assert DESCRIPTOR["tool-version"] == __version__
    assert DESCRIPTOR["container-image"]["image"].endswith(f":{__version__}")
    assert json.loads((DOCKER / "nipoppy/config.json").read_text())["VERSION"] == __version__
    babs = yaml.safe_load((DOCKER / "babs/bids_hsf.yaml").read_text())
    assert list(babs["zip_foldernames"].values()) == [__version__.replace(".", "-")]


def test_descriptor_has_every_flag_of_the_command_line_and_no_other():
    known = {
        action.dest: action.option_strings
        for action in build_parser()._actions
        if action.option_strings and action.dest not in NOT_IN_DESCRIPTOR
    }
    described = {each["command-line-flag"] for each in DESCRIPTOR["inputs"] if "command-line-flag" in each}
    assert not [flag for flag in described if not any(flag in names for names in known.values())]
    assert not [names for names in known.values() if not described.intersection(names)]


def test_descriptor_places_every_input_on_the_command_line_once():
    line = DESCRIPTOR["command-line"].split()
    assert line[0] == "bids-hsf"
    assert sorted(line[1:]) == sorted(each["value-key"] for each in DESCRIPTOR["inputs"])


def test_definition_files_share_what_runs_in_the_image():
    sections = [
        dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", path.read_text(), flags=re.MULTILINE | re.DOTALL))
        for path in sorted((REPOSITORY / "singularity").glob("*.def"))
    ]
    assert len(sections) == 2
    for name in ("runscript", "test"):
        assert sections[0][name].split() == sections[1][name].split()


def test_no_two_entries_of_the_descriptor_share_an_id():
    # Boutiques wants ids unique over inputs and outputs together; its validator runs in the container checks alone.
    ids = [each["id"] for part in ("inputs", "output-files", "groups") for each in DESCRIPTOR.get(part, [])]
    assert sorted(ids) == sorted(set(ids))


def test_citation_zenodo_and_recipe_tell_what_the_package_tells():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    zenodo = json.loads((REPOSITORY / ".zenodo.json").read_text())
    assert citation["version"] == __version__
    assert citation["title"] == zenodo["title"]
    assert citation["license"] == zenodo["license"] == project["license"]
    names = [each.get("name") or f"{each['given-names']} {each['family-names']}" for each in citation["authors"]]
    assert sorted(names) == sorted(author["name"] for author in project["authors"])
    creators = [" ".join(reversed(each["name"].split(", "))) for each in zenodo["creators"]]
    assert creators == names
    assert citation["repository-code"] == project["urls"]["Source"]
    assert citation["url"] == project["urls"]["Documentation"]


PACKAGED = ("cobralab", "longaxis", "subfields")  # families whose weights are in the package
# What conda-forge calls otherwise than PyPI, or has one package for several.
CONDA_NAMES = {"xxhash": "python-xxhash", "onnxruntime-openvino": "onnxruntime"}


def test_conda_recipe_has_the_dependencies_and_the_programs_of_the_package():
    lines = (REPOSITORY / "recipe/meta.yaml").read_text().splitlines()
    values = dict(re.findall(r'{% set (\w+) = "([^"]+)" %}', "\n".join(lines)))
    text = "\n".join(line for line in lines if not line.startswith("{%"))
    recipe = yaml.safe_load(re.sub(r"{{ (\w+) }}", lambda match: values.get(match[1], match[1]), text))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert recipe["package"] == {"name": project["name"], "version": __version__}
    run = {line.partition(" ")[0]: line.partition(" ")[2] for line in recipe["requirements"]["run"]}
    assert run.pop("python") == project["requires-python"]
    assert run.pop("__linux") == ""
    wanted = {CONDA_NAMES.get(each.name, each.name): each for each in dependencies()}
    assert run.keys() == wanted.keys()
    own = {name: each.specifier for name, each in wanted.items() if name != "onnxruntime"}
    assert {name: SpecifierSet(run[name]) for name in own} == own
    assert dict(line.split(" = ") for line in recipe["build"]["entry_points"]) == project["scripts"]
    assert recipe["about"]["license_file"] == project["license-files"]
    assert all((REPOSITORY / name).is_file() for name in project["license-files"])
    # What is packaged beside the code has licences of its own.
    weights = {yaml.safe_load((REPOSITORY / f"models_hub/{name}.yaml").read_text())["license"] for name in PACKAGED}
    assert {project["license"], *weights} <= set(recipe["about"]["license"].split(" AND "))
    assert "pip check" not in recipe["test"]["commands"]  # it would ask for onnxruntime-openvino


def test_every_action_is_named_by_the_digest_of_a_release_with_its_tag_beside_it():
    # A tag can be moved to other code, which would run with our tokens.
    workflows = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
    used = [match[1] for path in workflows for match in re.finditer(r"uses: *(.*)", path.read_text())]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
