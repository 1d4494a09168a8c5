import re
from typing import Any

import pytest
import yaml

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.keys import queue_of
from metafleet.orchestrator.config.engine import EngineSection
from tests.paths import REPOSITORY

COMPOSE_TEXT = (REPOSITORY / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("metafleet:")]
WORKERS = [name for name in SERVICES if name.startswith("worker-")]
ONE_SHOT = ["migrate", "orchestrator"]
SECRET = re.compile(r"[A-Z_]*(PASSWORD|KEY)")
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:[-?])?([^}]*)\}")


def example_settings() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def megabytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([gm])b?", text).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "g" else 1)


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return service.get("environment", {})


def test_no_password_and_no_key_has_a_default() -> None:
    interpolations = VARIABLE.findall(COMPOSE_TEXT)

    secrets = [(name, how) for name, how, _ in interpolations if SECRET.fullmatch(name)]

    assert {name for name, _ in secrets} == {
        "BROKER_PASSWORD",
        "BLOBS_PASSWORD",
        "POSTGRES_PASSWORD",
        "FLOWER_PASSWORD",
        "DASHBOARD_PASSWORD",
        "GRAFANA_PASSWORD",
        "METAFLEET_SIGNING_KEY",
    }
    assert {how for _, how in secrets} == {":?"}


def test_the_example_leaves_every_secret_empty() -> None:
    given = {name: value for name, value in example_settings().items() if SECRET.fullmatch(name)}

    assert len(given) == 7
    assert set(given.values()) == {""}


def test_compose_and_the_example_name_the_same_variables() -> None:
    assert {name for name, _, _ in VARIABLE.findall(COMPOSE_TEXT)} == set(example_settings())


def test_the_example_shows_the_defaults_of_compose() -> None:
    defaults = {name: text for name, how, text in VARIABLE.findall(COMPOSE_TEXT) if how == ":-"}

    assert defaults.items() <= example_settings().items()


def test_web_pages_alone_are_published_and_on_loopback_alone() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}

    assert list(published) == ["flower", "dashboard", "grafana"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_the_dashboard_has_a_password() -> None:
    environment = environment_of(SERVICES["dashboard"])

    assert environment["METAFLEET_DASHBOARD_PASSWORD"].startswith("${DASHBOARD_PASSWORD:?")


def test_flower_asks_for_a_password_and_only_reads() -> None:
    flower = SERVICES["flower"]

    assert ":${FLOWER_PASSWORD:?" in environment_of(flower)["FLOWER_BASIC_AUTH"]
    assert "--read-only=True" in flower["command"].split()


def test_flower_knows_the_broker_and_no_other_secret() -> None:
    given = environment_of(SERVICES["flower"])
    secrets = {name for v in given.values() for name, *_ in VARIABLE.findall(v)}

    assert {name for name in secrets if SECRET.fullmatch(name)} == {
        "BROKER_PASSWORD",
        "FLOWER_PASSWORD",
    }
    assert (
        given["METAFLEET_BROKER_URL"]
        == (environment_of(SERVICES["worker-cpu"])["METAFLEET_BROKER_URL"])
    )


def test_processes_of_cpu_workers_alone_are_renewed_now_and_then() -> None:
    renewed = [n for n in WORKERS if "--max-tasks-per-child 1000" in SERVICES[n]["command"]]

    assert renewed == ["worker-cpu"]
    assert make_app("redis://localhost/0").conf.worker_max_tasks_per_child is None


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_an_init_process_a_grace_period_and_no_new_privileges(name: str) -> None:
    service = SERVICES[name]

    assert service["init"] is True
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_can_write_to_volumes_and_memory_alone(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert any(mount.startswith("/tmp:") and "size=" in mount for mount in service["tmpfs"])
    assert service["pids_limit"] > 0
    assert service["mem_limit"]


@pytest.mark.parametrize("name", SERVICES)
def test_capabilities_are_dropped_but_those_by_which_postgres_becomes_its_user(name: str) -> None:
    kept = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} if name == "postgres" else set()

    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert set(SERVICES[name].get("cap_add", [])) == kept


def test_the_database_is_reached_by_orchestrators_and_the_exporter_alone() -> None:
    networks: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)["networks"]
    members = {net: {n for n, s in SERVICES.items() if net in s["networks"]} for net in networks}

    assert networks["database"] == {"internal": True}
    assert members["database"] == {"postgres", "migrate", "orchestrator", "exporter", "dashboard"}
    assert members["monitoring"] == {"exporter", "prometheus", "grafana"}
    others = ("postgres", "migrate", "prometheus", "grafana")
    assert members["fleet"] == {n for n in SERVICES if n not in others}


