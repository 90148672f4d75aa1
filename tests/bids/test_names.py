from pathlib import Path

from bids_hsf.bids import names


def test_entities_stand_in_bids_order() -> None:
    entities = [("sub", "01"), ("ses", "2"), ("acq", "hi"), ("run", "1"), ("chunk", "3")]
    outputs = names.scan_outputs(Path("/out"), entities, "T2w", "hsfCA123")
    stem = "sub-01_ses-2_acq-hi_run-1_space-T2w_chunk-3_seg-hsfCA123"
    assert outputs.dseg == Path(f"/out/sub-01/ses-2/anat/{stem}_dseg.nii.gz")
    assert outputs.map("entropy") == Path(f"/out/sub-01/ses-2/anat/{stem}_desc-entropy_probseg.nii.gz")
    assert outputs.map(None) == Path(f"/out/sub-01/ses-2/anat/{stem}_probseg.nii.gz")
    assert outputs.figure("entropy") == Path(f"/out/sub-01/figures/{stem}_desc-entropy_dseg.svg")
