"""Redis keys: one slot for a run, and no key that two things share."""

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.keys import KEY_PREFIX, RunKeys, queue_list, queue_of


def all_keys(run: str) -> list[str]:
    keys = RunKeys(run)
    found = [keys.epoch, keys.lease, keys.plan("a" * 64), keys.state("a" * 64)]
    for stream in ("train", "validate"):
        for epoch in (1, 2):
            found.append(keys.closed(stream, epoch=epoch))
            for number in (1, 11):
                step = keys.step(stream, number, epoch=epoch)
                found += [step.started, step.done, step.replies]
                found += [step.lease(1, 2), step.lease(12, 0), step.blob(1, 2), step.blob(12, 0)]
    return found


def test_every_key_of_a_run_hashes_by_its_uid() -> None:
    for key in all_keys("run-1"):
        assert key.startswith(f"{KEY_PREFIX}{{run-1}}:")
        assert key.count("{") == key.count("}") == 1


def test_no_two_things_of_two_runs_share_a_key() -> None:
    keys = all_keys("run-1") + all_keys("run-11")

    assert len(set(keys)) == len(keys)


def test_each_device_has_a_queue_of_its_own() -> None:
    assert (queue_of("cpu"), queue_of("cuda")) == ("inner.cpu", "inner.gpu")


def test_each_version_and_signing_key_has_lists_of_its_own_that_do_not_show_the_key() -> None:
    ours, others = queue_list("inner.cpu", "a secret"), queue_list("inner.cpu", "another")

    assert ours.startswith(f"mf:inner.cpu.v{PROTOCOL_VERSION}-")
    assert len({ours, others, queue_list("inner.cpu", "")}) == 3
    assert "secret" not in ours
    assert queue_list("inner.cpu", "").endswith("-unsigned")
