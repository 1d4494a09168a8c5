"""One download a host: many processes want one state, Redis is asked for it once."""

import subprocess
import sys
from pathlib import Path

from metafleet.contracts.blobs import CHUNK_BYTES, RedisBlobStore
from metafleet.contracts.codec import content_digest
from metafleet.contracts.connections import connect
from tests.fleet import ROOT
from tests.redis_server import RedisServer

FETCH = """
import sys
from pathlib import Path
from metafleet.contracts.blobs import RedisBlobStore
from blake3 import blake3
from metafleet.contracts.host_cache import HostCache
url, folder, key, digest, n_bytes = sys.argv[1:]
store = RedisBlobStore(url)
def download():
    return store.get(key, int(n_bytes))
sys.stdin.readline()
data = HostCache(Path(folder)).fetch_once("run-1", digest, int(n_bytes), download)
print(blake3(data).hexdigest())
"""


def test_processes_of_one_host_download_a_blob_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    n_bytes, key = CHUNK_BYTES + 1, "mf:{run-1}:state:x"
    data = (bytes(range(251)) * (n_bytes // 251 + 1))[:n_bytes]
    digest = content_digest(data)
    RedisBlobStore(redis_server.url).put(key, data, ttl_s=60)
    arguments = [redis_server.url, str(tmp_path / "memory"), key, digest, str(n_bytes)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]

    assert outputs == [digest] * 4
    with connect(redis_server.url) as client:
        gets = client.info("commandstats")["cmdstat_get"]["calls"]
    assert gets == 2  # one for each chunk
