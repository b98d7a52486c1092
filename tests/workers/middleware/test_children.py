"""What a task causes by its end is linked to it, has its correlation id, and is sent once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from dramatiq import Worker, group, pipeline

from models import direct, task_groups, task_moves
from models.task import TERMINAL, AttemptOutcome, Task, TaskStatus, derived_task_id, new_task_id
from models.task_moves import End, NewTask, Start
from tests import probes
from tests.faults.conftest import StartWorker, kill_tree, start_worker
from tests.servers import wait_until
from workers import callboard, tasks
from workers.broker import Delivery, Parcel, Verdict
from workers.ledger import flush
from workers.middleware.children import GroupChore

__all__ = ["start_worker"]

pytestmark = pytest.mark.usefixtures("ledger_database")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def row(task_id: str) -> Task:
    found = tasks.get_task(task_id)
    assert found is not None
    return found


def ended(task_id: str, within_s: float = 20) -> Task:
    def has_ended() -> bool:
        found = tasks.get_task(task_id)
        return found is not None and found.status in TERMINAL

    wait_until(has_ended, within_s=within_s, what=f"the end of {task_id}")
    return row(task_id)


def all_rows() -> list[Task]:
    return [row(one["task_id"]) for one in tasks.list_tasks(limit=1000)]


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def test_a_task_sent_inside_a_task_is_its_child_and_has_its_correlation_id(worker: Worker, paper: Path) -> None:
    sent = probes.parent.send_with_options(args=(str(paper),), correlation_id="request-7")

    child = ended(ended(sent.message_id).result)

    assert (child.parent_id, child.correlation_id) == (sent.message_id, "request-7")


def test_without_a_correlation_id_a_task_is_the_root_of_its_own(worker: Worker, paper: Path) -> None:
    sent = probes.parent.send(str(paper))

    child = ended(ended(sent.message_id).result)

    assert child.correlation_id == row(sent.message_id).correlation_id == sent.message_id


def test_the_next_of_a_pipeline_is_the_child_of_the_one_before(worker: Worker) -> None:
    first, second, third = probes.add.message(1, 1), probes.add.message(10), probes.add.message(100)
    first.options["correlation_id"] = "c"

    pipeline([first, second, third]).run()

    assert ended(third.message_id).result == 112
    rows = [row(message.message_id) for message in (first, second, third)]
    assert [one.parent_id for one in rows] == [None, first.message_id, second.message_id]
    assert {one.correlation_id for one in rows} == {"c"}


def test_callbacks_have_ids_that_follow_from_their_parent(worker: Worker, paper: Path) -> None:
    good = probes.add.send_with_options(args=(1, 2), on_success=probes.heard, correlation_id="c")
    bad = probes.refuse.send_with_options(on_failure="probes.heard")

    heard = ended(derived_task_id(good.message_id, "on_success"))
    told = ended(derived_task_id(bad.message_id, "on_failure/0"))
    assert (heard.result, heard.parent_id, heard.correlation_id) == (3, good.message_id, "c")
    assert (told.result["type"], told.parent_id) == ("PermanentError", bad.message_id)


def test_a_parent_whose_result_cannot_be_stored_has_no_child_of_a_success(worker: Worker) -> None:
    sent = probes.unstorable.send_with_options(on_success=probes.heard)

    assert ended(sent.message_id).status == TaskStatus.FAILED
    assert tasks.get_task(derived_task_id(sent.message_id, "on_success")) is None


def test_a_derived_id_is_the_same_each_time_and_as_old_as_what_it_follows_from() -> None:
    assert derived_task_id("a", "x") == derived_task_id("a", "x") != derived_task_id("b", "x")
    parent = new_task_id()
    assert derived_task_id(parent, "x")[:14] == parent[:14]
    assert len({derived_task_id(parent, str(slot)) for slot in range(1000)}) == 1000


def test_a_parent_that_dies_after_its_children_were_sent_does_not_send_them_twice(
    start_worker: StartWorker, paper: Path
) -> None:
    """The first attempt's worker dies in mid-run; the next attempt's child is the only one."""
    following = probes.noted.message(str(paper) + ".child")
    first = probes.kill_worker.message(str(paper), 1)
    worker = start_worker()
    pipeline([first, following]).run()
    wait_until(lambda: probes.lines(paper) == ["ran"], within_s=30, what="the first attempt")
    kill_tree(worker)

    start_worker()

    assert ended(following.message_id, 60).parent_id == first.message_id
    assert probes.lines(Path(str(paper) + ".child")) == ["2"]


def test_a_group_calls_back_once_after_its_last_member(worker: Worker, paper: Path) -> None:
    members = [probes.note.message(str(paper), str(number), 0.01) for number in range(30)]
    made = group(members)
    made.add_completion_callback(probes.note.message(str(paper), "done"))
    made.add_completion_callback(probes.note.message(str(paper), "too"))

    made.run()

    wait_until(lambda: {"done", "too"} <= set(probes.lines(paper)), within_s=30, what="the callbacks")
    wait_until(lambda: all(one.status in TERMINAL for one in all_rows()), within_s=20, what="all ends")
    found = probes.lines(paper)
    assert sorted(found[:30]) == sorted(str(number) for number in range(30))
    assert sorted(found[30:]) == ["done", "too"]
    rows = [row(message.message_id) for message in members]
    group_ids = {one.group_id for one in rows}
    assert len(group_ids) == 1
    callbacks = [one for one in all_rows() if one.group_id is None]
    assert {one.correlation_id for one in [*rows, *callbacks]} == group_ids


def test_a_group_of_pipelines_counts_the_last_of_each(worker: Worker, paper: Path) -> None:
    made = group([probes.add.message(1, 1) | probes.add.message(number) for number in range(5)])
    made.add_completion_callback(probes.note.message(str(paper), "done"))

    made.run()

    wait_until(lambda: probes.lines(paper) == ["done"], within_s=30, what="the callback")
    assert sorted(one.result for one in all_rows() if one.group_id) == [2, 3, 4, 5, 6]


def test_a_group_inside_a_task_and_its_callback_are_children_of_that_task(worker: Worker, paper: Path) -> None:
    sent = probes.run_group.send_with_options(args=(str(paper),), correlation_id="c")

    wait_until(lambda: "done" in probes.lines(paper), within_s=30, what="the callback")
    wait_until(lambda: all(one.status in TERMINAL for one in all_rows()), within_s=20, what="all ends")
    others = [one for one in all_rows() if one.task_id != sent.message_id]
    assert len(others) == 4
    assert {(one.parent_id, one.correlation_id) for one in others} == {(sent.message_id, "c")}


def test_a_group_with_a_failed_member_does_not_call_back_until_that_is_retried(worker: Worker, paper: Path) -> None:
    made = group([probes.note.message(str(paper), "one"), probes.refuse.message()])
    made.add_completion_callback(probes.note.message(str(paper), "done"))
    made.run()
    wait_until(lambda: all(one.status in TERMINAL for one in all_rows()), within_s=20, what="all ends")

    assert GroupChore(callboard.broker)() == {"completed": 0}
    assert probes.lines(paper) == ["one"]


@pytest.mark.usefixtures("bus")
def test_a_crash_before_the_count_is_mended_by_the_chore(paper: Path) -> None:
    """Given members whose ends were committed by a process that died at once."""
    members = [probes.add.message(1, number) for number in range(3)]
    made = group(members)
    made.add_completion_callback(probes.note.message(str(paper), "done"))
    made.run()
    chore = GroupChore(callboard.broker)

    found = []
    for message in members:
        found.append(chore()["completed"])
        with direct.transaction() as to:
            end = End(message.message_id, 1, "w", NOW, NOW, TaskStatus.COMPLETED, AttemptOutcome.COMPLETED, result="1")
            assert task_moves.end(to, [end])
    found += [chore()["completed"], chore()["completed"]]

    assert found == [0, 0, 0, 1, 0]
    callbacks = [one for one in all_rows() if one.group_id is None]
    assert [(one.task_name, one.status) for one in callbacks] == [("probes.note", "pending")]
    assert callboard.broker.absent([("jobs", callbacks[0].task_id)]) == set()


def test_two_that_count_a_group_at_once_complete_it_once() -> None:
    group_id = "3f0c9c0e-0000-4000-8000-000000000000"
    with direct.transaction() as to:
        assert task_groups.begin(to, group_id, 0, parent_id=None, correlation_id=None, now=NOW)
        assert not task_groups.begin(to, group_id, 5, parent_id=None, correlation_id=None, now=NOW)
        assert task_groups.open_groups(to, after_id="", limit=10) == [group_id]

        counted = [len(task_groups.complete(to, [group_id], NOW)) for _ in range(2)]

        assert counted == [1, 0]
        assert task_groups.open_groups(to, after_id="", limit=10) == []


def test_children_of_an_outcome_that_came_too_late_do_not_exist() -> None:
    """Given a task whose second attempt runs; when the first one's outcome comes, with a child."""
    parent, late, timely = new_task_id(), new_task_id(), new_task_id()
    with direct.transaction() as to:
        task_moves.accept(to, [NewTask(parent, "probes.add", "jobs", NOW, NOW)])
        assert task_moves.start(to, [Start(parent, 2, "w", NOW)])

    with direct.transaction() as to:
        assert flush.write_ends(to, [outcome(parent, 1, late)]) == set()
        assert flush.write_ends(to, [outcome(parent, 2, timely)]) == {(parent, 2)}

    assert [tasks.get_task(late), row(timely).status] == [None, "pending"]


def outcome(task_id: str, attempt: int, child: str) -> flush.Ended:
    sent = probes.add.message(1, 2).copy(message_id=task_id)
    delivery = Delivery(task_id, b"", fence=attempt, losses=0, score="0", queue_name="jobs", owner="me")
    parcel = Parcel(sent, delivery, priority=5, attempt=0, got_s=0.0, held_until_s=0.0)
    end = End(task_id, attempt, "w", NOW, NOW, TaskStatus.COMPLETED, AttemptOutcome.COMPLETED, result="1")
    born = flush.Child(sent.copy(message_id=child), NewTask(child, "probes.add", "jobs", NOW, NOW))
    return flush.Ended(end, parcel.settlement(Verdict.ACK), parcel, [born])
