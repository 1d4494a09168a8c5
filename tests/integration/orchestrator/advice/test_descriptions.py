"""`metafleet data describe`, and descriptions in SQLite and PostgreSQL."""

import json
from dataclasses import replace

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import DescriptionRecord
from metafleet.db.repositories import DescriptionRepository
from metafleet.describing.description import VERSION, Description
from metafleet.orchestrator.advice.descriptions import describe_and_store, stored_descriptions
from tests.integration.orchestrator.conftest import Command


def test_a_description_is_stored_once_for_each_digest_and_version(database: Database) -> None:
    settings = replace(Settings.load(), database_url=database.url)
    for _ in range(2):
        found = describe_and_store(database, settings, {"name": "sinusoid"})
    other = DescriptionRecord(
        data_digest=found.digest, version=VERSION + 1, name="s", options={}, description={}
    )
    damaged = replace(other, data_digest="0" * 64, version=VERSION)
    with database.session() as session:
        for record in (other, damaged):
            DescriptionRepository(session).put(record)

    with database.session(read_only=True) as session:
        assert stored_descriptions(session) == {found.digest: found}
        assert len(DescriptionRepository(session).list(version=VERSION)) == 2
        (later,) = DescriptionRepository(session).list(version=VERSION + 1)
    assert later == other


def test_the_command_prints_and_stores_the_same_description(command: Command) -> None:
    status, output, _ = command("data", "describe", "sinusoid", "--json")
    found = Description.from_json(json.loads(output))
    _, text, _ = command("data", "describe", "sinusoid")

    assert status == 0
    assert f"digest      {found.digest}" in text and "variance explained" in text
    assert "no modality has a pretrained encoder" in text
    with Database.open(Settings.load().database_url) as opened, opened.session() as session:
        assert stored_descriptions(session) == {found.digest: found}


def test_wrong_sets_are_refused_on_one_line(command: Command) -> None:
    for arguments, message in {
        ("nonesuch",): "there is no data set 'nonesuch'",
        ("omniglot",): "metafleet data prepare omniglot",
        ("sinusoid", "--set", "colour=red"): "colour",
    }.items():
        status, output, errors = command("data", "describe", *arguments)
        assert (status, output) == (1, "")
        assert message in errors and errors.count("\n") == 1
