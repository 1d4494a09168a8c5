"""The deployment's settings, read once from the environment.

Precedence: command line > environment > the stack file written by ``metafleet up`` > default. If
the environment names a broker, the whole stack file is ignored, because all of its entries belong
to the stack's own broker. No other module reads ``os.environ``.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from metafleet.contracts.private_files import private_files
from metafleet.errors import ConfigError
from metafleet.passwords import redact_url
from metafleet.tracking.targets import absolute_target

_IN_STACK_FILE = ("broker_url", "blobs_url", "signing_key")
DEVICES = ("auto", "cpu", "cuda")
FETCHING = ("prepare", "always", "never")
"""When weights of pretrained encoders may be downloaded."""
ATTEMPT_LOGS = ("failed", "all")
"""Attempts whose log lines are kept in the database."""
LOG_FORMATS = ("text", "json")
RECEIVED_DAYS: Final = 14
_MOST_DAYS: Final = 36500
_SECRET_NAME: Final = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIALS|_KEY|_AUTH)\Z")
"""How the name of an environment variable ends that holds a secret."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One deployment. Secrets are kept out of ``repr``.

    Attributes:
        home: METAFLEET_HOME; the folder of runs, checkpoints, prepared data, compiled programs and
            the default database, "~/.metafleet" by default.
        database_url: METAFLEET_DATABASE_URL; the database, "postgresql+psycopg://..." for example.
            The default is SQLite in METAFLEET_HOME. Only the orchestrator reads it; `metafleet db
            upgrade` creates the tables.
        broker_url: METAFLEET_BROKER_URL; Redis for messages ("redis://" or "rediss://"). The
            default is the Redis that `metafleet up` started.
        blobs_url: METAFLEET_BLOBS_URL; the store that carries tensors between hosts: Redis,
            "file:///shared/folder", or an object store like "s3://bucket/folder" (extra
            ``objects``). The default is the broker.
        data_dir: METAFLEET_DATA_DIR; prepared and downloaded data, "METAFLEET_HOME/data" by
            default.
        signing_key: METAFLEET_SIGNING_KEY; the key that orchestrator and workers share. If it is
            set, unsigned messages are refused. The default is the key of `metafleet up`.
        device: METAFLEET_DEVICE; the compute device of a worker: "auto" (the default), "cpu" or
            "cuda".
        allowed_packages: METAFLEET_ALLOWED_PACKAGES; your packages that may be imported for
            learners, models and data, separated by commas; none by default.
        fetch_weights: METAFLEET_FETCH_WEIGHTS; when weights of pretrained encoders may be
            downloaded. With "prepare" (the default), weights may be downloaded while data are
            prepared or imported, and by `metafleet adapt`. With "always", every command of the
            orchestrator may download weights. With "never", no command may do so. Workers never
            download weights.
        received_days: METAFLEET_RECEIVED_DAYS; number of days, 14 by default, for which a worker's
            host keeps features that it has received from an orchestrator. The days are counted from
            the last use of the features. The features are in the folder "received" of the data;
            `metafleet doctor` shows their size.
        heartbeat_dir: METAFLEET_HEARTBEAT_DIR; each worker touches a file here every two seconds,
            "METAFLEET_HOME/heartbeats" by default.
        allows_chaos: METAFLEET_CHAOS; "1" lets `metafleet chaos` kill workers of this machine.
        direct_address: METAFLEET_DIRECT_ADDRESS; "host" or "host:port" at which workers on other
            hosts reach the orchestrator to exchange tensors over HTTP. It requires the signing
            key. If it is not set, tensors go through the blob store. Only the orchestrator reads
            it.
        direct_cert: METAFLEET_DIRECT_CERT; PEM file of the certificate for that address. Tensors
            then go over HTTPS. Only the orchestrator reads it.
        direct_cert_key: METAFLEET_DIRECT_CERT_KEY; PEM file of the certificate's private key, if
            it is a separate file. Only the orchestrator reads it.
        direct_ca: METAFLEET_DIRECT_CA; PEM file of the certificates with which workers verify the
            orchestrator's certificate; by default, the certificates that the system trusts. Only
            workers read it.
        track: METAFLEET_TRACK; the trackers to which runs are sent while they are executed,
            separated by commas: "tensorboard:FOLDER", "mlflow:URI", "wandb:PROJECT",
            "trackio:PROJECT", "jsonl:FOLDER" or "parquet:FOLDER". Only the orchestrator reads it.
        dashboard_password: METAFLEET_DASHBOARD_PASSWORD; the password of `metafleet dashboard`.
            Without one, the dashboard is read-only and only this machine can reach it.
        dashboard_hosts: METAFLEET_DASHBOARD_HOSTS; further host names under which browsers may
            reach the dashboard, separated by commas, such as the name of a proxy.
        flower_url: METAFLEET_FLOWER_URL; URL of Flower as browsers reach it,
            "http://localhost:5555" for example. The dashboard then links to it. The default is
            none.
        log_format: METAFLEET_LOG; form of log lines: "text" (the default) or "json", with one JSON
            object a line.
        attempt_logs: METAFLEET_ATTEMPT_LOGS; the attempts whose log lines are kept in the database
            for `metafleet runs log`: "failed" (the default) for attempts whose result did not
            count, or "all". Only the orchestrator reads it.
        traces_url: METAFLEET_TRACES; URL of a collector to which orchestrators and workers send
            traces by OTLP over HTTP, "http://host:4318/v1/traces" for example (extra
            ``telemetry``). The default is none.
        host_cache_dir: METAFLEET_HOST_CACHE_DIR; the folder in memory through which processes of
            one host exchange tensors, "/dev/shm/metafleet-UID" by default.
    """

    home: Path
    database_url: str = field(repr=False)
    broker_url: str | None = field(repr=False)
    blobs_url: str | None = field(repr=False)
    data_dir: Path
    signing_key: str = field(repr=False)
    device: str
    allowed_packages: tuple[str, ...]
    heartbeat_dir: Path
    host_cache_dir: Path
    allows_chaos: bool = False
    fetch_weights: str = "prepare"
    received_days: int = RECEIVED_DAYS
    direct_address: str = ""
    direct_cert: str = ""
    direct_cert_key: str = ""
    direct_ca: str = ""
    track: tuple[str, ...] = ()
    dashboard_password: str = field(default="", repr=False)
    dashboard_hosts: tuple[str, ...] = ()
    flower_url: str = ""
    log_format: str = LOG_FORMATS[0]
    attempt_logs: str = ATTEMPT_LOGS[0]
    traces_url: str = ""

    @property
    def runs_dir(self) -> Path:
        """The folder of checkpoints, with one folder for each run."""
        return self.home / "runs"

    @property
    def programs_dir(self) -> Path:
        """The folder of compiled programs, for all processes of this host."""
        return self.home / "programs"

    @property
    def stack_file(self) -> Path:
        """The file in which ``metafleet up`` records how to reach the embedded stack."""
        return self.home / "stack.json"

    @classmethod
    def load(
        cls, environ: Mapping[str, str] | None = None, *, given: Mapping[str, str] | None = None
    ) -> "Settings":
        """Return the settings from the environment (or ``environ``), the stack file and defaults.

        Args:
            environ: variables to read instead of the environment.
            given: variables that replace variables of the same name in the environment.

        Raises:
            ConfigError: a variable has an invalid value, or the stack file is unusable.
        """
        env = {**(os.environ if environ is None else environ), **(given or {})}
        home = _folder(env, "METAFLEET_HOME", "~/.metafleet")
        stack = _read_stack_file(home / "stack.json")
        if env.get("METAFLEET_BROKER_URL"):
            stack = {}  # another server's blobs and key would not fit this broker
        broker_url = env.get("METAFLEET_BROKER_URL") or stack.get("broker_url")
        packages = env.get("METAFLEET_ALLOWED_PACKAGES", "")
        return cls(
            home=home,
            database_url=env.get("METAFLEET_DATABASE_URL") or f"sqlite:///{home}/metafleet.db",
            broker_url=broker_url,
            blobs_url=env.get("METAFLEET_BLOBS_URL") or stack.get("blobs_url") or broker_url,
            data_dir=_folder(env, "METAFLEET_DATA_DIR", home / "data"),
            signing_key=env.get("METAFLEET_SIGNING_KEY") or stack.get("signing_key", ""),
            device=_choice(env, "METAFLEET_DEVICE", DEVICES),
            allowed_packages=_listed(packages),
            heartbeat_dir=_folder(env, "METAFLEET_HEARTBEAT_DIR", home / "heartbeats"),
            direct_address=env.get("METAFLEET_DIRECT_ADDRESS", ""),
            direct_cert=env.get("METAFLEET_DIRECT_CERT", ""),
            direct_cert_key=env.get("METAFLEET_DIRECT_CERT_KEY", ""),
            direct_ca=env.get("METAFLEET_DIRECT_CA", ""),
            track=tuple(map(absolute_target, _listed(env.get("METAFLEET_TRACK", "")))),
            dashboard_password=env.get("METAFLEET_DASHBOARD_PASSWORD", ""),
            dashboard_hosts=_listed(env.get("METAFLEET_DASHBOARD_HOSTS", "")),
            flower_url=_http_url(env, "METAFLEET_FLOWER_URL", "http://localhost:5555"),
            fetch_weights=_choice(env, "METAFLEET_FETCH_WEIGHTS", FETCHING),
            log_format=_choice(env, "METAFLEET_LOG", LOG_FORMATS),
            traces_url=_http_url(env, "METAFLEET_TRACES", "http://host:4318/v1/traces"),
            attempt_logs=_choice(env, "METAFLEET_ATTEMPT_LOGS", ATTEMPT_LOGS),
            received_days=_days(env, "METAFLEET_RECEIVED_DAYS", RECEIVED_DAYS),
            allows_chaos=env.get("METAFLEET_CHAOS") == "1",
            host_cache_dir=_folder(env, "METAFLEET_HOST_CACHE_DIR", _memory_folder()),
        )


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment for a worker process: this process's environment and these settings.

    The database URL and the dashboard's password are left out, because workers must not have them.
    """
    wanted = {
        "METAFLEET_HOME": str(settings.home),
        "METAFLEET_BROKER_URL": settings.broker_url,
        "METAFLEET_BLOBS_URL": settings.blobs_url,
        "METAFLEET_DATA_DIR": str(settings.data_dir),
        "METAFLEET_SIGNING_KEY": settings.signing_key,
        "METAFLEET_DEVICE": settings.device,
        "METAFLEET_HEARTBEAT_DIR": str(settings.heartbeat_dir),
        "METAFLEET_HOST_CACHE_DIR": str(settings.host_cache_dir),
        "METAFLEET_ALLOWED_PACKAGES": ",".join(settings.allowed_packages),
        "METAFLEET_DIRECT_CA": settings.direct_ca,
        "METAFLEET_FETCH_WEIGHTS": settings.fetch_weights,
        "METAFLEET_RECEIVED_DAYS": str(settings.received_days),
        "METAFLEET_LOG": settings.log_format,
        "METAFLEET_TRACES": settings.traces_url,
    }
    inherited = {name: value for name, value in os.environ.items() if name not in wanted}
    for secret in ("METAFLEET_DATABASE_URL", "METAFLEET_DASHBOARD_PASSWORD"):
        inherited.pop(secret, None)
    return inherited | {name: value for name, value in wanted.items() if value}


