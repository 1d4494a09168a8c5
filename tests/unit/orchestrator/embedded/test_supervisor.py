"""What a stack leaves behind when it stops."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from metafleet.orchestrator.embedded.supervisor import _sweep_heartbeats


def test_heartbeat_files_of_dead_workers_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    kept = {f"cpu1@{host}-{os.getpid()}", f"cpu1@elsewhere-{gone.pid}", f"cpu1@{host}-x", "note"}
    for name in (*kept, f"cpu2@{host}-{gone.pid}"):
        (tmp_path / name).touch()

    _sweep_heartbeats(tmp_path)
    _sweep_heartbeats(tmp_path / "nowhere")

    assert {path.name for path in tmp_path.iterdir()} == kept
