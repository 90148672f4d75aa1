"""Vote, decision, uncertainty and islands, with functions in the place of networks."""

import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_vote import reference_vote
from scipy import ndimage
from voting import draw, vote

from bids_hsf import geometry
from bids_hsf.errors import ModelError
from bids_hsf.geometry import Grid
from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.labels import Label, Merge, merge_channels
from bids_hsf.segmentation.ballots import PLURALITY, SHARES
from bids_hsf.segmentation.decision import Segmentation, decide, remove_islands, volume_spread
from bids_hsf.segmentation.sampling import Look
from bids_hsf.segmentation.votes import Tally, Votes, entropy_of

SHAPE = (24, 28, 22)
VOXEL_SIZES = np.array([1.0, 0.9, 1.2])
GRID = Grid(SHAPE, np.diag([*VOXEL_SIZES, 1.0]))
RECIPE = AugmentationRecipe()
MIRROR = AugmentationRecipe(
    flip_probability=1, affine_probability=1, scales=(1, 1), rotation_degrees=0, translation_mm=0
)
LABELS = (Label(1, "Head", "HEAD", "#ff0000"), Label(2, "Tail", "TAIL", "#00ff00"))


def softmax(logits):
    powers = np.exp(np.asarray(logits) - np.max(logits, axis=0))
    return (powers / powers.sum(axis=0)).astype(np.float32)


def network(sharpness, offset=0.0):
    """A network of three classes that looks at intensities alone, so it moves with its input."""
    return lambda crop: softmax([0 * crop, sharpness * (crop - offset), sharpness * (-crop - offset)])


def constant(probabilities):
    """A network that says the same of every voxel."""
    column = np.asarray(probabilities, dtype=np.float32).reshape(-1, 1, 1, 1)
    return lambda crop: np.broadcast_to(column, (len(column), *crop.shape)).copy()


def field(seed=7, sigma=2.0, shape=SHAPE):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return (noise / noise.std()).astype(np.float32)


def vote_on(predictors, n_augmentations=0, seed=0, crop=None, recipe=RECIPE):
    crop = field() if crop is None else crop
    return vote(crop, predictors, GRID, draw(recipe, n_augmentations, np.random.default_rng(seed)))


def votes_of(counts, probabilities, seen):
    """Votes on a row of voxels, from nested lists (C, N)."""
    counts, probabilities = (np.array(x, np.float32)[:, :, None, None] for x in (counts, probabilities))
    seen = np.array(seen, np.float32)[:, None, None]
    return Votes(
        probabilities, counts, np.zeros_like(seen), seen, np.zeros((1, len(counts)), np.float32), np.zeros(1, int)
    )


