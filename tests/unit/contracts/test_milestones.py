"""What is worth a line in the log, however often it comes."""

from metafleet.contracts.milestones import Milestones


def test_a_line_is_due_at_the_first_the_tenth_and_the_hundredth_of_a_kind() -> None:
    events = Milestones()

    assert [n for _ in range(1000) if (n := events.count("a"))] == [1, 10, 100, 1000]
    assert events.count("b") == 1


def test_kinds_beyond_the_most_count_as_one() -> None:
    events = Milestones(most_kinds=3)

    due = [events.count(str(kind)) for kind in range(103)]

    assert [n for n in due if n] == [1, 1, 1, 1, 10, 100]
    assert events.count("0") == 0
