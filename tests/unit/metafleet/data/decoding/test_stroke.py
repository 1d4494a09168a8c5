"""Drawings become pen movements."""

import json

import numpy as np

from tests.unit.metafleet.data.decoding.samples import (
    decode,
    npy,
)


def test_a_trace_without_points_is_passed_over():
    ink = "<ink><trace>0 0, 10 0</trace><trace/><trace> </trace></ink>"

    assert decode("stroke", ink.encode(), points=8)[:, 2].sum() == 1


def test_strokes_come_from_json_arrays_and_inkml_alike():
    lines = [[[0, 0], [10, 0], [10, 20]], [[4, 4], [6, 8]]]
    quick = {"drawing": [[[0, 10, 10], [0, 0, 20], [1, 2, 3]], [[4, 6], [4, 8]]]}
    rows = npy(np.array([[0, 0, 0], [10, 0, 0], [10, 20, 1], [4, 4, 0], [6, 8, 1]], np.float32))
    ink = '<ink xmlns="x"><trace>0 0, 10 0, 10 20</trace><trace>4 4, 6 8</trace></ink>'

    plain = decode("stroke", json.dumps(lines).encode(), points=40)

    for source in (json.dumps(quick).encode(), rows, ink.encode()):
        np.testing.assert_allclose(decode("stroke", source, points=40), plain, atol=1e-3)
    assert plain[:, 2].sum() == 2 and plain[-1, 2] == 1
    np.testing.assert_allclose(plain[:, :2].min(axis=0), [0.25, 0], atol=1e-3)
    np.testing.assert_allclose(plain[:, :2].max(axis=0), [0.75, 1], atol=1e-3)
