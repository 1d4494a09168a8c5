"""Views of items: the same features and the same bits on every host."""

from pathlib import Path

import numpy as np

from metafleet.data.registry import open_data
from metafleet.encoders.encoding import encoding_elsewhere
from metafleet.orchestrator.engine.feature_fleet import FeatureFleet
from tests.fleet import Fleet
from tests.runs import execute, new_run, undisturbed
from tests.viewed import experiment, options, write_colours, write_pictures


def test_views_give_the_same_bits_in_this_process_and_on_hosts_that_receive_them(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder, graph = write_pictures(tmp_path / "pictures"), write_colours(tmp_path / "graph")
    several = options(folder, graph, views=3, flip=True, storage="float16")
    expected = undisturbed(fleet.settings, experiment(several))

    for number in (1, 2):
        host = {"METAFLEET_DATA_DIR": str(tmp_path / f"host-{number}")}
        (worker,) = fleet.start(1, environment=host)
        report = execute(fleet.settings, new_run(fleet.settings, experiment(several)))
        worker.stop()  # so that the next host computes all jobs, however fast this one is
        assert report.checkpoint_sha256 == expected

    for number in (1, 2):
        assert len(list((tmp_path / f"host-{number}" / "received").glob("*/image.views.npy"))) == 1
    alone = options(folder, graph, storage="float16")
    assert undisturbed(fleet.settings, experiment(alone)) != expected


def test_workers_encode_views_and_what_is_known_is_not_encoded_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    folder, graph = write_pictures(tmp_path / "pictures"), write_colours(tmp_path / "graph")
    here = open_data(options(folder, graph, views=3), tmp_path / "here").prepare()
    fleet.start(2)

    counts = []
    for n_views in (2, 3):
        over = FeatureFleet(fleet.settings, lambda text: None)
        with encoding_elsewhere(over.encode):
            there = open_data(
                options(folder, graph, views=n_views), fleet.settings.data_dir
            ).prepare()
        counts.append(over.encoded.n_items)

    assert here is not None and there is not None
    n_items = here.n_items
    assert counts == [2 * n_items, n_items]  # the third view is new
    np.testing.assert_array_equal(there.load("image"), here.load("image"))
    expected, found = here.load_views("image"), there.load_views("image")
    assert expected is not None and found is not None
    np.testing.assert_array_equal(found, expected)
