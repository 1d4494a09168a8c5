"""What Ctrl-C says of the run it met."""

from typing import Any, NoReturn, cast

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.orchestrator.cli import execution
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import Tenure


class Run:
    id = 7


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            RunStatus.INTERRUPTED,
            "run 7 can go on from its last checkpoint: `metafleet runs resume 7`",
        ),
        (
            RunStatus.CANCELLED,
            "run 7 is cancelled; it can go on from its last checkpoint: `metafleet runs resume 7`",
        ),
        (
            RunStatus.QUEUED,
            "run 7 is left to servers (`metafleet serve`); watch it with `metafleet runs attach 7`",
        ),
    ],
)
def test_an_interrupt_says_what_became_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, after: RunStatus, said: str
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "execute_run", interrupted)

    with pytest.raises(KeyboardInterrupt) as caught:
        execution.execute_watched(
            cast(Database, None),
            Settings.load({"METAFLEET_HOME": str(tmp_path)}),
            cast(RunRecord, Run()),
            options=ExecutionOptions(in_process=False, tenure=Tenure(after_interrupt=after)),
        )

    assert caught.value.__notes__ == [said]
