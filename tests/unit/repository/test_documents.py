"""Commands, files and links in the documents are real."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from celery.bin.worker import worker as celery_worker

from metafleet.orchestrator.cli.main import cli
from tests.paths import REPOSITORY

PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
ORCHESTRATOR = ["docker", "compose", "run", "--rm", "orchestrator"]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of every page, in blocks and in running text."""
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        spans = re.findall(
            r"(?<!`)`([^`]+)`(?!`)",
            re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL),
        )
        for line in [line for block in blocks for line in block.splitlines()] + spans:
            try:
                words = shlex.split(line.replace("\n", " "))
            except ValueError:
                continue
            if words:
                yield page.name, words


def commands_of(*program: str) -> list[list[str]]:
    n = len(program)
    found = [words[n:] for _, words in commands() if words[:n] == list(program)]
    return [words for words in found if words]


def check_click_command(command: click.Command, words: list[str]) -> None:
    """Walk down groups, then check that every option exists and arguments are not too many."""
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        # alternatives such as runs list|show|resume are checked one by one
        name, *rest = words
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r}"
        command, words = found, rest
    options = {o: p for p in command.params for o in [*p.opts, *p.secondary_opts]}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in {*options, "--help", "--version"}, f"no option {word}"


@pytest.mark.parametrize("words", commands_of("metafleet"), ids=" ".join)
def test_every_command_named_exists(words: list[str]) -> None:
    check_click_command(cli, words)


@pytest.mark.parametrize("words", commands_of(*ORCHESTRATOR), ids=" ".join)
def test_every_command_through_compose_exists(words: list[str]) -> None:
    check_click_command(cli, words)


@pytest.mark.parametrize("words", commands_of("make"), ids=" ".join)
def test_every_make_target_named_exists(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)

    assert words[0] in targets


@pytest.mark.parametrize(
    "words", commands_of("celery", "-A", "metafleet.workers.app"), ids=" ".join
)
def test_every_worker_command_has_options_that_celery_knows(words: list[str]) -> None:
    assert words[0] == "worker"
    check_click_command(celery_worker, [word for word in words[1:] if word != "..."])


def test_the_pages_name_commands_at_all() -> None:
    assert len(commands_of("metafleet")) > 12
    assert len(commands_of(*ORCHESTRATOR)) > 4
    assert commands_of("celery", "-A", "metafleet.workers.app")


def test_every_experiment_file_named_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"experiments/\S+?\.toml", page.read_text())
    }

    assert len(named) > 20
    assert all((REPOSITORY / name).is_file() for name in named)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(found), target


def anchors_of(page: Path) -> set[str]:
    """Return what GitHub and the site call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_stays_short() -> None:
    text = (REPOSITORY / "README.md").read_text()

    assert len(text.splitlines()) <= 160
    assert len(text.encode()) <= 10_000