class TestSpread:
    def test_identical_members_without_augmentation_do_not_spread(self):
        votes = vote_on([network(2.0)] * 5)
        decided = decide(votes, LABELS)
        assert votes.n_passes == 5
        assert (votes.pass_volumes == votes.pass_volumes[0]).all()
        assert (volume_spread(votes.pass_volumes).sd == 0).all()
        assert (decided.vote_share == 1).all()
        assert decided.mutual_information.max() < 1e-6
        assert decided.entropy.max() > 0.5  # unsure, but of one mind

    @pytest.mark.parametrize("opened", ["together", "one after the other"])
    def test_how_sure_the_networks_are_of_a_result_does_not_depend_on_random_views_of_it(self, opened):
        members = [network(2.0), network(3.0, 0.5), network(1.0)]
        plain = decide(vote_on(members), LABELS)
        samples = draw(RECIPE, 6, np.random.default_rng(0))
        tally = Tally(field(), GRID)
        for group in [members] if opened == "together" else [[each] for each in members]:
            tally.add(group, [Look(number, (sample,) * len(group)) for number, sample in enumerate([None, *samples])])
        augmented = decide(tally.votes(), LABELS)
        np.testing.assert_allclose(augmented.still_entropy, plain.entropy, atol=1e-5)
        assert np.abs(augmented.entropy - plain.entropy).max() > 0.05
        np.testing.assert_array_equal(plain.still_entropy, plain.entropy)

    def test_a_mirror_image_counts_among_what_tells_how_sure_the_networks_are(self):
        mirrored = decide(vote_on([network(2.0)], n_augmentations=1, recipe=MIRROR), LABELS)
        np.testing.assert_array_equal(mirrored.still_entropy, mirrored.entropy)

    def test_votes_of_two_contrasts_join_what_was_said_of_the_crops_themselves(self):
        first, second = (vote_on([network(2.0)], n, crop=field(seed)) for n, seed in ((0, 1), (4, 2)))
        alone = vote_on([network(2.0)], crop=field(2))
        expected = decide(first + alone, LABELS).entropy
        np.testing.assert_allclose(decide(first + second, LABELS).still_entropy, expected, atol=1e-5)
        np.testing.assert_allclose(decide(second + first, LABELS).still_entropy, expected, atol=1e-5)

    def test_uniform_probabilities_have_entropy_one(self):
        decided = decide(vote_on([constant([1 / 3] * 3)], n_augmentations=3), LABELS)
        np.testing.assert_allclose(decided.entropy, 1, atol=1e-5)
        np.testing.assert_allclose(decided.expected_entropy, 1, atol=1e-5)
        assert decided.mutual_information.max() < 1e-5

    def test_sure_members_that_disagree_have_nothing_but_mutual_information(self):
        decided = decide(vote_on([constant([1, 0, 0]), constant([0, 1, 0]), constant([0, 0, 1])]), LABELS)
        np.testing.assert_allclose(decided.entropy, 1, atol=1e-5)
        np.testing.assert_allclose(decided.mutual_information, 1, atol=1e-5)
        np.testing.assert_allclose(decided.vote_share, 1 / 3, atol=1e-5)

    def test_volume_spread_of_known_passes(self):
        volumes = np.array([[0, v] for v in range(101)], np.float32)
        spread = volume_spread(volumes)
        assert spread.mean[1] == 50
        assert spread.sd[1] == pytest.approx(np.sqrt(850 * 101 / 100))
        assert (spread.low[1], spread.high[1]) == (2.5, 97.5)
        assert np.isnan(volume_spread(volumes[:1]).sd).all()

    def test_entropy_is_the_textbooks(self):
        probabilities = np.array([0.5, 0.25, 0.25, 0], np.float32).reshape(4, 1, 1, 1)
        assert entropy_of(probabilities).item() == pytest.approx(1.5 * np.log(2))


SHELL, CORE = 2.0, 4.5


def geometry_network(crop):
    """Classes by intensity: nothing up to SHELL, then the shell (2), from CORE on the core (1)."""
    return softmax(np.stack([8 * (SHELL - crop), 8 * (crop - CORE), 0 * crop]))


def at_border(labels):
    """Voxels with a neighbour (faces, edges, corners) of another label."""
    return ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)


