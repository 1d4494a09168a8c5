"""What a worker makes of servers that are not ours."""

import socket
import threading

import pytest

from metafleet.contracts.direct import proof, state_target
from metafleet.contracts.direct_client import DirectClient
from metafleet.orchestrator.engine.direct_server import DirectServer
from tests.tcp_proxy import TcpProxy
from tests.unit.orchestrator.engine.direct_server.calls import KEY, SUM, port_of


class TestClient:
    """What a worker makes of servers that are not ours."""

    @staticmethod
    def answering(answer: bytes) -> tuple[str, threading.Thread]:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with listener, listener.accept()[0] as stream:
                stream.recv(2**16)
                stream.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}", thread

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nMetafleet-Proof: \xe9\r\n\r\n",
            b"metafleet direct 1\n",
            b"HTTP/1.1 99999 what\r\n\r\n",
            b"",
        ],
        ids=["no-proof", "no-proof-204", "wrong-proof", "no-http", "bad-status", "nothing"],
    )
    def test_a_foreign_answer_is_ignored(
        self, answer: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = DirectClient(KEY)
        for ask in (
            lambda address: client.fetch(address, "key", 4),
            lambda address: client.give(address, "key", SUM),
        ):
            address, thread = self.answering(answer)
            assert ask(address) is None
            assert client.to(address) is None, "an address that is not ours is avoided a while"
            thread.join(10)
        assert caplog.text.count("tensors go through the store") == 2

    @pytest.mark.parametrize(
        "address",
        ["http://127.0.0.1:1", "http://127.0.0.1:x", "http://", "ftp", "http://no.invalid:1"],
    )
    def test_an_address_that_is_not_reached_is_reported_once(
        self, address: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = DirectClient(KEY)

        assert client.fetch(address, "key", 4) is None

        assert client.to(address) is None
        (told,) = caplog.records
        assert told.getMessage().startswith(f"{address} is not reached directly (")

    @pytest.mark.parametrize("length", [3, 5])
    def test_a_state_of_another_length_is_none(self, length: int) -> None:
        code = proof(KEY, "GET", state_target("key", 4))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nMetafleet-Proof: {code}\r\n\r\n"
        address, thread = self.answering(head.encode() + bytes(length))

        assert DirectClient(KEY).fetch(address, "key", 4) is None
        thread.join(10)

    def test_a_connection_that_went_stale_is_opened_again(self, server: DirectServer) -> None:
        server.offer("state", SUM)
        server.expect("sum", SUM.n_bytes)
        proxy = TcpProxy(port_of(server))
        try:
            route = DirectClient(KEY).to(f"http://127.0.0.1:{proxy.port}")
            assert route is not None
            assert route.fetch("state", SUM.n_bytes) is not None
            proxy.cut()
            assert route.fetch("state", SUM.n_bytes) is not None
            proxy.cut()
            assert route.give("sum", SUM) == SUM.digest()
        finally:
            proxy.close()
