"""Runs one computation at a time in a process of its own."""

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from metafleet.contracts.settings import Settings, orchestrator_environment
from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.trying.upload import Upload

_MODULE: Final = "metafleet.orchestrator.dashboard.trying.process"
LONGEST_S: Final = 180.0
"""After this time, a computation is ended."""


class Trial:
    """What the page "Try it" needs.

    Attributes:
        models: folders of models that the page offers.
        token: the token of forms in a dashboard without a password.
        busy: held from the first byte of an upload to the end of its computation.
    """

    def __init__(self, settings: Settings, models: tuple[str, ...] = ()) -> None:
        self.models = models
        self.token = secrets.token_urlsafe(32)
        self.busy = asyncio.Lock()
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._is_closed = False

    def close(self) -> None:
        """End the computation, which is then answered with an error."""
        self._is_closed = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def compute(self, upload: Upload, base: Mapping[str, Any]) -> dict[str, Any]:
        """Adapt to the examples and predict the queries.

        The files are in a private folder, which is removed at the end, also if the request is
        cancelled.

        Raises:
            ConfigError: something cannot be used, or it took too long; the message says which.
        """
        with tempfile.TemporaryDirectory(prefix="metafleet-try-") as folder:
            await asyncio.to_thread(upload.write, Path(folder))
            answer = await self._ask({"folder": folder, "base": dict(base)})
        if "problem" in answer:
            raise ConfigError(answer["problem"])
        return answer

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=orchestrator_environment(self._settings),
            start_new_session=True,  # Ctrl-C is for the server, which then ends this one
        )
        try:
            if self._is_closed:
                raise ConfigError("the dashboard is about to end")
            async with asyncio.timeout(LONGEST_S):
                output, _ = await process.communicate(json.dumps(request).encode())
        except TimeoutError as error:
            raise ConfigError(
                f"the computation took more than {LONGEST_S:.0f} s and was ended; give fewer files"
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not output:
            raise ConfigError(
                f"the process that computes ended with status {process.returncode}; try again"
            )
        answer: dict[str, Any] = json.loads(output)
        return answer
