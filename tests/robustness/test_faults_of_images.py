"""One image that is a trap costs its own scan; label maps of other software are told of before and after."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from fast_app import AFFINE, SHAPE, write_dataset, write_head
from toy_runs import Place

# Hippocampi of the template.
BOXES = {17: ((-33, -40, -24), (-17, -6, -4)), 53: ((17, -40, -24), (33, -6, -4))}


def write_map(path: Path) -> None:
    """Write a label map like FreeSurfer's in the template's space."""
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = (-60, -80, -50)
    values = np.zeros((120, 120, 80), dtype=np.uint8)
    for label, box in BOXES.items():
        low, high = nib.affines.apply_affine(np.linalg.inv(affine), box).astype(int)
        values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(values, affine), path)


def test_traps_cost_their_own_scans(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 1)

    def image(label: str) -> Path:
        path = root / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        return path

    os.mkfifo(image("pipe"))
    image("device").symlink_to("/dev/zero")
    loop = image("loop")
    loop.symlink_to(loop.name)
    (root / "sub-05").symlink_to("sub-05")
    other = Place(root, place.card, tmp_path)
    reasons = {"pipe": "is a named pipe", "device": "is a device", "loop": "is a link that leads to itself"}
    shown = other.run(tmp_path / "out", "participant", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    done = other.run(tmp_path / "out", "participant")
    assert done.returncode == 1, done.stderr
    assert "1 of 4 scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    for label, reason in reasons.items():
        assert any(line.startswith(f"sub-{label}_T1w") and reason in line for line in shown.stdout.splitlines())
        assert any(f"ERROR sub-{label}_T1w: " in line and reason in line for line in done.stderr.splitlines())
    again = other.run(tmp_path / "out", "status")
    assert "4 scan(s): 1 done, 3 failed" in again.stdout


def test_a_disk_that_fails_under_an_image_is_told_as_its_reason_later_too(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 2)
    image = root / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    image.unlink()
    image.symlink_to("/proc/self/mem")  # reading its beginning is an input/output error
    other, out = Place(root, place.card, tmp_path), tmp_path / "out"
    done = other.run(out)
    assert done.returncode == 1, done.stderr
    reason = f"Cannot read {image}: Input/output error"
    assert f"ERROR sub-01_T1w: {reason}" in done.stderr
    shown = other.run(out, "participant", "status").stdout
    assert reason in shown
    assert "2 scan(s): 1 done, 1 failed" in shown
    assert f"failed\t{reason}" in (out / "group_volumes.tsv").read_text()


def test_an_unusable_qform_beside_a_good_sform_costs_nothing(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 1)
    path = root / "sub-odd" / "anat" / "sub-odd_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 1000, SHAPE, dtype=np.int16), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    for name in ("quatern_b", "quatern_c", "quatern_d"):
        image.header[name] = 2.0
    nib.save(image, path)
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant")
    assert done.returncode == 0, done.stderr
    labels = nib.load(tmp_path / "out/sub-odd/anat/sub-odd_space-T1w_seg-toyFast_dseg.nii.gz")
    np.testing.assert_allclose(labels.affine, AFFINE)
    assert int(labels.header["qform_code"]) == 0


def test_the_run_and_the_dry_run_tell_which_scans_have_a_label_map(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 2)
    write_head(root / "sub-03/ses-1/anat/sub-03_ses-1_T1w.nii.gz", seed=3)
    write_map(tmp_path / "fs" / "sub-01" / "mri" / "aseg.mgz")
    (tmp_path / "wrong").mkdir()
    other = Place(root, place.card, tmp_path)
    flags = ("--derivatives", f"fs={tmp_path / 'fs'}", f"syn={tmp_path / 'wrong'}")
    shown = other.run(tmp_path / "out", "participant", "--dry-run", *flags)
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("sub-")}
    assert "boxes by fs:sub-01/mri/aseg.mgz" in lines["sub-01_T1w"]
    assert "no label map: boxes by the template" in lines["sub-02_T1w"]
    done = other.run(tmp_path / "out", "participant", *flags)
    assert done.returncode == 0, done.stderr
    for text in (shown.stderr, done.stderr):
        assert "--derivatives: 1 of 3 scan(s) have a label map" in text
        assert f"--derivatives syn: {tmp_path / 'wrong'} has no label map of any of 3 scan(s)" in text
        assert "for sub-01_T1w was looked for sub-01/mri/aseg.mgz, " in text
        assert "--derivatives fs: " not in text
