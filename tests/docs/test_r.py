"""The R of the statistics page, by R itself, on a group of made-up participants; where R is not, it says so."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documented_commands import DOCS, blocks

from bids_hsf.cli.app import main

DERIVATIVES = Path("study/derivatives/bids-hsf")
N_PARTICIPANTS = 16


@pytest.fixture
def group(desk: Path) -> Path:
    """The desk, its first scan made into many by other sizes and ages; the group level has run on all."""
    rng = np.random.default_rng(0)
    people = [["participant_id", "age", "group"]]
    for number in range(3, 3 + N_PARTICIPANTS):
        name, age = f"sub-{number:02d}", int(rng.integers(20, 80))
        people.append([name, str(age), ("control", "patient")[number % 2]])
        for source in (desk / DERIVATIVES / "sub-01/anat").glob("*_dseg.*"):
            target = desk / DERIVATIVES / name / "anat" / source.name.replace("sub-01", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".json":
                sidecar = json.loads(source.read_text().replace("sub-01", name))
                head = int(1.5e6 * rng.uniform(0.9, 1.1))
                target.write_text(json.dumps(sidecar | {"eTIV_mm3": head}))
            elif source.suffix == ".tsv":
                write_scaled(source, target, 1.2 - age / 200 + rng.normal(0, 0.05, 12))
    with (desk / "study/participants.tsv").open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(people)
    assert main([str(desk / "study"), str(desk / DERIVATIVES), "group"]) == 0
    return desk


def write_scaled(source: Path, target: Path, sizes: np.ndarray) -> None:
    """Write a table of a scan with other volumes."""
    table = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False)
    table["volume_mm3"] = [f"{float(text) * size:.2f}" for text, size in zip(table["volume_mm3"], sizes, strict=True)]
    table.to_csv(target, sep="\t", index=False)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="no R here (Debian: r-base-core, r-cran-nlme)")
def test_r_fits_the_models_of_the_page(group: Path) -> None:
    code = [block.text for block in blocks(DOCS / "statistics.md") if block.language == "r"]
    told = ["cat('age', coef(fit)[['age']], '\\n')", "cat('effects', names(fixef(mixed)), '\\n')"]
    if subprocess.run(["Rscript", "-e", "library(nlme)"], capture_output=True, check=False).returncode:
        code, told = code[:1], told[:1]  # it comes with R, but in a package of its own on Debian
    (group / "page.R").write_text("\n".join([*code, *told]))
    done = subprocess.run(["Rscript", "page.R"], cwd=group, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Multiple R-squared" in done.stdout
    table = pd.read_csv(group / DERIVATIVES / "group_volumes.tsv", sep="\t", na_values="n/a")
    table = table[table["suffix"].eq("T1w") & table["group"].notna()]
    assert len(table) == N_PARTICIPANTS
    terms = [np.ones(len(table)), table["group"].eq("patient"), table["age"], table["eTIV_mm3"]]
    by_numpy = np.linalg.lstsq(np.column_stack(terms).astype(float), table["L_CA1_mm3"], rcond=None)[0][2]
    found = re.search(r"^age (\S+)", done.stdout, re.M)
    assert found is not None
    assert float(found[1]) == pytest.approx(by_numpy, rel=1e-5)
    if len(told) == 2:
        assert "grouppatient:hemisphereR" in done.stdout
