"""Servers and databases that tests may ask for; each is private to the test run."""

pytest_plugins = ["tests.postgres", "tests.databases", "tests.redis_server", "tests.fleet"]
