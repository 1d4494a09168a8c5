"""What people write about runs: tags, notes and the archive."""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import Connection, delete, select, update

from metafleet.db.records import RUN_TAGS, RUNS, TAG_LENGTH
from metafleet.db.upsert import upsert
from metafleet.errors import ConfigError

MOST_OF_NOTE: Final = 10_000
"""Maximum number of characters of a note."""


class RunNotes:
    """Tags, notes and the archive. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def tags(self, run_ids: Collection[int] | None = None) -> dict[int, tuple[str, ...]]:
        """Return run id -> tags in alphabetical order; runs without tags are left out.

        Args:
            run_ids: the runs; None for all.
        """
        query = select(RUN_TAGS.c.run_id, RUN_TAGS.c.tag).order_by(RUN_TAGS.c.tag)
        if run_ids is not None:
            query = query.where(RUN_TAGS.c.run_id.in_(run_ids))
        found: dict[int, tuple[str, ...]] = {}
        for run_id, tag in self._session.execute(query):
            found[run_id] = (*found.get(run_id, ()), tag)
        return found

    def add_tags(self, run_id: int, tags: Iterable[str]) -> None:
        """Add tags to a run. If the run already has a tag, adding the tag changes nothing.

        Raises:
            ConfigError: a tag is empty, too long, or contains spaces or control characters. In
                this case, no tag is added.
        """
        rows = [{"run_id": run_id, "tag": check_tag(tag)} for tag in dict.fromkeys(tags)]
        upsert(self._session, RUN_TAGS, rows, overwrite=False)

    def remove_tags(self, run_id: int, tags: Collection[str]) -> None:
        """Remove tags from a run.

        Raises:
            ConfigError: the run lacks one of the tags. In this case, no tag is removed.
        """
        known = self.tags([run_id]).get(run_id, ())
        for tag in tags:
            if tag not in known:
                raise ConfigError(
                    f"run {run_id} has no tag {tag!r:.80}; its tags are: "
                    f"{', '.join(known) or 'none'}"
                )
        chosen = (RUN_TAGS.c.run_id == run_id, RUN_TAGS.c.tag.in_(tags))
        self._session.execute(delete(RUN_TAGS).where(*chosen))

    def set_note(self, run_id: int, note: str) -> None:
        """Replace a run's note; "" removes it.

        Raises:
            ConfigError: the note is too long.
        """
        if len(note) > MOST_OF_NOTE:
            raise ConfigError(
                f"the note has {len(note)} characters; expected at most {MOST_OF_NOTE}"
            )
        self._session.execute(update(RUNS).where(RUNS.c.id == run_id).values(note=note))

    def set_archived(self, run_id: int, archived: bool) -> None:
        """Put a run into the archive, or take it out."""
        self._session.execute(update(RUNS).where(RUNS.c.id == run_id).values(archived=archived))


def check_tag(tag: str) -> str:
    """Return a tag if the database can store it, and a filter can name it without quotes.

    Raises:
        ConfigError: the tag is empty, too long, or contains spaces or control characters.
    """
    if not tag or len(tag) > TAG_LENGTH:
        problem = f"has {len(tag)} characters; expected 1 to {TAG_LENGTH}"
    elif " " in tag:
        problem = "contains a space; expected a word without spaces"
    elif not tag.isprintable():
        problem = "contains a control character; expected a word without spaces"
    else:
        return tag
    raise ConfigError(f"tag {tag!r:.80} {problem}; no tag was set")