class TestGeometryOfTheVote:
    """A network that returns the geometry of its input must get it back untouched."""

    # Voxels to the surface of a ball: the core has a radius of 4, shell and core together of 6.5.
    center = np.array([11.7, 13.6, 10.4]).reshape(3, 1, 1, 1)
    scene = np.maximum(8.5 - np.sqrt(((np.indices(SHAPE) - center) ** 2).sum(axis=0)), 0).astype(np.float32)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("axis", range(3))
    def test_layers_come_back_at_every_voxel_seen_by_most_passes(self, axis, seed):
        """Planes half-way between voxels, so that no centre lies near a border: not one voxel may change."""
        crop = np.indices(SHAPE)[axis].astype(np.float32)

        def layers(view):
            return softmax(np.stack([0 * view, 20 * (view - 7.5), 40 * (view - 11.5)]))  # up to 7, up to 15, beyond

        untouched = decide(vote_on([layers], crop=crop), LABELS).labels
        assert set(np.unique(untouched)) == {0, 1, 2}
        votes = vote_on([layers], n_augmentations=20, crop=crop, seed=seed)
        most = votes.seen > votes.n_passes / 2
        assert most.mean() > 0.85
        np.testing.assert_array_equal(decide(votes, LABELS).labels[most], untouched[most])

    def test_labels_come_back_but_where_a_curved_border_passes_close_by(self):
        untouched = decide(vote_on([geometry_network], crop=self.scene), LABELS).labels
        assert set(np.unique(untouched)) == {0, 1, 2}
        votes = vote_on([geometry_network], n_augmentations=20, crop=self.scene)
        decided = decide(votes, LABELS)
        most = votes.seen > votes.n_passes / 2
        assert most.mean() > 0.9
        # A curved border moves by up to a sixth of a voxel when it is interpolated there and back: all
        # voxels must be equal whose centre does not lie that near to it.
        clear = (np.abs(self.scene - SHELL) > 0.17) & (np.abs(self.scene - CORE) > 0.17)
        assert clear.mean() > 0.97
        np.testing.assert_array_equal(decided.labels[most & clear], untouched[most & clear])

    def test_a_sharp_label_map_comes_back_but_for_corners(self):
        sharp = np.where(self.scene > CORE, 6, np.where(self.scene > SHELL, 3, 0)).astype(np.float32)
        untouched = decide(vote_on([geometry_network], crop=sharp), LABELS).labels
        decided = decide(vote_on([geometry_network], n_augmentations=20, crop=sharp), LABELS)
        different = decided.labels != untouched
        assert not (different & ~at_border(untouched)).any()
        for label in (1, 2):
            ours, theirs = decided.labels == label, untouched == label
            assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.95

    def test_a_sure_network_is_sure_at_every_voxel(self):
        """HSF fills with background what a pass did not see: false votes, false entropy."""
        votes = vote_on([constant([0, 1, 0])], n_augmentations=20)
        decided = decide(votes, LABELS)
        assert votes.seen.min() < votes.n_passes
        assert (decided.labels == 1).all()
        assert decided.entropy.max() < 1e-4
        assert decided.vote_share.min() > 1 - 1e-5

    def test_volumes_of_the_passes_are_those_of_the_scene(self):
        votes = vote_on([geometry_network], n_augmentations=20, crop=self.scene)
        core, both = (4 / 3 * np.pi * radius**3 * GRID.voxel_volume for radius in (4, 6.5))
        for structure, volume in ((1, core), (2, both - core)):
            np.testing.assert_allclose(votes.pass_volumes[:, structure], volume, rtol=0.1)
            # What is carried back is smoothed once, which costs a ball of 4 voxels' radius some per cent.
            assert volume_spread(votes.pass_volumes).mean[structure] == pytest.approx(volume, rel=0.06)
        np.testing.assert_allclose(votes.pass_volumes.sum(axis=1), np.prod(SHAPE) * GRID.voxel_volume, rtol=1e-4)

    def test_what_a_pass_did_not_see_is_no_loss_of_volume(self):
        far = AugmentationRecipe(affine_probability=1, scales=(1.2, 1.2), translation_mm=6.0, rotation_degrees=0)
        votes = vote_on([constant([0, 1, 0])], n_augmentations=6, recipe=far)
        # Zoomed by a whole number of nothing: the sum over a cut view is right to its outermost voxels.
        np.testing.assert_allclose(votes.pass_volumes[:, 1], np.prod(SHAPE) * GRID.voxel_volume, rtol=0.05)


class TestReference:
    """Against the plain implementation: each pass inverted on its own, in float64."""

    shape = (13, 14, 11)
    grid = Grid(shape, np.diag([*VOXEL_SIZES * 2, 1.0]))
    away = (np.indices(shape) - np.array([6.1, 6.6, 5.2]).reshape(3, 1, 1, 1)) / 2
    blob = (8 * np.exp(-(away**2).sum(axis=0) / 2)).astype(np.float32)  # 0 at the rim

    def both(self, recipe, crop, predictors, n_augmentations=4):
        samples = draw(recipe, n_augmentations, np.random.default_rng(4))
        votes = vote(crop, predictors, self.grid, samples)
        return votes, reference_vote(crop, predictors, samples, self.grid.voxel_sizes)

    # An elastic transform is inverted to a few hundredths of a voxel on so few voxels; 0.009 on a real crop.
    @pytest.mark.parametrize(
        ("affine_probability", "tolerance"), [(1.0, 1e-4), (0.0, 0.015)], ids=["affine", "elastic"]
    )
    def test_vote_and_entropy_are_the_references(self, affine_probability, tolerance):
        recipe = AugmentationRecipe(affine_probability=affine_probability)
        predictors = [network(3.0), network(1.5, 0.3), network(2.0, 0.5)]
        votes, plain = self.both(recipe, field(shape=self.shape), predictors)
        decided = decide(votes, LABELS)
        # Within a hundredth of a voxel of the edge, two solvers may differ on whether a voxel was seen.
        same = votes.seen == plain.seen
        assert same.all() if affine_probability else same.mean() > 0.99
        for ours, theirs in (
            (votes.mean_probabilities(), plain.mean_probabilities),
            (decided.entropy, plain.entropy / np.log(3)),
            (decided.expected_entropy, plain.expected_entropy / np.log(3)),
        ):
            np.testing.assert_allclose(ours[..., same], theirs[..., same], atol=tolerance)
        shares = np.abs(votes.vote_sum / votes.seen - plain.vote_shares)[:, same].max(axis=0)
        # Where two classes are as good as equal, the last digit decides where a vote goes.
        assert (shares > 1e-4).mean() <= (0 if affine_probability else 0.04)

    @pytest.mark.parametrize("affine_probability", [1.0, 0.0], ids=["affine", "elastic"])
    def test_pass_volumes_are_those_after_inversion(self, affine_probability):
        recipe = AugmentationRecipe(affine_probability=affine_probability, translation_mm=1.0)
        votes, plain = self.both(recipe, self.blob, [geometry_network])
        core_and_shell = votes.pass_volumes[:, 1:].sum(axis=1)
        np.testing.assert_allclose(core_and_shell, plain.pass_volumes[:, 1:].sum(axis=1), rtol=0.03)


