"""What a run tells: before it begins, and when all is done."""

import json
import re
from pathlib import Path

import pytest
from fast_app import write_card, write_dataset, write_head
from toy_runs import Place, run_here

from bids_hsf.bids import validation
from bids_hsf.hub.models import find_card
from bids_hsf.runs import announcements
from bids_hsf.runs.config import Config, Resources


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two heads that have been segmented, with transforms."""
    root = tmp_path_factory.mktemp("place")
    place = Place(write_dataset(root / "bids", 2), write_card(root / "hub"), root / "out")
    done = place.run(place.reference, "participant", "--write-xfm", "-v")
    assert done.returncode == 0, done.stderr
    (root / "said").write_text(done.stderr)
    return place


def test_the_end_tells_where_all_is_and_what_is_next(place: Place) -> None:
    said = (place.reference.parent / "said").read_text()
    out = place.reference
    assert f"2 reports: {out}/sub-*.html" in said
    assert f"2 tables of volumes: {out}/sub-*/**/*_dseg.tsv" in said
    log = re.search(r"Log: (\S+)", said)
    assert log is not None
    assert Path(log[1]).is_file()
    assert len(list(out.glob("sub-*/**/*_dseg.tsv"))) == len(list(out.glob("sub-*.html"))) == 2
    # What a toy finds in noise is odd: in the words of the sidecar, and once more in the end.
    sidecars = [json.loads(path.read_text()) for path in sorted(out.glob("sub-*/anat/*_dseg.json"))]
    flagged = [each for each in sidecars if any(finding["Weight"] != "note" for finding in each["Findings"])]
    assert flagged
    for sidecar in flagged:
        weight = sidecar["Findings"][0]["Weight"]
        texts = [finding["Text"] for finding in sidecar["Findings"] if finding["Weight"] == weight]
        assert f"{sidecar['Scan']}: {weight}: {'; '.join(texts)}" in said
        assert re.search(
            rf"{len(flagged)} of 2 scan\(s\) to be looked at before use: .*{sidecar['Scan']} \({weight}\)", said
        )
    following = re.search(r"Next: bids-hsf (\S+ \S+ \w+)", said)
    assert following is not None
    done = run_here(*following[1].split())
    assert done.returncode == 0, done.stderr
    assert f"Report: {out}/group_volumes.html" in done.stderr
    assert f"to be rated: {out}/review.html" in done.stderr
    assert (out / "review.html").is_file()
    assert "Next: bids-hsf" not in done.stderr


def test_stages_are_told_to_who_wants_more(place: Place) -> None:
    said = (place.reference.parent / "said").read_text()
    for stage in ("load", "locate", "segment", "write"):
        assert re.search(rf"sub-01_T1w: {stage} \.\.\.$.*sub-01_T1w: {stage} took \d+\.\d s$", said, re.M | re.S)


def test_transforms_are_there_and_a_run_without_them_leaves_them(place: Place) -> None:
    names = sorted(path.name for path in place.reference.rglob("*_xfm.txt"))
    assert names == [
        f"sub-{label}_seg-toyFast_from-{way}_mode-image_xfm.txt"
        for label in ("01", "02")
        for way in ("MNI152NLin2009cSym_to-T1w", "T1w_to-MNI152NLin2009cSym")
    ]
    assert "2 done before, 0 to do" in place.run(place.reference, "participant").stderr
    assert len(list(place.reference.rglob("*_xfm.txt"))) == 4


def test_the_dry_run_names_model_files_and_device(place: Place, tmp_path: Path) -> None:
    shown = place.run(tmp_path / "new", "participant", "--dry-run").stdout
    assert "Model: toy_fast 1.0.0: front, back; 1 network(s) x 1 pass(es) a hippocampus" in shown
    assert f"Files: here (packaged), in {place.card.parent}" in shown
    assert "Device: cpu" in shown
    assert "Time: about" in shown


def test_files_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIDS_HSF_CACHE", str(tmp_path))
    told = "\n".join(announcements.of_model(find_card("bagging_accurate"), 20))
    assert "5 network(s) x 21 pass(es)" in told
    assert f"5 of 5 not here: the run downloads them from huggingface.co into {tmp_path}" in told
    assert "`hsf-hub fetch bagging_accurate` does so ahead" in told


def test_devices_that_would_be_tried() -> None:
    config = Config(Path("/b"), Path("/o"), ("participant",), resources=Resources(device="auto"))
    assert re.fullmatch(r"Device: (cpu|auto: the first of .*cpu that agrees .*)", announcements.of_device(config))


def test_machines_that_are_not_this_one(place: Place, tmp_path: Path) -> None:
    config = Config(
        Path("/b"),
        Path("/o"),
        ("participant",),
        resources=Resources(device="coreml", executor="dask", dask_scheduler="tcp://host:1"),
    )
    assert announcements.of_device(config) == "Device: coreml, as each of Dask's workers has it"
    words = [str(place.bids_dir), str(tmp_path / "out"), "participant", "--model", f"{place.card}:toy_fast"]
    shown = run_here(*words, "--device", "coreml", "--dry-run")  # on a login node, say
    assert (shown.returncode, "Device: none here: --device coreml: n" in shown.stdout) == (0, True), shown.stderr
    assert run_here(*words, "--device", "coremel", "--dry-run").returncode == 69


def test_device_is_refused_before_anything_is_validated(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "validating", lambda *_: pytest.fail("validated first"))
    words = [str(place.bids_dir), str(tmp_path / "out"), "participant", "--model", f"{place.card}:toy_fast"]
    for device, said in (("cudda", "Did you mean cuda?"), ("coreml", "coreml: n")):
        done = run_here(*words, "--device", device)
        assert (done.returncode, said in done.stderr) == (69, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_augmentations_that_a_model_does_not_have(place: Place, tmp_path: Path) -> None:
    words = [str(place.bids_dir), str(tmp_path / "out"), "participant", "--dry-run", "--skip-bids-validation"]
    capped = "--tta 20 is taken for 1: each sample of longaxis_single_fast is the mirrored crop"
    assert capped in run_here(*words, "--tta", "20", "--model", "longaxis_single_accurate").stderr.replace(
        "longaxis_single_accurate", "longaxis_single_fast"
    )
    assert "is taken for" not in run_here(*words, "--tta", "20", "--model", f"{place.card}:toy_fast").stderr


def test_images_by_name_and_failures(place: Place, tmp_path: Path) -> None:
    model = ["--model", f"{place.card}:toy_fast", "--device", "cpu"]
    image = write_head(tmp_path / "a.nii.gz")
    done = run_here(str(image), str(tmp_path / "out"), *model)
    assert f"Report: {tmp_path}/out/a.html" in done.stderr
    assert f"fsleyes {image} {tmp_path}/out/a_seg-toyFast_dseg.nii.gz -ot label" in done.stderr
    image.write_bytes(image.read_bytes()[:2000])
    done = run_here(str(image), str(tmp_path / "other"), *model)
    assert done.returncode == 65
    assert "Next: mend what is told above" in done.stderr


class TestStatusAfterAPartialRedo:
    def test_nobody_is_told_to_force_everything(self, tmp_path: Path) -> None:
        place = Place(write_dataset(tmp_path / "bids", 3), write_card(tmp_path / "hub"), tmp_path / "out")
        assert place.run(place.reference, "participant").returncode == 0
        redone = place.run(place.reference, "participant", "--participant-label", "01", "--random-seed", "7", "--force")
        assert redone.returncode == 0
        write_head(place.bids_dir / "sub-04" / "anat" / "sub-04_T1w.nii.gz", seed=4)
        shown = run_here(str(place.bids_dir), str(place.reference), "status").stdout
        assert "1 done, 1 missing, 2 made with other settings" in shown
        assert "--force" not in shown
        line = next(line for line in shown.splitlines() if line.startswith("  bids-hsf"))
        assert "--participant-label 04" in line
        assert "The 2 made with other settings than the last run are whole, and stay as they are." in shown
        asked = [str(place.bids_dir), str(place.reference), "status", "--model", f"{place.card}:toy_fast"]
        shown = run_here(*asked).stdout
        assert "2 done, 1 missing, 1 made with other settings" in shown
        forced = [line for line in shown.splitlines() if "--force" in line]
        assert len(forced) == 1
        assert "--participant-label 01" in forced[0]
