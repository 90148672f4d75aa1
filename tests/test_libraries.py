"""Libraries that have been loaded leave the resident set, and work as before."""

import subprocess
import sys

import pytest

CODE = """
import sys
from bids_hsf.libraries import release_libraries

def resident():
    fields = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return int(fields["RssFile"].split()[0]) >> 10

import SimpleITK as sitk
import scipy.linalg
image = sitk.Image(8, 8, 8, sitk.sitkFloat32) + 3
before = resident()
release_libraries()
after = resident()
# All that is called now comes back by itself, what was relocated when it was loaded included.
smooth = sitk.SmoothingRecursiveGaussian(image, 1.0)
assert abs(smooth.GetPixel(4, 4, 4) - 3) < 1e-4
assert abs(scipy.linalg.det([[2.0, 1.0], [1.0, 3.0]]) - 5) < 1e-9
try:
    sitk.ReadImage("nowhere.nii")
except RuntimeError as error:
    assert "nowhere" in str(error)
print(before, after, resident())
"""

WHILE_OTHERS_LOAD = """
import importlib, threading
from bids_hsf.libraries import release_libraries

over = threading.Event()

def release():
    while not over.is_set():
        release_libraries()

thread = threading.Thread(target=release)
thread.start()
try:
    for name in ("numpy", "scipy.linalg", "scipy.ndimage", "SimpleITK", "onnxruntime", "PIL.Image", "contourpy"):
        importlib.import_module(name)
finally:
    over.set()
    thread.join()
import numpy as np, SimpleITK as sitk
assert sitk.GetArrayFromImage(sitk.GetImageFromArray(np.ones((4, 4, 4)))).sum() == 64
print("whole")
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="resident sets are read as Linux tells them")
def test_what_was_read_to_load_libraries_leaves_the_resident_set_and_comes_back_where_it_is_needed() -> None:
    before, after, later = map(int, run(CODE).split())
    assert before > 60
    assert after < before / 3
    # How many neighbours come back with a page that was needed, the system decides.
    assert later < before - 30


@pytest.mark.skipif(sys.platform != "linux", reason="resident sets are read as Linux tells them")
def test_libraries_that_are_loaded_meanwhile_are_left_whole() -> None:
    assert run(WHILE_OTHERS_LOAD) == "whole\n"
