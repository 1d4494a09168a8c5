import re
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[3]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


def test_the_newest_release_in_the_changelog_is_the_version_and_what_is_cited() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())

    headings = re.findall(r"^## (.+)$", changelog, flags=re.MULTILINE)

    assert headings[0] == "Unreleased"
    assert headings[1] == f"{VERSION} - {cited['date-released']}"
    assert cited["version"] == VERSION