class TestSureBackground:
    """Where a pass gives all structures together next to nothing, nothing is carried back."""

    @pytest.mark.parametrize("ballot", [PLURALITY, SHARES], ids=["plurality", "shares"])
    def test_labels_volumes_and_uncertainty_are_as_if_all_were(self, ballot, monkeypatch):
        away = (np.indices(SHAPE) - np.array([11, 13, 10]).reshape(3, 1, 1, 1)) / 3
        crop = (9 - (away**2).sum(axis=0)).astype(np.float32)  # in logits: from 9 in the middle to -50 in the corners
        blob = [lambda view: softmax([0 * view, view, view - 2])]
        samples = draw(RECIPE, 6, np.random.default_rng(1))
        some = vote(crop, blob, GRID, samples, ballot=ballot)
        monkeypatch.setattr("bids_hsf.segmentation.votes.LEAST_PROBABILITY", -1.0)
        every = vote(crop, blob, GRID, samples, ballot=ballot)
        assert 0 < np.mean(some.entropy_sum == 0) < np.mean(every.entropy_sum < 7 * 2e-3)
        np.testing.assert_array_equal(decide(some, LABELS).labels, decide(every, LABELS).labels)
        np.testing.assert_array_equal(some.seen, every.seen)
        np.testing.assert_allclose(some.vote_sum, every.vote_sum, atol=7e-4)
        np.testing.assert_allclose(some.pass_volumes, every.pass_volumes, rtol=1e-3)
        np.testing.assert_allclose(some.mean_probabilities(), every.mean_probabilities(), atol=1e-4)
        np.testing.assert_allclose(some.entropy_sum, every.entropy_sum, atol=7 * 1.1e-3)


