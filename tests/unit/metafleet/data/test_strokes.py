import numpy as np
import pytest
import torch

from metafleet.data.strokes import MAX_STROKES, N_POINTS, has_strokes, resample, rotate

RNG = np.random.default_rng(11)


def random_strokes(n_strokes: int) -> list[np.ndarray]:
    return [RNG.random((int(RNG.integers(2, 40)), 2)) for _ in range(n_strokes)]


@pytest.mark.parametrize("n_strokes", [1, 2, 5, MAX_STROKES])
def test_every_stroke_keeps_its_first_and_last_point_in_drawing_order(n_strokes):
    strokes = random_strokes(n_strokes)

    sequence = resample(strokes)

    ends = np.flatnonzero(sequence[:, 2])
    assert sequence.shape == (N_POINTS, 3)
    assert len(ends) == n_strokes and ends[-1] == N_POINTS - 1
    for stroke, first, last in zip(strokes, [0, *(ends[:-1] + 1)], ends, strict=True):
        np.testing.assert_allclose(sequence[first, :2], stroke[0], atol=1e-6)
        np.testing.assert_allclose(sequence[last, :2], stroke[-1], atol=1e-6)


def test_points_are_evenly_spread_by_length_and_longer_strokes_get_more():
    long = np.array([[0.0, 0.0], [0.1, 0.0], [0.9, 0.0]])
    short = np.array([[0.0, 1.0], [0.2, 1.0]])

    sequence = resample([long, short])

    n_long = int(np.flatnonzero(sequence[:, 2])[0]) + 1
    assert n_long / N_POINTS == pytest.approx(0.9 / 1.1, abs=0.03)
    steps = np.diff(sequence[:n_long, 0])
    np.testing.assert_allclose(steps, steps[0], atol=1e-6)


def test_of_too_many_strokes_the_longest_stay_in_their_order():
    strokes = [np.array([[0.0, i / 100], [0.001 * (i + 1), i / 100]]) for i in range(30)]

    sequence = resample(strokes)

    ends = np.flatnonzero(sequence[:, 2])
    np.testing.assert_allclose(sequence[ends, 1], np.arange(14, 30) / 100, atol=1e-6)


def test_a_dot_is_a_stroke_too():
    sequence = resample([np.array([[0.3, 0.4]]), np.array([[0.0, 0.0], [1.0, 0.0]])])

    assert np.isfinite(sequence).all()
    np.testing.assert_allclose(sequence[0], [0.3, 0.4, 0.0], atol=1e-6)
    assert sequence[1, 2] == 1
    assert np.isfinite(resample([np.array([[0.3, 0.4]])])).all()


def test_has_strokes_tells_the_missing_ones():
    sequences = torch.zeros(3, N_POINTS, 3)
    sequences[1] = torch.from_numpy(resample(random_strokes(2)))

    assert has_strokes(sequences).tolist() == [False, True, False]


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_strokes_turn_as_images_do(quarter_turns):
    side = 28
    rows, columns = RNG.integers(0, side, size=(2, N_POINTS))
    image = np.zeros((side, side), bool)
    image[rows, columns] = True
    strokes = np.zeros((2, N_POINTS, 3))
    strokes[0, :, 0], strokes[0, :, 1] = (columns + 0.5) / side, (rows + 0.5) / side
    strokes[0, -1, 2] = 1

    turned = rotate(strokes, quarter_turns)

    drawn = np.zeros((side, side), bool)
    drawn[(turned[0, :, 1] * side).astype(int), (turned[0, :, 0] * side).astype(int)] = True
    np.testing.assert_array_equal(drawn, np.rot90(image, quarter_turns))
    np.testing.assert_array_equal(turned[0, :, 2], strokes[0, :, 2])
    assert not turned[1].any()  # what is missing stays missing
