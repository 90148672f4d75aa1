"""Pages parsed, and the files that they are made from."""

import re
from html.parser import HTMLParser

import numpy as np

from bids_hsf.bids.group_table import read_group_table, write_group_table
from bids_hsf.bids.tables import write_tsv
from bids_hsf.cohort.outliers import judge
from bids_hsf.files import write_json, write_text

SVG = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 1200 691.5"></svg>'
STRUCTURES = (("DG", 450.25), ("CA1", 812.5), ("CA2", 90.75))
VOID = {"meta", "input", "img", "br", "link"}
OPTIONAL = {"td", "th", "tr", "p", "li"}


class Page(HTMLParser):
    """Elements, links, identifiers and text of a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert [tag for tag in self.open if tag not in OPTIONAL] == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag, name):
        return [attributes[name] for kind, attributes in self.elements if kind == tag and name in attributes]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def write_scan(output_dir, entities="sub-01", *, suffix="T1w", volumes=STRUCTURES, figures=True, **changes):
    """Write a scan's table, sidecar, figures and provenance as the participant level does."""
    subject, stem = entities.split("_")[0], f"{entities}_space-{suffix}_seg-hsf"
    session = re.search(r"_(ses-[^_]+)", entities)
    folder = output_dir / subject / (session[1] if session else "") / "anat"
    rows = [
        {
            "index": index + offset,
            "name": f"{side} {name}",
            "abbreviation": f"{side[0]}_{name}",
            "color": "#2ca02c",
            "mapping": 1,
            "hemisphere": side[0],
            "volume_mm3": round(volume * factor, 2),
            "voxels": 10,
            "entropy_mean": 0.1234,
        }
        for side, offset, factor in (("Left", 0, 1.0), ("Right", 100, 1.1))
        for index, (name, volume) in enumerate(volumes, start=1)
    ]
    write_tsv(folder / f"{stem}_dseg.tsv", list(rows[0]), rows)
    sidecar = {
        "GeneratedBy": {"Name": "bids-hsf", "Version": "9.8.7"},
        "Scan": f"{entities}_{suffix}",
        "Request": {"Model": "bagging", "Members": {"arunet.onnx": "535af004dc7251af"}, "TestTimeAugmentations": 20},
        "Model": {"Name": "bagging", "License": "MIT", "Citation": "Poiret et al. 2023"},
        "Passes": 21,
        "Components": {"L": 1, "R": 1},
        "Localization": {"Quality": 0.9312, "Coverage": {"L": 1.0, "R": 1.0}},
        "Findings": [],
        "eTIV_mm3": 1523456,
    }
    write_json(folder / f"{stem}_dseg.json", sidecar | changes)
    write_json(
        output_dir / "logs" / subject / f"{stem}_provenance.json",
        {"Device": {"Provider": "OpenVINOExecutionProvider", "Threads": 2}, "Finished": "2031-04-05T06:07:08"},
    )
    for kind in ("segmentation", "entropy", "localization") if figures else ():
        write_text(output_dir / subject / "figures" / f"{stem}_desc-{kind}_dseg.svg", SVG)


def write_group(output_dir, n, **first):
    """Write a table of `n` scans, judged as the group level does; `first` changes the first row."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        row = {
            "participant_id": f"sub-{index:04d}",
            "session_id": None,
            "scan": f"sub-{index:04d}_T1w",
            "suffix": "T1w",
            "model": "bagging",
            "status": "done",
            "localization_quality": 0.9,
            "findings": None,
            "worst_finding": None,
        }
        for side in ("L", "R"):
            row |= {f"{side}_{name}_mm3": round(v * rng.uniform(0.9, 1.1), 2) for name, v in STRUCTURES}
            row[f"{side}_total_mm3"] = round(sum(row[f"{side}_{name}_mm3"] for name, _ in STRUCTURES), 2)
        rows.append(row | {"eTIV_mm3": 1500000} | (first if index == 0 else {}))
    write_judged(output_dir, rows)


def write_judged(output_dir, rows):
    """Write a table of these rows, whose outliers are told."""
    write_tsv(output_dir / "group_volumes.tsv", list(dict.fromkeys(name for row in rows for name in row)), rows)
    table = read_group_table(output_dir)
    judge(table).put_into(table)
    write_group_table(output_dir, table)
