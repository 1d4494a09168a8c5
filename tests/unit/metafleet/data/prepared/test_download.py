import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from metafleet.data.prepared.download import RemoteFile, RetryPolicy, UnpinnedFile, download
from metafleet.errors import DataCorruptError, DataError

CONTENT = random.Random(5).randbytes(300_000)
HASTY = RetryPolicy(attempts=3, timeout_s=0.3, wait_s=0.001)


class FlakyServer(ThreadingHTTPServer):
    """Serves CONTENT the way ``script`` says, one entry for each request; then soundly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = CONTENT
        self.script: list[Callable[[_Handler], None]] = []
        self.ranges: list[str | None] = []
        self.release = threading.Event()

    def file(self, **changes) -> RemoteFile:
        facts = {
            "name": "data.zip",
            "url": f"http://127.0.0.1:{self.server_port}/data.zip",
            "n_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
        }
        return RemoteFile(**{**facts, **changes})

    def archive(self, max_bytes: int = len(CONTENT), check=lambda path: None) -> UnpinnedFile:
        return UnpinnedFile(name="data.zip", url=self.file().url, max_bytes=max_bytes, check=check)


class _Handler(BaseHTTPRequestHandler):
    server: FlakyServer

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        answer = self.server.script.pop(0) if self.server.script else soundly
        answer(self)

    def log_message(self, *args) -> None:
        """Be quiet."""

    def start(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def soundly(handler: _Handler) -> None:
    content, wanted = handler.server.content, handler.headers.get("Range")
    if wanted is None:
        handler.start(200, Content_Length=str(len(content)))
        handler.wfile.write(content)
        return
    first = int(wanted.removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {first}-{len(content) - 1}/{len(content)}"
    handler.start(206, Content_Length=str(len(content) - first), Content_Range=span)
    handler.wfile.write(content[first:])


def without_ranges(handler: _Handler) -> None:
    handler.start(200, Content_Length=str(len(handler.server.content)))
    handler.wfile.write(handler.server.content)


def cut_after(n_bytes: int) -> Callable[[_Handler], None]:
    def answer(handler: _Handler) -> None:
        wanted = handler.headers.get("Range") or "bytes=0-"
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        rest = len(handler.server.content) - first
        status = 206 if first else 200
        handler.start(status, Content_Length=str(rest))
        handler.wfile.write(handler.server.content[first : first + n_bytes])

    return answer


def hang(handler: _Handler) -> None:
    handler.start(200, Content_Length=str(len(CONTENT)))
    handler.wfile.write(CONTENT[:1000])
    handler.wfile.flush()
    handler.server.release.wait(timeout=30)


def say_nothing(handler: _Handler) -> None:
    handler.server.release.wait(timeout=30)


def hang_up(handler: _Handler) -> None:
    handler.close_connection = True


def without_length(n_bytes: int) -> Callable[[_Handler], None]:
    """Send CONTENT in chunks, as a server does that packs while it sends; end after n_bytes."""

    def answer(handler: _Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.start(200, Transfer_Encoding="chunked", Connection="close")
        for start in range(0, n_bytes, 50_000):
            piece = CONTENT[start : min(start + 50_000, n_bytes)]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if n_bytes == len(CONTENT):
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def status(code: int) -> Callable[[_Handler], None]:
    return lambda handler: handler.start(code, Content_Length="0")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with FlakyServer() as flaky:
        thread = threading.Thread(target=flaky.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield flaky
        flaky.release.set()
        flaky.shutdown()
        thread.join()


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    seen = []

    path = download(server.file(), tmp_path / "new", progress=lambda *step: seen.append(step))
    download(server.file(), tmp_path / "new")

    assert path.read_bytes() == CONTENT
    assert names_in(tmp_path / "new") == ["data.zip"]
    assert len(server.ranges) == 1
    assert seen == sorted(seen) and seen[-1] == ("downloading data.zip", len(CONTENT), len(CONTENT))


def test_a_cut_connection_goes_on_where_it_ended(server, tmp_path):
    server.script = [cut_after(100_000), cut_after(50_000)]

    path = download(server.file(), tmp_path, retry=HASTY)

    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_an_earlier_process_s_part_is_used(server, tmp_path):
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:123_456])

    assert download(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=123456-"]


def test_a_complete_part_needs_no_connection(server, tmp_path):
    (tmp_path / "data.zip.part").write_bytes(CONTENT)

    assert download(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == []


@pytest.mark.parametrize("n_bytes", [1000, len(CONTENT), len(CONTENT) + 5])
def test_a_part_of_something_else_is_thrown_away(server, tmp_path, n_bytes):
    (tmp_path / "data.zip.part").write_bytes(b"?" * n_bytes)

    assert download(server.file(), tmp_path).read_bytes() == CONTENT
    assert names_in(tmp_path) == ["data.zip"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.script = [cut_after(100_000), without_ranges]

    assert download(server.file(), tmp_path, retry=HASTY).read_bytes() == CONTENT


def test_a_server_that_has_less_than_we_do_starts_over(server, tmp_path):
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:5000])
    server.script = [status(416)]

    assert download(server.file(), tmp_path, retry=HASTY).read_bytes() == CONTENT
    assert server.ranges == ["bytes=5000-", None]


def test_a_silent_server_is_given_up_and_asked_again(server, tmp_path):
    server.script = [hang]

    assert download(server.file(), tmp_path, retry=HASTY).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("answer", [say_nothing, hang_up])
def test_a_server_without_an_answer_is_asked_again(server, tmp_path, answer):
    server.script = [answer]

    assert download(server.file(), tmp_path, retry=HASTY).read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.script = [status(503), status(429)]

    assert download(server.file(), tmp_path, retry=HASTY).read_bytes() == CONTENT


def test_a_refusal_is_one_line_with_the_way_out(server, tmp_path):
    server.script = [status(404)]

    with pytest.raises(DataError, match=r"HTTP 404 Not Found; .* put it at .*data\.zip$"):
        download(server.file(), tmp_path, retry=HASTY)
    assert len(server.ranges) == 1


def test_what_came_is_kept_when_the_server_stays_away(server, tmp_path):
    server.script = [cut_after(70_000), *[status(503)] * 3]

    with pytest.raises(DataError, match="70000 of 300000 bytes are kept, run it again to go on"):
        download(server.file(), tmp_path, retry=HASTY)
    assert names_in(tmp_path) == ["data.zip.part"]

    assert download(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=70000-"


def test_no_server_at_all_is_one_line(server, tmp_path):
    remote = server.file(url="http://127.0.0.1:9/data.zip")

    with pytest.raises(DataError, match="cannot download http://127") as caught:
        download(remote, tmp_path, retry=HASTY)
    assert "\n" not in str(caught.value)


def test_wrong_bytes_never_get_the_name(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])

    with pytest.raises(DataCorruptError, match=r"has sha256 .*, expected .*; it was deleted"):
        download(server.file(), tmp_path, retry=HASTY)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:-4]])
def test_another_size_is_refused_before_the_download(server, tmp_path, content):
    server.content = content

    with pytest.raises(DataCorruptError, match=f"has {len(content)} bytes, expected 300000"):
        download(server.file(), tmp_path, retry=HASTY)
    assert names_in(tmp_path) == []


def test_a_damaged_file_under_the_name_is_replaced(server, tmp_path):
    (tmp_path / "data.zip").write_bytes(CONTENT[:-1] + b"?")

    assert download(server.file(), tmp_path).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DataError, match=r"cannot write .*METAFLEET_DATA_DIR"):
        download(server.file(), tmp_path / "file", retry=HASTY)


def test_two_at_once_download_once(server, tmp_path):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(download(server.file(), tmp_path)))
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len(paths) == 4 and paths[0].read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("answer", [soundly, without_length(len(CONTENT))])
def test_an_unpinned_file_is_checked_before_it_gets_its_name(server, tmp_path, answer):
    server.script, checked = [answer], []

    def check(path):
        checked.append((path.read_bytes(), names_in(tmp_path)))

    for _ in range(2):
        assert download(server.archive(check=check), tmp_path).read_bytes() == CONTENT

    assert checked == [(CONTENT, ["data.zip.part"])]
    assert names_in(tmp_path) == ["data.zip"] and len(server.ranges) == 1


@pytest.mark.parametrize("answer", [cut_after(100_000), without_length(100_000)])
def test_an_unpinned_file_is_never_resumed(server, tmp_path, answer):
    (tmp_path / "data.zip.part").write_bytes(b"?" * 1000)
    server.script = [answer, status(503)]

    assert download(server.archive(), tmp_path, retry=HASTY).read_bytes() == CONTENT
    assert server.ranges == [None, None, None]


def test_an_unpinned_file_with_other_content_is_deleted(server, tmp_path):
    def refuse(path):
        raise DataCorruptError("other content")

    with pytest.raises(DataCorruptError, match="other content"):
        download(server.archive(check=refuse), tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("answer", [soundly, without_length(len(CONTENT))])
def test_an_unpinned_file_that_is_too_large_is_refused(server, tmp_path, answer):
    server.script = [answer]

    with pytest.raises(DataError, match="has more than 299999 bytes; refused"):
        download(server.archive(max_bytes=len(CONTENT) - 1), tmp_path)
    assert names_in(tmp_path) == []


def test_nothing_is_kept_of_an_unpinned_file_whose_server_stays_away(server, tmp_path):
    server.script = [cut_after(1000)] * 3

    with pytest.raises(
        DataError, match=r"connection ended early; run it again, or put .*data\.zip$"
    ):
        download(server.archive(), tmp_path, retry=HASTY)
    assert names_in(tmp_path) == [] and len(server.ranges) == 3