@pytest.mark.parametrize("name", ["broker", "blobs"])
def test_a_redis_may_use_more_than_it_keeps(name: str) -> None:
    kept, limit = (example_settings()[f"{name.upper()}_{what}"] for what in ("MEMORY", "LIMIT"))

    assert megabytes(limit) > 1.4 * megabytes(kept)


@pytest.mark.parametrize("name", WORKERS)
def test_workers_write_to_memory_what_is_not_data(name: str) -> None:
    given = environment_of(SERVICES[name])

    assert given["METAFLEET_HOME"].startswith("/tmp/")
    assert given["METAFLEET_HEARTBEAT_DIR"].startswith("/tmp/")
    assert f"data:{given['METAFLEET_DATA_DIR']}" in SERVICES[name]["volumes"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONE_SHOT])
def test_every_lasting_service_says_whether_it_is_well(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", WORKERS)
def test_a_stopped_worker_may_end_its_longest_job(name: str) -> None:
    grace_s = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    assert grace_s > EngineSection().job_deadline_s


@pytest.mark.parametrize("name", WORKERS)
def test_workers_hold_no_database_credentials(name: str) -> None:
    values = " ".join(map(str, environment_of(SERVICES[name]).values()))

    assert "POSTGRES" not in values
    assert "METAFLEET_DATABASE_URL" not in environment_of(SERVICES[name])


@pytest.mark.parametrize(
    ("name", "device"), [("worker-cpu", "cpu"), ("worker-gpu", "cuda")], ids=["cpu", "gpu"]
)
def test_workers_listen_to_the_queue_of_their_device(name: str, device: str) -> None:
    words = SERVICES[name]["command"].split()

    assert words[words.index("--queues") + 1] == queue_of(device)
    assert environment_of(SERVICES[name])["METAFLEET_DEVICE"] == device
    assert {"--without-gossip", "--without-mingle"} <= set(words)


def test_a_gpu_worker_starts_only_when_asked_for() -> None:
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert [n for n in WORKERS if "profiles" not in SERVICES[n]] == ["worker-cpu"]


@pytest.mark.parametrize("name", OURS)
def test_services_set_only_variables_that_are_read(name: str) -> None:
    source = (REPOSITORY / "contracts" / "settings.py").read_text()
    read = set(re.findall(r"METAFLEET_[A-Z_]+", source))

    given = {key for key in environment_of(SERVICES[name]) if key.startswith("METAFLEET_")}

    assert given
    assert given <= read


def test_the_image_runs_as_a_user_without_rights() -> None:
    stages = (REPOSITORY / "Dockerfile").read_text().split("\nFROM ")

    users = re.findall(r"^USER (\S+)$", stages[-1], flags=re.MULTILINE)

    assert users == ["10001:10001"]
    assert not any("user" in SERVICES[name] for name in OURS)
    assert {SERVICES[name].get("user") for name in ("broker", "blobs")} == {"redis"}


def test_the_image_is_built_from_pinned_dependencies_and_named_bases() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    bases = re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE)

    assert set(bases) == {"python:3.11-slim-bookworm", "dependencies"}
    assert "-c constraints.txt" in dockerfile
    assert {s["image"] for s in SERVICES.values()} == {
        "metafleet:${IMAGE_TAG:-local}",
        "metafleet:${IMAGE_TAG:-local}-gpu",
        "redis:7-bookworm",
        "postgres:15-bookworm",
        "prom/prometheus:v2.55.1",
        "grafana/grafana:11.6.0",
    }
