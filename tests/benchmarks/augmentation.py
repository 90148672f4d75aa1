"""Time what test-time augmentation costs beside the network.

Usage: python tests/benchmarks/augmentation.py MODEL.onnx [--members 5] [--augmentations 20] [--threads 2]

Prints the processor time of each step on one thread, then the wall time of a vote against that of its network passes
alone, on the left hippocampus of the example scan (1 mm, as the app crops it). The model takes (1, 1, x, y, z) float32
and returns probabilities. --recipe-of NAME takes the recipe of a model of the hub instead of HSF's.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from voting import draw, vote

from bids_hsf.geometry import Grid, next_multiple, pad_to_shape, resample
from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.hub.models import find_card
from bids_hsf.images import load_scan
from bids_hsf.localization.crops import crop_grid
from bids_hsf.localization.locate import locate
from bids_hsf.machine import return_large_arrays
from bids_hsf.networks.predictor import normalize
from bids_hsf.segmentation.augmentation import place
from bids_hsf.segmentation.transforms import Sample
from bids_hsf.segmentation.votes import entropy_of

SCAN = Path(__file__).parents[1] / "data" / "bids" / "sub-icbm152" / "anat" / "sub-icbm152_T1w.nii.gz"


def example_crop():
    """Normalised crop (X, Y, Z), each size a multiple of 16, and its grid."""
    scan = load_scan(SCAN)
    grid = crop_grid(locate(scan.data, scan.grid), scan.grid, "L", None)
    padded, _ = pad_to_shape(
        normalize(resample(scan.data, scan.grid, grid)), [next_multiple(n, 16) for n in grid.shape]
    )
    return padded, Grid(padded.shape, grid.affine)


CROP, GRID = example_crop()
SHAPE = CROP.shape


def milliseconds(work, repeats=15):
    """Median processor time of one call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def steps(n_classes):
    """Print the cost of each step for one affine and one elastic sample."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(n_classes), SHAPE).transpose(3, 0, 1, 2).astype(np.float32)
    carried = np.ascontiguousarray(probabilities[1:])  # background is what they leave
    middle = tuple(slice(n // 4, 3 * n // 4) for n in SHAPE)
    marked = np.zeros(SHAPE, bool)  # an eighth of the crop, as much as a hippocampus with its rim
    marked[middle] = True
    for kind, share in (("affine", 1.0), ("elastic", 0.0)):
        recipe = AugmentationRecipe(affine_probability=share)
        sample: Sample = draw(recipe, 1, rng)[0]
        warp = place(sample, SHAPE, GRID.voxel_sizes)
        print(
            f"{kind:8} sample {milliseconds(lambda recipe=recipe: draw(recipe, 1, rng)):6.2f} ms  "
            f"place {milliseconds(lambda sample=sample: place(sample, SHAPE, GRID.voxel_sizes)):6.2f} ms  "
            f"apply {milliseconds(lambda warp=warp: warp.apply(CROP)):6.2f} ms  "
            f"reached {milliseconds(lambda warp=warp: warp.reached(marked)):6.2f} ms  invert {len(carried)} fields "
            f"{milliseconds(lambda warp=warp: warp.invert(carried, warp.reached(marked))):6.2f} ms"
        )
    print(f"a pass   entropy {milliseconds(lambda: entropy_of(probabilities[:, *middle])):6.2f} ms")


def main():
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--augmentations", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipe-of", default="")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--provider", default=onnxruntime.get_available_providers()[0])
    options = parser.parse_args()

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    openvino = options.provider.startswith("OpenVINO")
    provider_options = {"device_type": "CPU", "num_of_threads": str(options.threads)} if openvino else {}
    session = onnxruntime.InferenceSession(
        options.model, settings, providers=[options.provider], provider_options=[provider_options]
    )
    name = session.get_inputs()[0].name

    def predict(crop):
        return session.run(None, {name: crop[None, None]})[0][0]

    return_large_arrays()  # as the app does
    recipe = find_card(options.recipe_of).recipe if options.recipe_of else AugmentationRecipe()
    n_classes = len(predict(CROP))
    steps(n_classes)
    predictors = [predict] * options.members
    n_passes = options.members * (1 + options.augmentations)

    def passes():
        for _ in range(n_passes):
            predict(CROP)

    def voted():
        samples = draw(recipe, options.augmentations, np.random.default_rng(0))
        vote(CROP, predictors, GRID, samples, options.threads)

    voted()
    # In turns, so that a machine that slows down slows both; the fastest of each is compared.
    clocks = [(clocked(passes), clocked(voted)) for _ in range(options.repeats)]
    alone, together = np.min(clocks, axis=0)
    print(
        f"{options.provider}, {options.threads} threads, {n_classes} classes, "
        f"a pass {1000 * alone[0] / n_passes:.0f} ms\n{options.members} x {1 + options.augmentations} passes "
        f"alone {alone[0]:.2f} s ({alone[1]:.2f} s of processor), "
        f"in a vote {together[0]:.2f} s ({together[1]:.2f} s)\n"
        f"augmentation and voting add {100 * (together[0] / alone[0] - 1):.1f} % of time, "
        f"{100 * (together[1] / alone[1] - 1):.1f} % of processor time"
    )


def clocked(work):
    """Wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
