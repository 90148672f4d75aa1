"""Hippocampi of single images from Python, by the core that the app itself runs.

    import bids_hsf

    with bids_hsf.open_model("longaxis_single_fast") as model:
        result = model.segment("T1w.nii.gz")
    result.volumes["L_anterior"].volume_mm3
    result.save("out")

Nothing is logged to the terminal, and nothing but `Result.save` writes a file of results. Errors are those of
`bids_hsf.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.names import loose_outputs
from bids_hsf.errors import UnreadableImageError, UsageError
from bids_hsf.files import write_json
from bids_hsf.findings import Finding
from bids_hsf.geometry import CropBox, covering_box, from_canonical
from bids_hsf.hub import DEFAULT_MODEL
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import fetch, find_card, list_cards
from bids_hsf.images import LoadedScan, load_scan, take_scan
from bids_hsf.labels import Label
from bids_hsf.localization.contrasts import HeadScan, locate_head
from bids_hsf.localization.location import Location
from bids_hsf.results import ScanResult, describe, judged_result, request_of, write_maps
from bids_hsf.segmentation.hippocampi import segment as segment_scans
from bids_hsf.segmentation.model import DEFAULTS, Model, Options, find_merge, open_ensemble
from bids_hsf.segmentation.volumes import Volumes

Image: TypeAlias = str | Path | nib.spatialimages.SpatialImage | tuple[NDArray[np.generic], NDArray[np.floating]]
Contrast: TypeAlias = Literal["T1w", "T2w"]


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in one image.

    Attributes
    ----------
    label_map : nibabel.Nifti1Image
        (X, Y, Z) uint8 on the image's own voxels: a left structure has the model's index k, the right one 100 + k.
    entropy : nibabel.Nifti1Image
        (X, Y, Z) float32, normalised predictive entropy: 0 certain, 1 all classes equally likely.
    volumes : Volumes
        Structures with volumes in mm3, their intervals over the passes, and mean entropies; ``to_records()`` gives
        them as rows of a table.
    location : Location
        Where the hippocampi lie: quality (0-1), coverage a side, estimated total intracranial volume in mm3.
    boxes : mapping of str to CropBox
        Hemisphere "L", "R" to the box of the image's voxels, in RAS+ order, that the networks saw.
    findings : tuple of Finding
        What a person should know, heaviest first: ``code``, ``weight`` ("note", "check", "fail"), ``text``, and what
        was measured; empty where all is well.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth; empty where nothing was learnt.
    maps : mapping of str to nibabel.Nifti1Image
        "entropy"; with ``Options(full_uncertainty=True)`` mutual information, expected entropy, vote share; with
        ``Options(coordinates=True)`` "AP", "PD" and "IO", where on the unfolded sheet of grey matter a voxel lies.
    probabilities : nibabel.Nifti1Image or None
        (X, Y, Z, N) float32, one volume a structure in the order of `volumes`; with ``Options(probabilities=True)``.
    scan_result : ScanResult
        The same in arrays, in RAS+ order.
    """

    label_map: nib.Nifti1Image
    entropy: nib.Nifti1Image
    volumes: Volumes
    location: Location
    boxes: Mapping[str, CropBox]
    findings: tuple[Finding, ...]
    predicted_dice: Mapping[str, float]
    maps: Mapping[str, nib.Nifti1Image]
    probabilities: nib.Nifti1Image | None
    scan_result: ScanResult

    def save(self, folder: str | Path, name: str | None = None) -> list[Path]:
        """Write label map, table, sidecar and soft maps into a folder, made if it is not there.

        Parameters
        ----------
        folder : str or Path
        name : str, optional
            What file names begin with; by default the image's own name.

        Returns
        -------
        list of Path
            The label map first.

        Raises
        ------
        StorageError
            A file cannot be written. Each file is whole or not there.
        """
        result = self.scan_result
        outputs = loose_outputs(Path(folder), name or result.key, result.segmentation)
        write_maps(result, outputs, (result.key,))
        write_json(outputs.sidecar, describe(result, outputs, (result.key,)).to_json())
        names = [None] if self.probabilities else []
        maps = [outputs.map(each) for each in [*(name.replace("_", "") for name in self.maps), *names]]
        return [outputs.dseg, outputs.table, outputs.sidecar, *maps]


