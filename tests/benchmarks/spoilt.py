"""Brains spoilt in known ways, and brains changed in ways that do no harm."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from brains import Brain, Change
from spoilt_heads import (
    cavity,
    cut,
    cut_at_side,
    defaced,
    metal,
    mirrored,
    nearest,
    one_sided,
    stretched,
    stripped,
    swapped_axes,
    tumour,
    turned,
    upside_down,
    vessels,
    warped,
    wrapped,
)
from spoilt_images import (
    bias,
    blur,
    coarse,
    dark_slices,
    fat_shift,
    ghosts,
    inverted,
    like_ct,
    lost_slices,
    mapped,
    negative,
    noise,
    outliers,
    quantised,
    ringing,
    saturated,
    scaled,
    slices,
    spike,
    stripe,
    then,
    unchanged,
    zipper,
)


@dataclass(frozen=True)
class Spoil:
    """One way to change a brain.

    Attributes
    ----------
    name : str
    change : callable
    whole_heads : bool
        Whether it makes no sense in a crop.
    is_untold : bool
        Whether no single image tells of it, so that nothing can be said: counted apart.
    """

    name: str
    change: Change
    whole_heads: bool = False
    is_untold: bool = False


SPOILS = (
    Spoil("clean", unchanged),
    Spoil("noise 5 %", noise(0.05)),
    Spoil("noise 10 %", noise(0.10)),
    Spoil("noise 20 %", noise(0.20)),
    Spoil("noise 35 %", noise(0.35)),
    Spoil("noise 60 %", noise(0.60)),
    Spoil("blur 1.5 mm", blur(1.5)),
    Spoil("blur 3 mm", blur(3.0)),
    Spoil("blur 5 mm", blur(5.0)),
    Spoil("blur 8 mm", blur(8.0)),
    Spoil("blur 4 mm, noise 20 %", then(blur(4.0), noise(0.20))),
    Spoil("blur 6 mm, noise 30 %", then(blur(6.0), noise(0.30))),
    Spoil("ghosts, mild", ghosts(1.0, 1.0, 0.10)),
    Spoil("ghosts, moderate", ghosts(3.0, 3.0, 0.25)),
    Spoil("ghosts, severe", ghosts(6.0, 8.0, 0.45)),
    Spoil("bias 20 %", bias(0.2)),
    Spoil("bias 50 %", bias(0.5)),
    Spoil("bias 90 %", bias(0.9)),
    Spoil("wrapped from behind", wrapped(1, 0.25), whole_heads=True),
    Spoil("wrapped from the side", wrapped(0, 0.2), whole_heads=True),
    Spoil("cut below, 50 %", cut(2, True, 0.5), whole_heads=True),
    Spoil("cut in front, 40 %", cut(1, False, 0.6), whole_heads=True),
    Spoil("cavity 6 mm, dark", cavity(6.0, 0.0)),
    Spoil("cavity 12 mm, dark", cavity(12.0, 0.0)),
    Spoil("cavity 14 mm, bright", cavity(14.0, 1.0)),
    Spoil("metal 12 mm", metal(12.0)),
    Spoil("metal 20 mm", metal(20.0)),
    Spoil("stripe of 3, bright", stripe(3, 3.0)),
    Spoil("stripe of 6, bright", stripe(6, 1.5, 1)),
    Spoil("dark slices", dark_slices(1)),
    Spoil("spike 40 %", spike(0.4)),
    Spoil("spike 100 %", spike(1.0)),
    Spoil("300 wild voxels", outliers(300, 100.0)),
    Spoil("5 % wild voxels", lambda brain, rng: outliers(brain.data.size // 20, 5.0)(brain, rng)),
    Spoil("swapped axes", swapped_axes, whole_heads=True),
    Spoil("upside down", upside_down, whole_heads=True),
    Spoil("stretched 1.5", stretched(1.5, 2), whole_heads=True),
    Spoil("inverted", inverted),
    Spoil("flat contrast", mapped((0.0, 0.4, 0.5, 0.6, 1.0))),
    Spoil("folded contrast", mapped((0.0, 1.0, 0.0))),
    Spoil("like CT", like_ct, whole_heads=True),
    Spoil("slices of 3 mm", slices(3.0, 1)),
    Spoil("slices of 6 mm", slices(6.0, 2)),
    Spoil("turned by 15 degrees", turned(15.0), whole_heads=True),
    Spoil("vessels", vessels),
    Spoil("stripped", stripped, whole_heads=True),
    Spoil("scaled", scaled(37.0, 100.0)),
    Spoil("voxels of 2 mm", coarse((2.0, 2.0, 2.0)), whole_heads=True),
    Spoil("voxels of 1 x 3 x 1 mm", coarse((1.0, 3.0, 1.0)), whole_heads=True),
    Spoil("voxels of 2 x 2 x 5 mm", coarse((2.0, 2.0, 5.0)), whole_heads=True),
    Spoil("voxels of 2 x 2 x 5 mm, noise 20 %", then(coarse((2.0, 2.0, 5.0)), noise(0.20)), whole_heads=True),
    # In a crop there is no other side, against which alone they show.
    *(
        Spoil(f"tumour {radius:g} mm, {name}", tumour(radius, level), whole_heads=True)
        for radius in (4.0, 6.5, 9.0, 12.0)
        for name, level in (("grey", 0.5), ("as bright as grey matter", 0.65), ("moderately bright", 0.8))
    ),
    Spoil("mirrored", mirrored, whole_heads=True, is_untold=True),
    Spoil("zipper", zipper(2.0)),
    Spoil("Gibbs ringing, half", ringing(0.5)),
    Spoil("Gibbs ringing, a quarter", ringing(0.25)),
    Spoil("every 4th slice black", lost_slices(2, 4, "black")),
    Spoil("every 2nd slice doubled", lost_slices(1, 2, "doubled")),
    Spoil("every 2nd slice moved", lost_slices(2, 2, "moved")),
    Spoil("8 bit", quantised(256)),
    Spoil("16 grey levels", quantised(16)),
    Spoil("saturated above half", saturated(0.5)),
    Spoil("saturated above four fifths", saturated(0.8)),
    Spoil("negative", negative),
    Spoil("fat shift 5 mm", fat_shift(5.0), whole_heads=True),
    Spoil("warped by 8 mm", warped(8.0), whole_heads=True),
    Spoil("cut at the side, 10 mm", cut_at_side(10.0), whole_heads=True),
    Spoil("defaced, 5 mm", defaced(5.0), whole_heads=True),
    Spoil("defaced, 15 mm", defaced(15.0), whole_heads=True),
    Spoil("nearest neighbour, 10 degrees", nearest(10.0), whole_heads=True),
    Spoil("one side: ghosts, severe", one_sided(ghosts(6.0, 8.0, 0.45)), whole_heads=True),
    Spoil("one side: blur 8 mm", one_sided(blur(8.0)), whole_heads=True),
    Spoil("one side: noise 35 %", one_sided(noise(0.35)), whole_heads=True),
)
UNTOLD = frozenset(spoil.name for spoil in SPOILS if spoil.is_untold)


def spoilt(brain: Brain, left_out: Collection[str] = (), *, is_crop: bool = False) -> Iterator[tuple[str, Brain]]:
    """Name and image of each changed copy, but for some."""
    for number, spoil in enumerate(SPOILS):
        if spoil.name in left_out or (is_crop and spoil.whole_heads):
            continue
        rng = np.random.default_rng([number, *brain.name.encode()])
        yield spoil.name, spoil.change(brain, rng)
