"""Pack the Task04 hippocampus crops into one .npz, the only input of train.py.

Usage: python pack.py MSD_DIR OUT.npz, where MSD_DIR holds images/ and labels/ with equal file names.
Separate from train.py so that training needs torch and numpy alone (GPU machines often have no nibabel).
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def main() -> None:
    msd_dir, out_path = Path(sys.argv[1]), Path(sys.argv[2])
    arrays: dict[str, np.ndarray] = {}
    for image_path in sorted((msd_dir / "images").glob("*.nii.gz")):
        case = image_path.name.removesuffix(".nii.gz")
        image = np.asarray(nib.load(image_path).dataobj, dtype=np.float32)
        label = np.asarray(nib.load(msd_dir / "labels" / image_path.name).dataobj)
        # Some cases reach 1.7e6, others 112: z-scores fit float16 whatever the scale.
        image = (image - image.mean()) / image.std(ddof=1)
        arrays[f"image/{case}"] = np.clip(image, -30, 30).astype(np.float16)
        arrays[f"label/{case}"] = label.astype(np.uint8)
    np.savez_compressed(out_path, **arrays)
    print(f"{len(arrays) // 2} cases -> {out_path}")


if __name__ == "__main__":
    main()