class OpenModel:
    """A model that is open for any number of images; `open_model` gives it.

    Close it, or use it in a ``with`` statement.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> "OpenModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its networks."""
        self._model.close()

    @property
    def card(self) -> ModelCard:
        """What the hub says of the model."""
        return self._model.card

    @property
    def labels(self) -> tuple[Label, ...]:
        """Structures of one hemisphere."""
        return self._model.labels

    def segment(
        self,
        image: Image,
        *,
        t2w: Image | None = None,
        contrast: Contrast | None = None,
        options: Options = DEFAULTS,
    ) -> Result:
        """Find and segment both hippocampi.

        Parameters
        ----------
        image : path, nibabel image, or (array, affine)
            One head: a file, an image in memory, or voxels (X, Y, Z) with their affine (4, 4) to RAS+ mm.
        t2w : the same, optional
            T2w image of the same head; `image` is then its T1w, on whose voxels the votes on both are joined.
        contrast : str, optional
            "T1w" or "T2w"; by default what the file name ends with, else T1w.
        options : Options
            Views, seed, margin, islands, further maps.

        Raises
        ------
        UnreadableImageError
            An image cannot be read, or is none of a head.
        LocalizationError
            The hippocampi were not found, or lie outside the field of view.
        ScanError
            The two images are not of one head, or no voxel is left to look at.
        UsageError
            The model does not know the contrast, or has no network for the coordinates that are asked for.
        """
        loaded = _load(image)
        others = [] if t2w is None else [_load(t2w)]
        first = _head_scan(image, loaded, contrast)
        second = None if t2w is None else _head_scan(t2w, others[0], "T2w")
        for scan in (first, second):
            if scan is not None and scan.contrast not in self.card.contrasts:
                known = " and ".join(self.card.contrasts)
                raise UsageError(f"{scan.key} is a {scan.contrast} image; {self.card.name} is for {known}")
        located = locate_head(first, second)
        hippocampi = segment_scans(located.scans, located.location, self._model, options)
        request = request_of(self.card, self._model.merge, options)
        return _result(judged_result(first.key, (loaded, *others), located, hippocampi, self.card, request))


def open_model(
    model: str = DEFAULT_MODEL,
    *,
    merge: str | None = None,
    device: str = "auto",
    n_threads: int | None = None,
    hub_dirs: Sequence[str | Path] = (),
    download: bool = True,
) -> OpenModel:
    """Open a model of the hub.

    Parameters
    ----------
    model : str
        A name, as `list_models` gives them, or the path of a card.
    merge : str, optional
        Labels to be joined, as the card offers them: "1/23", "123", "whole", ...
    device : str
        "auto", "cpu", "openvino", "cuda", ...
    n_threads : int, optional
        By default all cores that this process may use.
    hub_dirs : sequence of path
        Folders with further cards.
    download : bool
        Fetch what is missing; False says at once what is.

    Raises
    ------
    ModelError
        There is no such model, or its files are none of the contract.
    FetchError
        A file is missing and cannot be had.
    DeviceError
        The device that was asked for cannot run it.
    UsageError
        The card does not offer such a merge.
    """
    card = find_card(model, [Path(folder) for folder in hub_dirs])
    chosen = find_merge(card, merge)
    ensemble = fetch(card, offline=not download)
    return OpenModel(open_ensemble(ensemble, device, n_threads, chosen))


def segment(
    image: Image,
    model: str = DEFAULT_MODEL,
    *,
    t2w: Image | None = None,
    contrast: Contrast | None = None,
    device: str = "auto",
    options: Options = DEFAULTS,
) -> Result:
    """Segment one image; for many, `open_model` once. The parameters are those of `open_model` and its `segment`."""
    with open_model(model, device=device) as opened:
        return opened.segment(image, t2w=t2w, contrast=contrast, options=options)


def list_models(hub_dirs: Sequence[str | Path] = ()) -> list[ModelCard]:
    """Cards of all models: name, labels, contrasts, licence, what was measured; those of `hub_dirs` first."""
    return list_cards([Path(folder) for folder in hub_dirs])


def _load(image: Image) -> LoadedScan:
    """Read an image, or take one that is in memory."""
    if isinstance(image, str | Path):
        return load_scan(Path(image))
    if isinstance(image, tuple):
        array, affine = image
        if np.shape(affine) != (4, 4):
            raise UnreadableImageError(f"expected an affine of shape (4, 4), got {np.shape(affine)}")
        values = np.asarray(array)
        # NIfTI knows no 64-bit integers that all readers take, and no booleans.
        image = nib.Nifti1Image(values if values.dtype.kind == "f" else values.astype(np.float32), affine)
    return take_scan(image)


def _head_scan(image: Image, loaded: LoadedScan, contrast: Contrast | None) -> HeadScan:
    """Show an image to the core."""
    path = Path(image) if isinstance(image, str | Path) else Path("image")
    key = path.name.removesuffix(".gz").removesuffix(".nii")
    told: Contrast = contrast or ("T2w" if key.endswith("T2w") else "T1w")
    return HeadScan(key, loaded.data, loaded.grid, told, loaded.orientation_known)


def _result(result: ScanResult) -> Result:
    """Bring what was found to the order in which the image is stored."""
    hippocampi, location, affine = result.hippocampi, result.location, result.image.affine

    def stored(values: NDArray[np.generic]) -> nib.Nifti1Image:
        return nib.Nifti1Image(from_canonical(values, affine), affine)

    maps = {name: stored(values) for name, values in hippocampi.maps.items()}
    grid = hippocampi.grid
    return Result(
        label_map=stored(hippocampi.label_map),
        entropy=maps["entropy"],
        volumes=result.volumes,
        location=location,
        boxes={side.hemisphere: covering_box(grid, side.crop, side.hemisphere) for side in hippocampi.sides},
        findings=result.findings,
        predicted_dice=result.quality.predicted_dice,
        maps=maps,
        probabilities=None if hippocampi.probabilities is None else stored(hippocampi.probabilities),
        scan_result=result,
    )