def orchestrator_environment(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process that also accesses the database."""
    own = {
        "METAFLEET_DATABASE_URL": settings.database_url,
        "METAFLEET_DIRECT_ADDRESS": settings.direct_address,
        "METAFLEET_DIRECT_CERT": settings.direct_cert,
        "METAFLEET_DIRECT_CERT_KEY": settings.direct_cert_key,
        "METAFLEET_TRACK": ",".join(settings.track),
        "METAFLEET_ATTEMPT_LOGS": settings.attempt_logs,
    }
    return child_environment(settings) | {name: value for name, value in own.items() if value}


def secret_variables() -> tuple[str, ...]:
    """Return the values of environment variables whose names say that they are secret."""
    return tuple(value for name, value in os.environ.items() if _SECRET_NAME.search(name))


def make_folder(path: Path, what: str) -> None:
    """Create a folder and its parents if they are missing, and check that it can be written to.

    Args:
        path: the folder.
        what: description of the folder, such as "the folder of logs". Error messages begin with
            this description.

    Raises:
        ConfigError: the folder cannot be created or written to.
    """
    try:
        with private_files():
            path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # for root, os.access always returns True
            return
    except OSError as error:
        raise ConfigError(
            f"{what} {path} cannot be written ({error.strerror or error}); "
            "choose another place in METAFLEET_HOME, or make room there"
        ) from error


def _memory_folder() -> Path:
    """Return this user's folder in memory, or in the temporary folder if there is none."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    return parent / f"metafleet-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def _folder(env: Mapping[str, str], name: str, default: str | Path) -> Path:
    folder = env.get(name) or default
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(
            f"{name}={str(folder)!r}: there is no such home directory; write the path out"
        ) from error


def _http_url(env: Mapping[str, str], name: str, example: str) -> str:
    url = env.get(name, "")
    if url and not re.match(r"https?://[^/\s]+", url):
        shown = redact_url(url)
        raise ConfigError(f"{name}={shown!r}; expected {example} or https://...")
    return url


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return the value of a variable, or the first choice if it is not set."""
    value = env.get(name) or choices[0]
    if value not in choices:
        raise ConfigError(f"{name}={value!r}; expected one of {', '.join(choices)}")
    return value


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _days(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= _MOST_DAYS):
        raise ConfigError(f"{name}={text!r:.40}; expected a whole number from 1 to {_MOST_DAYS}")
    return int(text)


def _read_stack_file(path: Path) -> dict[str, str]:
    try:
        stack = json.loads(path.read_text())
    except (
        FileNotFoundError,
        NotADirectoryError,
    ):  # if the home is a file, the first write reports that
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the stack file {path} cannot be read ({error}); delete it and start `metafleet up`"
        ) from error
    if not isinstance(stack, dict):
        raise ConfigError(f"the stack file {path} is not a JSON object; delete it")
    known = {name: stack[name] for name in _IN_STACK_FILE if stack.get(name)}
    for name, value in known.items():
        if not isinstance(value, str):
            found = type(value).__name__  # not the value: it may be a secret
            raise ConfigError(f"the stack file {path} has {found} {name}, not a text; delete it")
    return known
