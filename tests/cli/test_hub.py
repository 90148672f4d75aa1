import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from local_server import LocalServer, serving
from served_cards import write_hsf_twins
from twins import write_custom_operator_twin, write_external_data_twin, write_twin

from bids_hsf import files
from bids_hsf.cli import hub
from bids_hsf.cli.first_words import HUB_COMMANDS
from bids_hsf.hub import download, models
from bids_hsf.hub.cards import load_cards
from bids_hsf.hub.models import packaged_hub_dir
from bids_hsf.results import variant_name

GUIDE = packaged_hub_dir() / "README.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(models.HUB_VARIABLE, raising=False)
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(models.HTTP_VARIABLE, "1")
    monkeypatch.setattr(download, "BACK_OFF_S", 0.01)


@pytest.fixture
def server(tmp_path: Path):
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        yield server


def write_lab_card(server: LocalServer, folder: Path, network: Path, **changes: str) -> Path:
    """The guide's card for a network that the server has."""
    text = guide_blocks("yaml")[0].replace("https://models.example.org", server.url)
    text = text.replace("mylab_1.0.0.onnx", network.name)
    text = with_checksums(text, {"size": network.stat().st_size, **files.checksums(network)})
    for old, new in changes.items():
        text = re.sub(rf"^{old}: .*$", f"{old}: {new}", text, flags=re.MULTILINE)
    path = folder / "mylab.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def with_checksums(card: str, values: dict[str, object]) -> str:
    for key, value in values.items():
        card = re.sub(rf"( {key}: )\w+", rf"\g<1>{value}", card)
    return card


def guide_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def write_crops(folder: Path, names: tuple[str, ...] = ("a", "b"), voxel_mm: float = 1.0) -> tuple[Path, Path]:
    """Crops in which each label has its own intensity, so that a twin finds them; labels beside them."""
    rng = np.random.default_rng(0)
    images, labels = folder / "crops", folder / "labels"
    for path in (images, labels):
        path.mkdir()
    for name in names:
        truth = np.zeros((32, 40, 32), np.uint8)
        truth[8:24, 8:16, 8:24], truth[8:24, 16:24, 8:24], truth[8:24, 24:32, 8:24] = 1, 2, 3
        image = (100.0 * truth + rng.normal(0, 2, truth.shape)).astype(np.float32)
        affine = np.diag([-voxel_mm, voxel_mm, voxel_mm, 1.0])
        nib.save(nib.Nifti1Image(image, affine), images / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(truth, affine), labels / f"{name}.nii.gz")
    return images, labels


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0):
    capsys.readouterr()
    assert hub.main([*arguments, "--json"]) == expect
    return json.loads(capsys.readouterr().out)


def test_help_is_instant() -> None:
    code = "import sys; from bids_hsf.cli.hub import build_parser; build_parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "yaml", "pydantic", "requests", "onnxruntime", "nibabel", "torch"} & set(done.stdout.split())


