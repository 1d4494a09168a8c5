"""The alert rules, the scrape configuration and the Grafana dashboard of the compose profile."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.orchestrator.monitoring.exporter import make_app
from metafleet.orchestrator.monitoring.monitor import Monitor
from tests.paths import REPOSITORY
from tests.unit.orchestrator.monitoring.snapshots import FULL, Fixed, scrape

FOLDER = REPOSITORY / "monitoring"
DASHBOARD: dict[str, Any] = json.loads(
    (FOLDER / "grafana" / "dashboards" / "metafleet.json").read_text()
)
EXPRESSIONS = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
] + re.findall(r"expr: (?:>-\n)?((?:.*\n)*?) +(?:for|labels):", (FOLDER / "alerts.yml").read_text())


def promtool(*arguments: str) -> str:
    """Run promtool; skip without it, except in CI, which installs it."""
    if shutil.which("promtool") is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_and_the_scrape_configuration_are_valid() -> None:
    assert "10 rules found" in promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_what_the_exporter_serves_passes_the_linter() -> None:
    if shutil.which("promtool") is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed (Debian package prometheus)")
    text = scrape(make_app(Fixed(FULL)))

    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_alerts_and_panels_ask_only_for_metrics_that_the_exporter_serves() -> None:
    served = set(re.findall(r"^# TYPE (\S+)", scrape(make_app(Fixed(FULL))), flags=re.MULTILINE))

    asked = {name for text in EXPRESSIONS for name in re.findall(r"metafleet_\w+", text)}

    assert len(EXPRESSIONS) > 30 and len(asked) > 15
    assert asked <= served


def test_each_alert_says_what_happened_and_has_a_case() -> None:
    text = (FOLDER / "alerts.yml").read_text()
    names = re.findall(r"alert: (\w+)", text)
    cases = (FOLDER / "alerts_test.yml").read_text()

    assert text.count("summary: ") == len(names) == len(set(names))
    assert all(f"alertname: {name}" in cases for name in names)


def test_panels_have_places_of_their_own() -> None:
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in DASHBOARD["panels"]]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]

    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_a_monitor_without_anything_to_read_serves_metrics_too() -> None:
    settings = Settings.load({"METAFLEET_HOME": "/nonexistent/metafleet"})

    text = scrape(make_app(Monitor(settings)))

    assert 'metafleet_up{service="redis"} 0.0' in text
    assert 'metafleet_up{service="database"} 0.0' in text
    assert "metafleet_runs" not in text
