"""Several models of one family in one output folder: side by side, each known by its name."""

import json
import shutil
from pathlib import Path

from fast_app import write_dataset
from toy_runs import Place, contents, run_here

from bids_hsf.bids.validation import run_validator


def test_second_model_leaves_the_first_as_it_was(place: Place, tmp_path: Path) -> None:
    root, out = write_dataset(tmp_path / "bids", 2), tmp_path / "out"
    common = [str(root), str(out), "participant", "--device", "cpu", "--nprocs", "1", "--omp-nthreads", "1"]
    common += ["--skip-bids-validation"]
    assert run_here(*common, "--model", f"{place.card}:toy_fast").returncode == 0
    first = contents(out, "sub-*/**/*.*", "logs/seg-toyFast_CITATION.*")
    done = run_here(*common, "--model", f"{place.card}:toy_voting", "group")
    assert done.returncode == 0, done.stderr
    both = contents(out, "sub-*/**/*.*", "logs/seg-toyFast_CITATION.*")
    assert {name: both[name] for name in first} == first
    assert "sub-02/anat/sub-02_space-T1w_seg-toyVoting_dseg.nii.gz" in both
    # Neither is done again, and both are told.
    for model in ("toy_fast", "toy_voting"):
        assert "2 done before, 0 to do" in run_here(*common, "--model", f"{place.card}:{model}").stderr
    told = run_here(str(root), str(out), "status").stdout
    assert "toy_voting (seg-toyVoting): 2 scan(s): 2 done" in told
    assert "toy_fast (seg-toyFast): 2 scan(s): 2 done" in told
    table = (out / "group_volumes.tsv").read_text()
    assert table.count("\ttoy_fast\t") == table.count("\ttoy_voting\t") == 2
    page = (out / "sub-01.html").read_text()
    # In the overview, too, of which a narrow screen shows the first columns alone.
    for name in ("T1w · toy_fast", "T1w · toy_voting"):
        assert f"{name}</a></th>" in page
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


def test_results_of_earlier_names_keep_them(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    for path in sorted(out.rglob("*seg-toyFast*")):
        path.rename(path.with_name(path.name.replace("seg-toyFast", "seg-toy")))
    for path in out.glob("logs/*/*_provenance.json"):
        path.write_text(path.read_text().replace("seg-toyFast", "seg-toy"))
    for path in out.glob("sub-*/anat/*_dseg.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "Segmentation": "toy"}))
        provenance = out / "logs" / path.parts[-3] / path.name.replace("_dseg.json", "_provenance.json")
        record = json.loads(provenance.read_text())
        record["Outputs"] = [known for known in record["Outputs"] if not known["Path"].endswith("_dseg.json")]
        provenance.write_text(json.dumps(record))
    assert "4 done before, 0 to do" in place.run(out, "participant").stderr
    assert not list(out.glob("sub-*/**/*seg-toyFast*"))
    # Another model has names of its own beside them.
    words = [*place.words(out, "participant", "--participant-label", "01"), "--model", f"{place.card}:toy_voting"]
    done = run_here(*words)
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("sub-01/anat/*_dseg.nii.gz"))) == 2
