"""`health`: samples, and alerts over thresholds."""

from typing import Any

from models.alert import Alert
from models.health import HealthSample
from tests.workers.actors.case import Arguments, Case, Never
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from workers.actors import health


def _thresholds(world: World) -> Arguments:
    """One is passed for certain, the others never, however busy the machine is."""
    world.set("alert_recipients", ("ops@example.org",))
    world.set("alert_channels", ())
    world.set("health_memory_percent", 0.001)
    for threshold in ("health_cpu_percent", "health_disk_percent", "health_round_trip_ms"):
        world.set(threshold, float("inf"))
    world.change(health, "CPU_WINDOW_S", 0.01)
    return {}


def _effect(world: World) -> Any:
    alerts = [(alert.key, len(alert.notices)) for alert in all_rows(Alert)]
    return len(all_rows(HealthSample)), alerts, [task for task in world.sent_tasks if task[0] == "email.send_alert"]


def _measured(world: World, result: Any) -> None:
    (sample,) = all_rows(HealthSample)
    (alert,) = all_rows(Alert)
    assert alert.key == f"health.memory_percent@{sample.hostname}"
    assert result["alerts"] == [alert.key]
    assert len(alert.notices) == 1


CASES = {
    "health.check_system": Case(
        prepare=_thresholds,
        effect=_effect,
        proves=_measured,
        transient=Never("the database and Redis are its own: test_every_actor.py takes the database away"),
        permanent=Never("it takes nothing, and whatever can be measured is an answer"),
        bad_input=Never("it takes nothing"),
        legacy=("system_health_check_job", "health_check"),
    )
}