def test_list_shows_every_model_and_what_is_here(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    card = write_hsf_twins(server, tmp_path / "hub")
    assert hub.main(["fetch", f"{card}:single_fast"]) == 0
    rows = {row["model"]: row for row in run_json(capsys, "list", "--hub-dir", str(card.parent))["models"]}
    assert rows["single_accurate"]["here"] == "yes"
    assert rows["bagging_accurate"]["here"] == "no"
    assert rows["bagging_accurate"]["passes"] == 40
    assert rows["longaxis_single_fast"]["voxels"] == "1 mm"
    assert hub.main(["list"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^bagging_accurate +DG,CA1,CA2,CA3,SUB +T1w,T2w +native +40 +\? +no +MIT", text, re.MULTILINE)


@pytest.mark.parametrize(("feature", "model"), [("AVX512-VNNI", "bagging_sq"), (None, "bagging_accurate")])
def test_list_recommends_int8_where_the_cpu_has_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, feature: str | None, model: str
) -> None:
    monkeypatch.setattr("bids_hsf.machine.int8_feature", lambda: feature)
    rows = run_json(capsys, "list")["models"]
    recommended = {row["model"] for row in rows if row["recommended"]}
    assert {"bagging_sq", "bagging_accurate"} & recommended == {model}


def test_list_tells_default_accuracy_and_why_one_is_recommended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bids_hsf.machine.int8_feature", lambda: "AVX512-VNNI")
    monkeypatch.setattr("bids_hsf.machine.find_gpus", lambda: ())
    rows = {row["model"]: row for row in run_json(capsys, "list")["models"]}
    assert [name for name, row in rows.items() if row["default"]] == ["bagging_accurate"]
    assert {name for name, row in rows.items() if row["why"]} == {"bagging_sq", "subfields_single_accurate"}
    assert "AVX512-VNNI" in rows["bagging_sq"]["why"]
    assert rows["subfields_single_fast"]["accuracy"].startswith("whole 0.9")
    assert rows["bagging_sq"]["accuracy"] == "not measured here (needs the download)"
    assert hub.main(["list"]) == 0
    text = capsys.readouterr().out
    for head in ("contrasts", "MB", "cached", "licence", "measured Dice", "time a scan", "note"):
        assert head in text.splitlines()[0]
    assert "Recommended here: subfields_single_accurate: " in text
    monkeypatch.setattr("bids_hsf.machine.find_gpus", lambda: ("NVIDIA",))
    rows = {row["model"]: row for row in run_json(capsys, "list")["models"]}
    assert "GPU" in rows["bagging_accurate"]["why"]


def test_new_begins_a_card_that_runs_and_says_what_is_left(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    network = write_twin(tmp_path / "my lab_2.1.0.onnx", n_classes=4, output="logits")
    answer = run_json(capsys, "new", str(network))
    card = load_cards(tmp_path / "my lab_2.1.0.yaml")[0]
    assert (card.name, card.version, card.output, card.pad_multiple) == ("mylab_fast", "2.1.0", "logits", 1)
    assert [label.abbreviation for label in card.labels] == ["L1", "L2", "L3"]
    assert len({label.color for label in card.labels}) == 3
    assert "license" in answer["open_fields"]
    trial = run_json(capsys, "validate", answer["card"], "--device", "cpu", expect=69)
    failed = [finding for finding in trial["findings"] if not finding["passed"]]
    assert [(finding["step"], finding["detail"]) for finding in failed] == [
        ("card", "still to be filled in: authors, citation, description, labels, license, training_data")
    ]
    path = Path(answer["card"])
    path.write_text(path.read_text().replace("FILL IN", "done"))
    assert hub.main(["validate", str(path), "--device", "cpu"]) == 0
    assert hub.main(["new", str(network)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert hub.main(["new", str(tmp_path / "none.onnx")]) == 66
    scan = tmp_path / "scan.onnx"
    scan.write_bytes(bytes(400))
    capsys.readouterr()
    assert hub.main(["new", str(scan)]) == 69
    assert "hint: Expected a network, as torch.onnx.export writes it." in capsys.readouterr().err
    assert not scan.with_suffix(".yaml").exists()
    assert hub.main(["validate", "mylab"]) == 66
    assert "`hsf-hub verify NAME` checks" in capsys.readouterr().err


def test_validate_of_an_address_that_fails_speaks_of_the_address(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    network = write_twin(server.folder / "gone.onnx", n_classes=4)
    card = write_lab_card(server, tmp_path, network)
    network.unlink()
    trial = run_json(capsys, "validate", str(card), "--device", "cpu", expect=69)
    detail = next(finding["detail"] for finding in trial["findings"] if not finding["passed"])
    assert f"{server.url}/gone.onnx" in detail
    assert "404" in detail
    assert f"If the card is yours, correct the url in {card}" in detail
    assert "subfields" not in detail
    assert "longaxis" not in detail


@pytest.mark.parametrize(("words", "meant"), [("lst", "list"), ("evalute", "evaluate"), ("list --jsn", "--json")])
def test_mistyped_commands_and_flags_are_told_which_is_near(
    capsys: pytest.CaptureFixture[str], words: str, meant: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        hub.main(words.split())
    assert caught.value.code == 2
    assert f"hint: Did you mean {meant}?" in capsys.readouterr().err


def test_without_a_command_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        hub.main([])
    assert left.value.code == 2
    assert "hint: hsf-hub COMMAND, one of list, show, fetch, verify, new, " in capsys.readouterr().err


def test_flag_that_is_not_known_is_told_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        hub.main(["--hlep"])
    assert caught.value.code == 2
    assert "Did you mean --help?" in capsys.readouterr().err


def test_commands_typed_to_the_other_program_are_those_of_this_one() -> None:
    (commands,) = [each for each in hub.build_parser()._actions if isinstance(each, argparse._SubParsersAction)]
    assert tuple(commands.choices) == HUB_COMMANDS


def test_show_tells_the_card_and_where_the_files_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = run_json(capsys, "show", "bagging_accurate")
    assert shown["members"][0]["problem"] == "missing"
    assert shown["members"][0]["path"].startswith(str(tmp_path / "cache"))
    assert hub.main(["show", "bagging_accurate"]) == 0
    text = capsys.readouterr().out
    assert "label 2: CA1 (Cornu Ammonis 1, #2ca02c)" in text
    assert "ca-mode 1/23: DG, CA1, CA23, SUB" in text
    assert "voxel_size_mm: native" in text
    assert "accuracy: not stated" in text
    assert "__" not in text  # names that are Python's alone


def test_fetch_into_a_folder_and_verify(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, dest = write_hsf_twins(server, tmp_path / "hub"), tmp_path / "image" / "models"
    fetched = run_json(capsys, "fetch", "--all", "--hub-dir", str(card.parent), "--dest", str(dest))["models"]
    assert len(fetched) >= 12
    n_files = len(list(server.folder.glob("*.onnx")))
    assert len(list(dest.rglob("*.onnx"))) == n_files == server.requests.total()
    monkeypatch.setenv(models.CACHE_VARIABLE, str(dest))
    assert hub.main(["verify", f"{card}:bagging_accurate"]) == 0
    damaged = next(dest.rglob("*b3_*.onnx"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    rows = run_json(capsys, "verify", "--hub-dir", str(card.parent), expect=69)["files"]
    assert {row["file"] for row in rows if row["problem"]} == {str(damaged)}
    assert hub.main(["verify", f"{card}:bagging_accurate", "--dest", str(tmp_path / "empty")]) == 69


def test_fetch_without_network_says_what_helps(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_hsf_twins(server, tmp_path / "hub")
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("who is not there is not asked again"))
    told = run_json(capsys, "fetch", "--all", "--hub-dir", str(card.parent), expect=69)["models"]
    assert {each["model"] for each in told if each["error"] is None} == {
        each.name
        for each in models.list_cards()
        if each.family != "hsf"  # packaged ones are here
    }
    assert sum(each["error"] == "not tried: no connection" for each in told) >= 9
    assert hub.main(["fetch", f"{card}:bagging_accurate"]) == 69
    error = capsys.readouterr().err
    for part in ("error: ", "hint: ", "arunet_4.0.0b0_1706633574.onnx", server.url, str(tmp_path / "cache"),
                 f"hsf-hub fetch {card}:bagging_accurate"):  # fmt: skip
        assert part in error


def test_errors_have_their_exit_code_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = run_json(capsys, "show", "nothing_like_it", expect=69)
    assert answer["exit_code"] == 69
    assert "no model is called 'nothing_like_it'" in answer["error"]
    assert hub.main(["fetch"]) == 2
    assert hub.main(["checksum", str(tmp_path / "none.onnx")]) == 66
    with pytest.raises(SystemExit) as caught:
        hub.main(["no-such-command"])
    assert caught.value.code == 2


def test_validate_passes_a_good_card(capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path) -> None:
    network = write_twin(server.folder / "good.onnx", n_classes=4, input_name="whatever")
    card = write_lab_card(server, tmp_path, network)
    trial = run_json(capsys, "validate", str(card), "--device", "cpu")
    steps = [(finding["model"], finding["step"]) for finding in trial["findings"]]
    assert steps == [
        ("", "card"),
        *(("mylab_fast", step) for step in ("files", "load", "probabilities", "flip", "time")),
        ("mylab_accurate", "files"),
    ]
    details = {finding["step"]: finding["detail"] for finding in trial["findings"]}
    assert details["load"].startswith("whatever [batch, 1, x, y, z] -> segmented_hippocampus [batch, 4, x, y, z]")
    assert details["flip"].startswith("100.0% of voxels")
    assert trial["table_line"].startswith("| mylab_fast | head, body, tail | T1w | native | 1 x 1 | ")


@pytest.mark.parametrize(
    ("kind", "step", "message"),
    [
        ("garbage", "load", "not an ONNX file"),
        ("channels", "load", "4 channels"),
        ("logits", "probabilities", "write `output: logits`"),
        ("external", "load", "external data"),
        ("custom", "load", "com.stranger::Steal"),
        ("typo", "card", "line 8: expected zscore, got 'zscor'"),
        ("checksum", "files", "expected"),
    ],
)
def test_validate_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path, kind: str, step: str, message: str
) -> None:
    path = server.folder / "bad.onnx"
    if kind == "garbage":
        path.write_bytes(b"no network at all")
    elif kind == "external":
        write_external_data_twin(path, "../../etc/passwd")
    elif kind == "custom":
        write_custom_operator_twin(path)
    else:
        write_twin(
            path, n_classes=3 if kind == "channels" else 4, output="logits" if kind == "logits" else "probabilities"
        )
    card = write_lab_card(server, tmp_path, path, **({"normalization": "zscor"} if kind == "typo" else {}))
    if kind == "checksum":
        path.write_bytes(path.read_bytes() + b" ")
    trial = run_json(capsys, "validate", str(card), "--device", "cpu", expect=69)
    failed = [finding for finding in trial["findings"] if not finding["passed"]]
    assert failed[0]["step"] == step
    assert message in failed[0]["detail"]
    assert trial["table_line"] == ""


def test_hsf_cards_with_twins_pass_validation(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    card = write_hsf_twins(server, tmp_path / "hub")
    trial = run_json(capsys, "validate", str(card), "--device", "cpu")
    assert all(finding["passed"] for finding in trial["findings"])
    assert len(trial["table_line"].splitlines()) == 10


def test_evaluate_writes_rows_and_means(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    images, labels = write_crops(tmp_path)
    card = write_lab_card(server, tmp_path, z_scored_twin(server.folder / "net.onnx", images / "a.nii.gz"))
    output = tmp_path / "scores.tsv"
    arguments = [f"{card}:mylab_fast", "--images", str(images), "--labels", str(labels), "--device", "cpu"]
    answer = run_json(capsys, "evaluate", *arguments, "--output", str(output))
    rows = list(csv.DictReader(output.read_text().splitlines(), delimiter="\t"))
    assert list(rows[0]) == ["case", "label", "dice", "hd95_mm", "volume_similarity"]
    assert [(row["case"], row["label"]) for row in rows] == [
        (case, label) for case in "ab" for label in ("head", "body", "tail", "whole")
    ]
    assert all(row["dice"] == "1.0000" and row["hd95_mm"] == "0.0000" for row in rows)
    means = {(mean["label"], mean["measure"]): mean for mean in answer["means"]}
    assert means["whole", "dice"] == {
        "label": "whole", "measure": "dice", "n": 2, "mean": 1.0, "sd": 0.0, "standard_error": 0.0
    }  # fmt: skip
    assert hub.main(["evaluate", *arguments]) == 0
    text = capsys.readouterr().out
    assert text.startswith("case\tlabel\tdice\thd95_mm\tvolume_similarity\na\thead\t1.0000")
    assert re.search(r"^whole +dice +2 +1\.0000 +0\.0000 +0\.0000$", text, re.MULTILINE)


def test_evaluate_resamples_to_the_voxels_of_the_card(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    images, labels = write_crops(tmp_path, ("a",), voxel_mm=0.8)
    network = z_scored_twin(server.folder / "net.onnx", images / "a.nii.gz")
    card = write_lab_card(server, tmp_path, network, voxel_size_mm="1.0")
    arguments = [f"{card}:mylab_fast", "--images", str(images), "--labels", str(labels), "--device", "cpu"]
    whole = run_json(capsys, "evaluate", *arguments)["cases"][-1]
    assert 0.9 < whole["dice"] < 1
    assert 0 < whole["hd95_mm"] <= 0.8 * 3**0.5


def test_evaluate_goes_on_after_a_bad_case(
    capsys: pytest.CaptureFixture[str], server: LocalServer, tmp_path: Path
) -> None:
    images, labels = write_crops(tmp_path, ("a", "b", "c"))
    card = write_lab_card(server, tmp_path, z_scored_twin(server.folder / "net.onnx", images / "a.nii.gz"))
    (images / "b.nii.gz").write_bytes(b"no image")
    image = nib.load(labels / "c.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.uint8(100), image.affine), labels / "c.nii.gz")
    arguments = [f"{card}:mylab_fast", "--images", str(images), "--labels", str(labels), "--device", "cpu"]
    answer = run_json(capsys, "evaluate", *arguments, expect=1)
    assert {score["case"] for score in answer["cases"]} == {"a"}
    assert set(answer["failures"]) == {"b", "c"}
    assert "[100, 101, 102, 103]" in answer["failures"]["c"]
    assert hub.main(["evaluate", *arguments[:2], str(tmp_path), *arguments[3:]]) == 66


def z_scored_twin(path: Path, image_path: Path) -> Path:
    """A twin whose class centres are the four intensities 0, 100, 200, 300 of `write_crops`, z-scored."""
    data = np.asarray(nib.load(image_path).dataobj)
    low, high = ((value - data.mean()) / data.std(ddof=1) for value in (0, 300))
    return write_twin(path, n_classes=4, middle=np.linspace(low, high, 4), sharpness=20)


@pytest.mark.parametrize("with_scans", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_third_party_follows_the_guide_word_for_word(server: LocalServer, tmp_path: Path, with_scans: bool) -> None:
    place = tmp_path / "place"
    place.mkdir()
    images, _ = write_crops(place)
    network = z_scored_twin(place / "mylab_1.0.0.onnx", images / "a.nii.gz")
    shutil.copy(network, server.folder)
    study = place / "study"
    shutil.copytree(Path(__file__).parents[1] / "data" / "bids", study, ignore=shutil.ignore_patterns("sub-icbm152"))
    commands = [line for block in guide_blocks("sh") for line in block.splitlines()]
    assert [command.split()[:2] for command in commands] == [
        *(["hsf-hub", name] for name in ("new", "checksum", "validate", "list", "fetch", "verify", "show", "evaluate")),
        ["bids-hsf", "study"],
        ["bids-hsf", "study"],
    ]
    assert "Then: hsf-hub validate mylab.yaml" in follow(commands[0], place)
    shown = follow(commands[1], place)
    values = dict(re.findall(r'^(size|sha256|xxh3_64): "?(\w+)"?$', shown, re.MULTILINE))
    assert len(values) == 3
    card = with_checksums(guide_blocks("yaml")[0], values)
    # The one liberty taken: the guide's host does not exist.
    (place / "mylab.yaml").write_text(card.replace("https://models.example.org", server.url), encoding="utf-8")
    said = {command: follow(command, place) for command in commands[2 : None if with_scans else -2]}
    assert (
        "For the pull request:\n| mylab_fast | head, body, tail | T1w | native" in said["hsf-hub validate mylab.yaml"]
    )
    assert "mylab_accurate" in said["hsf-hub list --hub-dir ."]
    scores = list(csv.DictReader((place / "scores.tsv").read_text().splitlines(), delimiter="\t"))
    assert len(scores) == 8
    assert all(float(row["dice"]) > 0.8 for row in scores)
    assert server.requests.total() == 1
    for folder, name in (("derivatives", "mylabFast"), ("derivatives-whole", "mylabFastHippocampus")):
        assert len(list((place / folder).rglob(f"sub-*_seg-{name}_dseg.nii.gz"))) == with_scans


def follow(command: str, place: Path) -> str:
    """Run a line of the guide in a shell, with the commands of this source tree on the path."""
    scripts = place / ".bin"
    if not scripts.exists():
        scripts.mkdir()
        for name, module in (("hsf-hub", "bids_hsf.cli.hub"), ("bids-hsf", "bids_hsf")):
            (scripts / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (scripts / name).chmod(0o755)
    root = str(Path(hub.__file__).parents[2])
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": root}
    done = subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_download_cleanly(server: LocalServer, tmp_path: Path, number: signal.Signals, code: int) -> None:
    card = write_lab_card(server, tmp_path, write_twin(server.folder / "twin.onnx", n_classes=4))
    server.misbehave("/twin.onnx", "stall", "ok")
    cache, model = tmp_path / "cache", f"{card}:mylab_fast"
    command = [sys.executable, "-m", "bids_hsf.cli.hub", "fetch", model]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not server.requests["/twin.onnx"] and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert [path for path in cache.rglob(".*") if files.TEMPORARY_NAME.fullmatch(path.name)]
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert server.requests["/twin.onnx"] == 1, said
    assert process.returncode == code
    assert said == ("error: Stopped by a signal\nhint: Nothing half-written was left; run the same command again.\n")
    assert [path.name for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []
    assert hub.main(["fetch", model]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ca_mode", "suffix", "abbreviations"),
    [
        ("1/2/3", "", {"DG", "CA1", "CA2", "CA3", "SUB"}),
        ("1/23", "CA23", {"DG", "CA1", "CA23", "SUB"}),
        ("123", "CA123", {"DG", "CA123", "SUB"}),
        ("whole", "Hippocampus", {"hippocampus"}),
    ],
)
@pytest.mark.parametrize("model", ["bagging_fast", "single_sq"])
def test_hsf_twins_run_end_to_end(
    server: LocalServer, tmp_path: Path, model: str, ca_mode: str, suffix: str, abbreviations: set[str]
) -> None:
    from bids_hsf.cli import app

    card = write_hsf_twins(server, tmp_path / "hub")
    study = tmp_path / "study"
    shutil.copytree(Path(__file__).parents[1] / "data" / "bids", study, ignore=shutil.ignore_patterns("sub-icbm152"))
    arguments = [str(study), str(tmp_path / "out"), "participant", "--skip-bids-validation", "--device", "cpu"]
    model_arguments = ["--hub-dir", str(card.parent), "--model", model, "--tta", "1", "--ca-mode", ca_mode]
    assert app.main([*arguments, *model_arguments]) == 0
    tables = list((tmp_path / "out").rglob(f"*_seg-{variant_name('hsf', model)}{suffix}_dseg.tsv"))
    assert len(tables) == 1
    rows = list(csv.DictReader(tables[0].read_text().splitlines(), delimiter="\t"))
    assert {row["abbreviation"].removeprefix("L_").removeprefix("R_") for row in rows} == abbreviations