class TestDeterminism:
    def test_same_seed_same_bytes_whatever_the_timing(self):
        def slow(crop):
            time.sleep(0.01)
            return network(2.0)(crop)

        first = vote_on([network(2.0), network(1.0)], n_augmentations=6, seed=3)
        second = vote_on([slow, network(1.0)], n_augmentations=6, seed=3)
        for name in ("probability_sum", "vote_sum", "entropy_sum", "seen", "pass_volumes"):
            assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
        other = vote_on([network(2.0), network(1.0)], n_augmentations=6, seed=4)
        assert other.probability_sum.tobytes() != first.probability_sum.tobytes()

    def test_a_view_is_made_once_for_all_members(self):
        views = []

        def recording(crop):
            views.append(crop)
            return constant([1, 0, 0])(crop)

        vote_on([recording] * 3, n_augmentations=2)
        assert len({id(view) for view in views}) == 3
        assert all(views[i] is views[i + 1] for i in (0, 1, 3, 4, 6, 7))

    def test_memory_does_not_grow_with_the_passes(self):
        def peak(n_augmentations):
            tracemalloc.start()
            vote_on([network(2.0)] * 2, n_augmentations, recipe=AugmentationRecipe(affine_probability=0.0))
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak_bytes

        peak(1)  # imports
        assert peak(40) < 1.5 * peak(5)  # threads may meet at another moment; a stack would be 5 times as large

    def test_crop_of_few_wide_planes(self):
        # Many more voxels than one part of the work has.
        grid = Grid((3, 160, 200), np.eye(4))
        samples = draw(RECIPE, 2, np.random.default_rng(0))
        votes = vote(field(shape=grid.shape), [constant([0.2, 0.8])], grid, samples, 2)
        assert votes.n_passes == 3
        np.testing.assert_allclose(votes.vote_sum[1], votes.seen, atol=1e-5)

    def test_nothing_is_imported_that_is_not_needed(self):
        code = (
            "import sys, numpy as np\n"
            "from bids_hsf.segmentation.votes import *\n"
            "network = lambda crop: np.stack([crop, 1 - crop])\n"
            "grid = Grid((4, 4, 4), np.eye(4))\n"
            "Tally(np.ones((4, 4, 4), np.float32), grid).add([network], [Look(0, (None,))])\n"
            "assert not {'scipy.stats', 'SimpleITK'} & set(sys.modules)\n"
            "from bids_hsf.segmentation.transforms import Sample\n"
            "turned = Sample(False, degrees=(1.0, 2.0, 3.0))\n"
            "Tally(np.ones((4, 4, 4), np.float32), grid).add([network], [Look(0, (None,)), Look(1, (turned,))])\n"
            "assert not {'torch', 'torchio'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestDecide:
    def test_plurality_wins_even_against_the_higher_mean(self):
        decided = decide(votes_of([[1], [2], [0]], [[1.8], [1.2], [0]], [3]), LABELS)
        assert decided.labels.item() == 1
        assert decided.vote_share.item() == pytest.approx(2 / 3)

    def test_ties_go_to_the_higher_mean_probability_not_to_background(self):
        votes = votes_of([[2, 2, 2], [2, 2, 1], [0, 0, 1]], [[1.9, 2.1, 2], [2.1, 1.9, 1], [0, 0, 1]], [4, 4, 4])
        assert decide(votes, LABELS).labels.ravel().tolist() == [1, 0, 0]

    def test_ties_survive_rounding(self):
        votes = votes_of([[52.50001], [52.49999], [0]], [[50], [55], [0]], [105])
        assert decide(votes, LABELS).labels.item() == 1

    def test_two_members_that_tie(self):
        decided = decide(vote_on([constant([0.6, 0.4, 0]), constant([0.1, 0.9, 0])]), LABELS)
        assert (decided.labels == 1).all()

    def test_a_pass_in_two_minds_shares_its_vote(self):
        votes = vote_on([constant([0.2, 0.4, 0.4])])
        np.testing.assert_array_equal(votes.vote_sum[:, 0, 0, 0], [0, 0.5, 0.5])

    def test_unseen_voxels_are_background_and_certain(self):
        decided = decide(votes_of([[0, 0], [0.2, 1], [0, 0]], [[0, 0], [0.2, 1], [0, 0]], [0.2, 1]), LABELS)
        assert decided.labels.ravel().tolist() == [0, 1]
        assert decided.entropy.ravel().tolist() == [0, 0]
        assert decided.vote_share.ravel().tolist() == [1, 1]

    def test_labels_are_the_cards_indices(self):
        labels = (Label(3, "Three", "THREE", "#ffffff"), Label(17, "Seventeen", "SEVENTEEN", "#ffffff"))
        decided = decide(vote_on([constant([0, 0, 1])]), labels)
        assert (decided.labels == 17).all()
        assert decided.labels.dtype == np.uint8

    def test_a_card_with_other_labels_is_an_error(self):
        with pytest.raises(ModelError, match="3 output channels, its card 1 labels"):
            decide(vote_on([constant([1, 0, 0])]), LABELS[:1])

    @given(st.integers(0, 2**32), st.integers(1, 4))
    @settings(max_examples=15, deadline=None)
    def test_shares_are_shares(self, seed, n_members):
        rng = np.random.default_rng(seed)
        members = [network(rng.uniform(0, 9), rng.normal()) for _ in range(n_members)]
        decided: Segmentation = decide(vote_on(members, n_augmentations=int(rng.integers(3)), seed=seed), LABELS)
        for share in (decided.entropy, decided.expected_entropy, decided.mutual_information, decided.vote_share):
            assert share.dtype == np.float32
            assert share.min() >= 0
            assert share.max() <= 1
        assert decided.vote_share.min() > 1 / 3 - 1e-4
        np.testing.assert_allclose(decided.expected_entropy + decided.mutual_information, decided.entropy, atol=1e-5)


class TestVotes:
    def test_members_one_at_a_time_add_up_to_the_ensemble(self):
        members = [network(2.0), network(1.0, 0.2)]
        together = vote_on(members, n_augmentations=4, seed=9)
        apart = vote_on(members[:1], n_augmentations=4, seed=9) + vote_on(members[1:], n_augmentations=4, seed=9)
        assert apart.n_passes == together.n_passes == 10
        np.testing.assert_array_equal(apart.seen, together.seen)
        np.testing.assert_allclose(apart.probability_sum, together.probability_sum, atol=1e-4)
        np.testing.assert_allclose(apart.vote_sum, together.vote_sum, atol=1e-4)
        np.testing.assert_array_equal(decide(apart, LABELS).labels, decide(together, LABELS).labels)

    def test_votes_on_different_grids_do_not_add_up(self):
        with pytest.raises(ValueError, match="different grids"):
            vote_on([constant([1, 0, 0])]) + vote_on([constant([1, 0])])

    def test_carried_to_the_same_grid_nothing_changes(self):
        votes = vote_on([network(2.0)], n_augmentations=2)
        carried = votes.carried(lambda sums: geometry.resample(sums, GRID, GRID))
        assert decide(carried, LABELS).labels.tobytes() == decide(votes, LABELS).labels.tobytes()

    def test_carried_beyond_the_crop_there_is_background(self):
        votes = vote_on([constant([0, 1, 0])])
        box = Grid((40, 30, 30), np.diag([0.7, 0.9, 1.1, 1.0]))
        decided = decide(votes.carried(lambda sums: geometry.resample(sums, GRID, box)), LABELS)
        x_mm = np.arange(40) * 0.7
        inside = x_mm <= 23.0
        assert (decided.labels[inside, :28, :20] == 1).all()
        assert decided.entropy[inside, :28, :20].max() < 1e-4
        assert (decided.labels[x_mm > 24.0] == 0).all()
        assert (decided.entropy[x_mm > 24.0] == 0).all()

    def test_two_contrasts_on_other_grids_vote_as_if_in_one_space(self):
        center_mm = np.array([12.0, 12.5, 13.0]).reshape(3, 1, 1, 1)

        def scene(grid):
            points = np.moveaxis(grid.to_mm(np.argwhere(np.ones(grid.shape))).reshape(*grid.shape, 3), -1, 0)
            return np.maximum(8.5 - np.sqrt(((points - center_mm) ** 2).sum(axis=0)), 0).astype(np.float32)

        def votes_on(grid, seed):
            return vote(scene(grid), [geometry_network], grid, draw(RECIPE, 4, np.random.default_rng(seed)))

        moved = np.diag([1.3, 1.1, 0.9, 1.0])
        moved[:3, 3] = [-4.0, -5.0, 2.0]
        other = Grid((26, 30, 28), moved)
        first = votes_on(GRID, 1)
        joined = first + votes_on(other, 2).carried(lambda sums: geometry.resample(sums, other, GRID))
        assert joined.n_passes == 10
        alone, both = decide(first, LABELS).labels, decide(joined, LABELS).labels
        assert not ((alone != both) & ~at_border(alone)).any()
        np.testing.assert_allclose(joined.pass_volumes[5:, 1], joined.pass_volumes[0, 1], rtol=0.1)

    def test_mean_probabilities_sum_to_one(self):
        votes = vote_on([network(2.0), network(0.5)], n_augmentations=5)
        box = Grid((30, 30, 30), np.diag([1.1, 0.9, 1.1, 1.0]))
        carried = votes.carried(lambda sums: geometry.resample(sums, GRID, box))
        for each in (votes, carried):
            np.testing.assert_allclose(each.mean_probabilities().sum(axis=0), 1, atol=1e-5)

    def test_merged_before_the_vote_parts_win_together(self):
        merge = Merge("whole", "whole", (Label(1, "Hippocampus", "HIPP", "#ffffff"),), {2: 1})
        divided = constant([0.4, 0.3, 0.3])
        assert (decide(vote_on([divided]), LABELS).labels == 0).all()
        tally = Tally(field(), GRID, merge=lambda answer: merge_channels(answer, merge, LABELS))
        tally.add([divided], [Look(0, (None,))])
        merged = decide(tally.votes(), merge.labels)
        assert (merged.labels == 1).all()
        np.testing.assert_allclose(merged.entropy, -(0.4 * np.log2(0.4) + 0.6 * np.log2(0.6)), atol=1e-5)
        # How sure the networks were is told of the classes that they know.
        np.testing.assert_array_equal(merged.still_entropy, decide(vote_on([divided]), LABELS).entropy)


class TestErrors:
    @pytest.mark.parametrize(
        "predictor",
        [lambda crop: crop, lambda crop: np.ones((3, 2, 2, 2), np.float32), lambda crop: crop[None]],
        ids=["no channels", "other shape", "one class"],
    )
    def test_wrong_shapes(self, predictor):
        with pytest.raises(ModelError, match="returned an array of shape"):
            vote_on([predictor])

    def test_nan(self):
        with pytest.raises(ModelError, match="NaN"):
            vote_on([network(1.0), constant([np.nan, 0, 1])])

    @pytest.mark.parametrize("n_augmentations", [0, 2])
    def test_members_with_other_classes(self, n_augmentations):
        with pytest.raises(ModelError, match="3 and 2 classes"):
            vote_on([constant([1, 0, 0]), constant([1, 0])], n_augmentations)

    def test_errors_of_a_network_reach_the_caller(self):
        def broken(crop):
            raise RuntimeError("no more memory")

        with pytest.raises(RuntimeError, match="no more memory"):
            vote_on([network(1.0), broken], n_augmentations=2)

    def test_no_members(self):
        with pytest.raises(ValueError, match="without members"):
            vote_on([])


class TestIslands:
    def labelled(self, *boxes):
        labels = np.zeros((40, 40, 40), np.uint8)
        for value, box in boxes:
            labels[tuple(slice(a, b) for a, b in box)] = value
        return labels

    main = (1, [(10, 20), (10, 20), (10, 20)])

    def test_a_far_speck_goes_and_is_counted(self):
        labels = self.labelled(self.main, (2, [(35, 37), (35, 37), (35, 37)]))
        cleaned, n_components = remove_islands(labels, np.ones(3))
        assert n_components == 2
        np.testing.assert_array_equal(cleaned, self.labelled(self.main))
        assert labels[36, 36, 36] == 2  # the caller's array is left alone

    def test_a_close_piece_stays(self):
        labels = self.labelled(self.main, (2, [(22, 23), (12, 13), (12, 13)]))
        cleaned, n_components = remove_islands(labels, np.ones(3))
        assert n_components == 2
        np.testing.assert_array_equal(cleaned, labels)

    def test_close_is_measured_in_mm(self):
        labels = self.labelled(self.main, (2, [(22, 23), (12, 13), (12, 13)]))
        cleaned, _ = remove_islands(labels, np.array([2.0, 1.0, 1.0]))
        np.testing.assert_array_equal(cleaned, self.labelled(self.main))

    def test_a_large_piece_stays(self):
        labels = self.labelled(self.main, (2, [(30, 35), (30, 35), (30, 34)]))
        np.testing.assert_array_equal(remove_islands(labels, np.ones(3))[0], labels)

    def test_structures_that_touch_are_one_body(self):
        labels = self.labelled(self.main, (2, [(20, 22), (20, 22), (20, 22)]))  # by a corner
        assert remove_islands(labels, np.ones(3))[1] == 1

    def test_an_empty_map_stays_empty(self):
        cleaned, n_components = remove_islands(np.zeros((3, 3, 3), np.uint8), np.ones(3))
        assert n_components == 0
        assert not cleaned.any()

    @given(hnp.arrays(np.uint8, (6, 7, 5), elements=st.sampled_from([0, 0, 0, 0, 1, 2])))
    @settings(max_examples=50, deadline=None)
    def test_only_removes_and_does_so_once(self, labels):
        cleaned, _ = remove_islands(labels, np.array([3.0, 3.0, 3.0]))
        assert ((cleaned == labels) | (cleaned == 0)).all()
        again, _ = remove_islands(cleaned, np.array([3.0, 3.0, 3.0]))
        np.testing.assert_array_equal(again, cleaned)
