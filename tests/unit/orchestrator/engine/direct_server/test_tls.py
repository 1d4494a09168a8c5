"""Direct transfers over TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metafleet.contracts.codec import encode
from metafleet.contracts.direct_client import DirectClient
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.direct_server import DirectServer, open_tls
from tests.certificates import make_certificate
from tests.unit.orchestrator.engine.direct_server.calls import KEY, SUM


class TestTls:
    @pytest.fixture
    def encrypted(self, tmp_path: Path) -> Iterator[tuple[DirectServer, str]]:
        files = make_certificate(tmp_path / "ours")
        server = DirectServer("127.0.0.1", KEY, tls=open_tls(files.cert, files.key))
        yield server, files.ca
        server.close()

    def test_blobs_go_both_ways(self, encrypted: tuple[DirectServer, str]) -> None:
        server, ca = encrypted
        large = encode({"weight": torch.randn(2**20)})
        server.offer("state", large)
        server.expect("sum", large.n_bytes)
        client = DirectClient(KEY, ca_file=ca)

        assert server.address.startswith("https://127.0.0.1:")
        found = client.fetch(server.address, "state", large.n_bytes)
        assert found is not None and (bytes(found[0]), found[1]) == (large.join(), large.digest())
        assert client.give(server.address, "sum", large) == large.digest()
        received = server.fetch("sum", large.n_bytes)
        assert received is not None and bytes(received[0]) == large.join()

    def test_an_orchestrator_of_another_authority_is_given_nothing(
        self,
        encrypted: tuple[DirectServer, str],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        server, _ = encrypted
        server.expect("sum", SUM.n_bytes)
        for ca_file in (make_certificate(tmp_path / "other").ca, ""):
            assert DirectClient(KEY, ca_file=ca_file).give(server.address, "sum", SUM) is None
        assert server.is_expected("sum", SUM.n_bytes)
        assert "certificate verify failed" in caplog.text

    def test_a_certificate_of_another_host_is_refused(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = make_certificate(tmp_path, host="another.example")
        server = DirectServer("127.0.0.1", KEY, tls=open_tls(files.cert, files.key))
        try:
            client = DirectClient(KEY, ca_file=files.ca)
            assert client.give(server.address, "sum", SUM) is None
        finally:
            server.close()
        assert "IP address mismatch" in caplog.text

    def test_an_unencrypted_caller_gets_no_answer(
        self, encrypted: tuple[DirectServer, str]
    ) -> None:
        server, _ = encrypted
        server.offer("state", SUM)
        plain = server.address.replace("https", "http")

        assert DirectClient(KEY).fetch(plain, "state", SUM.n_bytes) is None

    def test_unusable_files_are_one_line(self, tmp_path: Path) -> None:
        ours, others = make_certificate(tmp_path / "a"), make_certificate(tmp_path / "b")
        no_pem = tmp_path / "no.pem"
        no_pem.write_text("no certificate")
        locked = tmp_path / "locked.pem"
        locked.write_text(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
        )
        for cert, key in [
            (str(tmp_path / "missing"), ""),
            (ours.cert, str(tmp_path / "missing")),
            (ours.cert, others.key),
            (ours.cert, ""),
            (ours.cert, str(locked)),
            (str(no_pem), ours.key),
            (str(tmp_path), ours.key),
        ]:
            with pytest.raises(ConfigError, match="METAFLEET_DIRECT_CERT cannot be used") as found:
                open_tls(cert, key)
            assert "\n" not in str(found.value)
        for ca_file in (tmp_path / "missing", no_pem, tmp_path):
            with pytest.raises(ConfigError, match="METAFLEET_DIRECT_CA"):
                DirectClient(KEY, ca_file=str(ca_file))

    def test_a_file_may_hold_certificate_and_key(self, tmp_path: Path) -> None:
        files = make_certificate(tmp_path)
        both = tmp_path / "both.pem"
        both.write_text(Path(files.cert).read_text() + Path(files.key).read_text())

        assert isinstance(open_tls(str(both), ""), ssl.SSLContext)
