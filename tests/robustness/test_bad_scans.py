"""Scans that cannot be processed fail one by one, by name and reason; the others are done."""

import gzip
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_trees import write_scan
from fast_app import AFFINE, SHAPE, write_card, write_dataset, write_head
from odd_images import BAD, sound_images
from toy_runs import Place, run_here

from bids_hsf.bids.group_table import read_group_table


@pytest.fixture
def mixed(place: Place, tmp_path: Path) -> Place:
    """One good scan among many bad ones."""
    root = write_dataset(tmp_path / "bids", 1)

    def scan(label: str) -> Path:
        path = root / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        return path

    scan("empty").touch()
    truncated = write_head(scan("truncated"))
    truncated.write_bytes(truncated.read_bytes()[:-5000])
    scan("text").write_text("not an image")
    scan("annexed").symlink_to("../../.git/annex/objects/gone")
    write_scan(scan("constant"), np.ones(SHAPE, dtype=np.uint8), AFFINE)
    write_scan(scan("series"), np.random.default_rng(0).random((*SHAPE, 3), dtype=np.float32), AFFINE)
    huge = bytearray(gzip.decompress(write_head(scan("huge")).read_bytes()))
    huge[42:48] = np.array([1200, 1200, 1200], dtype="<i2").tobytes()
    # As many zeros as a bomb needs to be believed by its length.
    (root / "sub-huge/anat/sub-huge_T1w.nii.gz").write_bytes(gzip.compress(bytes(huge) + bytes(3_000_000), 9))
    return Place(root, place.card, tmp_path / "none")


def test_bad_scans_fail_one_by_one_and_the_others_finish(mixed: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = mixed.run(out)
    assert done.returncode == 1, done.stderr
    assert "1 of 8 scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    reasons = {
        "empty": "is empty",
        "truncated": "damaged or truncated",
        "text": "not a readable NIfTI",
        "annexed": "broken link",
        "constant": "is constant",
        "series": "expected three axes and one volume",
        "huge": "truncated",
    }
    shown = run_here(str(mixed.bids_dir), str(out), "status")
    assert shown.returncode == 0, shown.stderr
    for label, reason in reasons.items():
        said = [text for text in done.stderr.splitlines() if f"ERROR sub-{label}_T1w: " in text and "hint" not in text]
        assert len(said) == 1
        assert reason in said[0]
        failure = json.loads(
            (out / "logs" / f"sub-{label}" / f"sub-{label}_space-T1w_seg-toyFast_failure.json").read_text()
        )
        assert reason in failure["Error"]
        (line,) = [line for line in shown.stdout.splitlines() if line.startswith(f"sub-{label}_T1w")]
        assert "failed" in line
        assert reason in line
    assert "8 scan(s): 1 done, 7 failed" in shown.stdout
    states = Counter(row.status for row in read_group_table(out))
    assert states == {"done": 1, "failed": 7}
    # The line that is ready to be pasted does the rest, once the scans are repaired.
    for label in reasons:
        path = mixed.bids_dir / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.unlink()
        write_head(path, seed=len(label))
    program, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert program == "bids-hsf"
    again = run_here(*words)
    assert again.returncode == 0, again.stderr
    assert "7 to do" in again.stderr
    assert not list(out.glob("logs/*/*_failure.json"))


def test_stop_on_first_crash(mixed: Place, tmp_path: Path) -> None:
    done = mixed.run(tmp_path / "out", "participant", "--stop-on-first-crash")
    assert done.returncode == 1, done.stderr
    assert "1 of 8 scan(s) done, 6 not begun" in done.stderr


def test_scan_without_a_voxel_of_one_hippocampus_is_told(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 1)
    half = np.random.default_rng(0).integers(0, 1000, SHAPE, dtype=np.int16)[: SHAPE[0] // 3]
    write_scan(root / "sub-left/anat/sub-left_T1w.nii.gz", half, AFFINE)
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant")
    assert done.returncode == 1, done.stderr
    assert "sub-left_T1w: the right hippocampus lies outside the field of view" in done.stderr
    assert "sub-01_T1w: done" in done.stderr
    assert not list((tmp_path / "out").glob("sub-left/**/*.nii.gz"))


def test_every_bad_image_is_told_and_every_odd_one_is_done(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 0)
    reasons = {}
    for number, (make, message) in enumerate(BAD):
        label = f"bad{number:02d}"
        folder = tmp_path / label
        folder.mkdir()
        image = make(folder)
        if not (image.exists() or image.is_symlink()):
            continue
        target = root / f"sub-{label}" / "anat" / image.name.replace("scan", f"sub-{label}_T1w")
        target.parent.mkdir(parents=True)
        image.rename(target)
        reasons[label] = message
    noise = np.random.default_rng(0).integers(0, 100, SHAPE)
    sound = sound_images(noise, AFFINE)
    for name, image in sound.items():
        folder = root / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        nib.save(image, folder / f"sub-{name}_T1w.nii.gz")
    out = tmp_path / "out"
    done = Place(root, place.card, tmp_path).run(out, "participant")
    assert done.returncode == 1, done.stderr
    assert f"{len(sound)} of {len(sound) + len(reasons)} scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    for label, reason in reasons.items():
        (said, *_) = [text for text in done.stderr.splitlines() if f"ERROR sub-{label}_T1w: " in text]
        assert re.search(reason, said), said
        assert not list(out.glob(f"sub-{label}/anat/*"))
    for name in sound:
        image = nib.load(root / f"sub-{name}/anat/sub-{name}_T1w.nii.gz")
        labels = nib.load(out / f"sub-{name}/anat/sub-{name}_space-T1w_seg-toyFast_dseg.nii.gz")
        assert labels.shape == image.shape[:3]
        np.testing.assert_allclose(labels.affine, image.affine, atol=1e-4)
    assert "sub-contradicting_T1w: check: sform and qform disagree" in done.stderr
    assert "sub-noform_T1w: check: the file does not say how the head lies" in done.stderr


def test_t2w_is_done_without_a_t1w_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 0)
    write_head(root / "sub-01/anat/sub-01_T2w.nii.gz")
    (root / "sub-01/anat/sub-01_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone")
    other = Place(root, write_card(tmp_path / "hub", "T1w, T2w"), tmp_path)
    done = other.run(tmp_path / "out", "participant", "-m", "T2w")
    assert done.returncode == 0, done.stderr


def test_header_alone_is_no_scan(place: Place, tmp_path: Path) -> None:
    """As in the "synthetic" dataset of bids-examples."""
    root = write_dataset(tmp_path / "bids", 1)
    packed = root / "sub-01/anat/sub-01_T1w.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes())[:352])
    packed.unlink()
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant")
    assert done.returncode == 65
    assert "is truncated: 352 bytes cannot hold" in done.stderr
