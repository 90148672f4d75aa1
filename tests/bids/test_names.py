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
    assert outputs.sidecar == outputs.dseg.with_name(f"{stem}_dseg.json")
    assert outputs.table == outputs.dseg.with_name(f"{stem}_dseg.tsv")
    assert outputs.map_sidecar("entropy") == outputs.map("entropy").with_name(f"{stem}_desc-entropy_probseg.json")
    assert outputs.segmentation == "hsfCA123"


def test_what_differs_between_equal_runs_lies_in_logs() -> None:
    outputs = names.scan_outputs(Path("/out"), [("sub", "01")], "T1w", "toy", names.MULTISPECTRAL)
    stem = "sub-01_space-T1w_seg-toy_desc-multispectral"
    assert outputs.provenance == Path(f"/out/logs/sub-01/{stem}_provenance.json")
    assert outputs.failure == Path(f"/out/logs/sub-01/{stem}_failure.json")
    assert outputs.claim == Path(f"/out/logs/sub-01/.{stem}.lock")
    assert outputs.map("entropy").name == f"{stem}entropy_probseg.nii.gz"
    assert outputs.segmentation == "toy"


def test_addresses_name_their_dataset() -> None:
    assert names.bids_uri("raw", "sub-01/anat/sub-01_T1w.nii.gz") == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
