"""Servers and databases that tests may ask for; each is private to the test run."""

import os
import sys
from pathlib import Path

# as in an activated environment: hints name the command as it can be typed
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

pytest_plugins = ["tests.postgres", "tests.databases", "tests.redis_server", "tests.fleet"]
