"""Servers and databases that tests may ask for; each is private to the test run."""

import os
import signal
import sys
from pathlib import Path

# as in an activated environment: hints name the command as it can be typed
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

# a shell's background jobs ignore Ctrl-C, and what they start would too: tests send it to children
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.postgres",
    "tests.databases",
    "tests.redis_server",
    "tests.fleet",
    "tests.fault_table",
]
