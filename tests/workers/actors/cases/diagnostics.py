"""`diagnostics`: no effect outside the row, so there is none to repeat, and nothing that could be away."""

from tests.workers.actors.case import Bad, Case, Flaw, Never

CASES = {
    "diagnostics.run_self_test": Case(
        prepare=lambda world: {"steps": 2, "seconds": 0},
        effect=lambda world: None,
        proves=lambda world, result: _is_done(result),
        transient=Never("it asks nobody for anything"),
        permanent=[
            Flaw("asked to fail", lambda world, arguments: {**arguments, "fail_at": 2}, r"as asked by fail_at=2")
        ],
        bad_input=[Bad({"steps": 0}, "steps"), Bad({"seconds": 3_601}, "seconds"), Bad({"fail_at": 0}, "fail_at")],
        legacy=(
            "test_background_task",
            "app.tasks.test_tasks.test_background_task",
            "app.services.background_jobs.test_background_task",
        ),
        uses_database=False,
    )
}


def _is_done(result: object) -> None:
    assert result == {"steps": 2, "seconds": 0, "attempt": 1}
