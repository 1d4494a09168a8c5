"""The faults of a machine and its services that the doctor finds."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.presence import WorkerInfo
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository, ServerRepository
from metafleet.db.schema import upgrade
from metafleet.orchestrator.doctor import machine, services
from metafleet.orchestrator.doctor.finding import Finding, Severity
from metafleet.orchestrator.doctor.services import check_services
from tests.databases import new_run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"METAFLEET_HOME": str(tmp_path / "home"), "METAFLEET_DEVICE": "cpu"})


def of(findings: list[Finding], topic: str) -> Finding:
    """The first finding of a topic."""
    return next(finding for finding in findings if finding.topic == topic)


@pytest.fixture
def hung_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_fresh_machine_is_well_and_says_how_to_get_redis(settings: Settings) -> None:
    findings = [*machine.check_machine(settings), *services.check_services(settings)]

    assert not [finding for finding in findings if finding.severity is Severity.FAIL]
    assert of(findings, "redis") == Finding(
        "redis",
        Severity.WARN,
        "none is configured and no embedded stack runs",
        "run `metafleet up`, set METAFLEET_BROKER_URL, or submit with --in-process",
    )
    assert "torch" in of(findings, "versions").text
    assert "metafleet data prepare omniglot" in " ".join(f.remedy for f in findings)
    assert "mixture" not in " ".join(f"{f.text} {f.remedy}" for f in findings)


def test_a_redis_that_is_not_there_fails(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    finding = of(
        services.check_services(replace(settings, broker_url=f"redis://:words@127.0.0.1:{port}/0")),
        "redis",
    )

    assert finding.severity is Severity.FAIL
    assert f"redis://:***@127.0.0.1:{port}/0 cannot be reached" in finding.text
    assert "words" not in finding.text + finding.remedy


def test_a_redis_that_hangs_fails_within_seconds(
    settings: Settings, hung_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_TIMEOUT_S", 0.2)

    finding = of(
        services.check_services(replace(settings, broker_url=f"redis://127.0.0.1:{hung_port}/0")),
        "redis",
    )

    assert finding.severity is Severity.FAIL
    assert "does not answer" in finding.text


def test_a_broker_url_of_another_kind_fails(settings: Settings) -> None:
    finding = of(
        services.check_services(replace(settings, broker_url="amqp://guest@host")), "redis"
    )

    assert finding.severity is Severity.FAIL
    assert "is not a Redis URL" in finding.text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://u:secret@host/name", "names 'mysql', which is not supported"),
        ("nonsense", "cannot be read"),
        ("postgresql://u:secret@127.0.0.1:1/name", "127.0.0.1"),
    ],
)
def test_a_database_that_cannot_be_used_fails(settings: Settings, url: str, text: str) -> None:
    finding = of(services.check_services(replace(settings, database_url=url)), "database")

    assert finding.severity is Severity.FAIL
    assert text in finding.text
    assert "secret" not in finding.text + finding.remedy


def test_a_database_that_is_up_to_date_is_well(settings: Settings) -> None:
    upgrade(settings.database_url)

    assert of(services.check_services(settings), "database").severity is Severity.OK


def test_queued_runs_without_a_server_warn(settings: Settings) -> None:
    with Database.open(settings.database_url) as database, database.session() as session:
        RunRepository(session).add(replace(new_run(), detached=True))
    waiting = of(check_services(settings), "queue")
    assert (waiting.severity, waiting.text) == (Severity.WARN, "1 queued runs, and no server")
    assert "metafleet serve" in waiting.remedy

    with Database.open(settings.database_url) as database, database.session() as session:
        ServerRepository(session).beat("h:1/a", host="h", pid=1, max_runs=2)
    served = of(check_services(settings), "queue")
    assert (served.severity, served.text) == (Severity.OK, "1 runs wait; 1 servers: h:1")


def test_a_file_where_home_should_be_fails(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    finding = of(machine.check_machine(replace(settings, home=tmp_path / "taken")), "home")

    assert finding.severity is Severity.FAIL
    assert finding.remedy == "set METAFLEET_HOME elsewhere"


def test_a_full_disk_fails_and_a_small_one_warns(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(size: int) -> Severity:
        usage = type("Usage", (), {"free": size})
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
        return of(machine.check_machine(settings), "home").severity

    assert free(1 << 20) is Severity.FAIL
    assert free(1 << 30) is Severity.WARN
    assert free(1 << 40) is Severity.OK


def test_a_stale_stack_file_warns(settings: Settings) -> None:
    settings.home.mkdir()
    stale = {"pid": 2**22 + 1, "host": socket.gethostname()}
    settings.stack_file.write_text(json.dumps(stale))

    finding = of(machine.check_machine(settings), "stack")

    assert finding.severity is Severity.WARN
    assert "no longer runs" in finding.text
    assert settings.stack_file.exists()


def worker(name: str, *, protocol: int = PROTOCOL_VERSION, **fingerprint: str) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host="host",
        pid=7,
        device="cpu",
        queues=("inner.cpu",),
        protocol=protocol,
        version="0.1.0",
        fingerprint=json.dumps({"torch": "2.13.0", "cpu": "AVX512"} | fingerprint),
    )


def test_a_worker_of_another_protocol_fails_and_names_both_versions() -> None:
    finding = services._judge_worker(worker("cpu1@a", protocol=PROTOCOL_VERSION + 1), "")

    assert finding.severity is Severity.FAIL
    ours, theirs = PROTOCOL_VERSION, PROTOCOL_VERSION + 1
    assert f"speaks protocol {theirs}, this orchestrator protocol {ours}" in finding.text


def test_a_worker_with_another_signing_key_fails_and_the_setting_is_named() -> None:
    finding = services._judge_worker(worker("cpu1@a").with_proof("theirs"), "ours")

    assert finding.severity is Severity.FAIL
    assert "another signing key" in finding.text
    assert "METAFLEET_SIGNING_KEY" in finding.remedy


def test_the_odd_worker_of_a_queue_is_named_with_what_differs() -> None:
    fleet = [worker("cpu1@a"), worker("cpu2@a"), worker("cpu1@b", cpu="AVX2")]

    (finding,) = services._judge_fingerprints(fleet)

    assert finding.severity is Severity.WARN
    assert finding.text == (
        "cpu1@b computes other bits than most of its queue: cpu 'AVX2' not 'AVX512'"
    )
    assert services._judge_fingerprints(fleet[:2]) == []


def test_an_old_server_and_one_that_evicts_fail() -> None:
    facts = {"redis_version": "5.0.9", "maxmemory_policy": "allkeys-lru"}

    findings = services._judge_server("broker", "redis://host", 0.2, facts)

    assert [finding.severity for finding in findings] == ["ok", "fail", "fail"]
    assert findings[1].remedy == "install 6.2 or newer"
    assert "allkeys-lru" in findings[2].text


def test_valkey_is_judged_by_its_own_version() -> None:
    facts = {
        "server_name": "valkey",
        "redis_version": "7.2.4",
        "valkey_version": "8.1.4",
        "maxmemory_policy": "noeviction",
    }

    (finding,) = services._judge_server("broker", "redis://host", 0.2, facts)

    assert finding.text == "broker at redis://host: valkey 8.1.4, answers in 0.2 ms"


def test_unsigned_messages_over_a_network_warn(settings: Settings) -> None:
    remote = replace(settings, broker_url="redis://:words@broker.lab:6379/0")

    assert [f.severity for f in services._signing(remote)] == [Severity.WARN]
    assert services._signing(replace(remote, signing_key=16 * "k")) == []
    for url in (remote.broker_url, "redis://127.0.0.1:6379/0"):
        short = replace(remote, broker_url=url, signing_key="abc")
        (finding,) = services._signing(short)
        assert "signed with 3 bytes" in finding.text
        assert "abc" not in finding.text + finding.remedy
    assert services._signing(replace(settings, broker_url="redis://127.0.0.1/0")) == []


def test_features_that_workers_received_are_measured(settings: Settings) -> None:
    copy = settings.data_dir / "received" / ("a" * 64)
    copy.mkdir(parents=True)
    (copy / "text.npy").write_bytes(b"x" * 1_500_000)

    texts = [finding.text for finding in machine.check_machine(settings)]

    (told,) = (text for text in texts if "received" in text)
    assert told.endswith(
        "keeps 1 received data set, 1.5 MB; workers delete what is unused for 14 days "
        "(METAFLEET_RECEIVED_DAYS)"
    )
