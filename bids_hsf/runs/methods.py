"""The methods text of a run."""

from pathlib import Path

import numpy as np

from bids_hsf.errors import BidsHsfError
from bids_hsf.files import write_text
from bids_hsf.geometry import Grid
from bids_hsf.images import open_scan
from bids_hsf.localization.location import is_limited
from bids_hsf.reports.methods import Methods, methods_bibtex, methods_html, methods_markdown
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.planning import options_of
from bids_hsf.runs.provenance import package_versions
from bids_hsf.segmentation.ballots import BALLOTS

SAMPLED_HEADERS = 500  # the first whole head decides: a dataset of slabs alone is not read to its end


def write_methods(plan: Plan, config: Config, provider: str | None = None) -> None:
    """Write the methods text of this run."""
    card = plan.card
    sampling = options_of(config).sampling_of(card)
    methods = Methods(
        model=card.name,
        model_version=card.version,
        model_license=card.license,
        model_citation=card.citation,
        labels=tuple(label.name for label in plan.labels),
        n_members=len(card.members),
        n_augmentations=sampling.most,
        mirrors_alone=card.recipe.mirrors_alone,
        sampling=card.recipe.sampling,
        ballot=BALLOTS[card.recipe.votes],
        volume_tolerance=sampling.tolerance,
        contrasts=tuple(sorted({scan.suffix for job in plan.jobs for scan in job.scans})),
        with_etiv=any(may_show_a_head(job) for job in plan.jobs[:SAMPLED_HEADERS]),
        with_joined_votes=any(job.second is not None for job in plan.jobs),
        with_coordinates=config.behaviour.write_coordinates,
        voxel_size_mm=card.voxel_size_mm,
        provider=provider,
        reduced_precision=config.method.reduced_precision,
        packages=package_versions(card.recipe.sampling),
        label_maps=tuple(config.method.derivatives),
    )
    write_citation(config.output_dir, methods, plan.segmentation)


def may_show_a_head(job: Job) -> bool:
    """Whether a scan that the hippocampi are found in is large enough for a whole head, by its header."""
    for path in job.inputs.values():
        try:
            image = open_scan(path)
        except BidsHsfError:  # whoever loads it says why
            continue
        x, y, z = (int(n) for n in image.shape[:3])
        if not is_limited(Grid((x, y, z), np.asarray(image.affine, dtype=np.float64))):
            return True
    return False


def write_citation(output_dir: Path, methods: Methods, segmentation: str) -> None:
    """Write the methods text of a run as ``CITATION.md``, ``.html`` and ``.bib``.

    Of a folder with several models these are of the last run; beside them lie those of each, by its ``seg-`` entity.
    """
    texts = {"md": methods_markdown(methods), "html": methods_html(methods), "bib": methods_bibtex(methods)}
    for ending, text in texts.items():
        for name in (f"seg-{segmentation}_CITATION", "CITATION"):
            write_text(output_dir / "logs" / f"{name}.{ending}", text)
