from collections.abc import Iterator

import pytest

from metafleet.orchestrator.engine.direct_server import DirectServer
from tests.unit.orchestrator.engine.direct_server.calls import KEY


@pytest.fixture
def server() -> Iterator[DirectServer]:
    opened = DirectServer("127.0.0.1", KEY)
    yield opened
    opened.close()
