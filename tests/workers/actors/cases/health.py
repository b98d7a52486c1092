"""`health`: samples, and alerts over thresholds; probes of providers."""

from typing import Any

from models.alert import Alert
from models.health import HealthSample, ProviderSample
from tests.factories.upkeep import know_provider
from tests.servers import wait_until
from tests.workers.actors.case import Arguments, Bad, Case, Flaw, Never
from tests.workers.actors.running import all_rows
from tests.workers.actors.world import World
from tests.workers.clients.probed import free_port
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


def _providers(world: World) -> Arguments:
    """One that is up, one that is down, and one that is switched off."""
    know_provider("mail", kind="smtp", target=f"127.0.0.1:{world.mails.port}", timeout_s=10)
    know_provider("erp", target=f"http://127.0.0.1:{free_port()}/")
    know_provider("off", is_enabled=False)
    return {}


def _probes(world: World) -> Any:
    return [task for task in world.sent_tasks if task[0] == "health.probe_provider"]


def _all_probed(world: World, result: Any) -> None:
    assert result == {"providers": ["erp", "mail"]}
    wait_until(lambda: len(all_rows(ProviderSample)) == 2, within_s=20, what="a sample of each provider")
    assert _samples(world) == [("erp", False), ("mail", True)]
    assert [eval(params)["kwargs"]["provider"] for _, params in _probes(world)] == ["erp", "mail"]


def _samples(world: World) -> Any:
    return sorted((sample.provider, sample.is_up) for sample in all_rows(ProviderSample))


def _mail_server(world: World) -> Arguments:
    _providers(world)
    return {"provider": "mail"}


def _probed(world: World, result: Any) -> None:
    (sample,) = all_rows(ProviderSample)
    assert (sample.provider, sample.is_up, sample.error) == ("mail", True, None)
    assert result == {"provider": "mail", "is_up": True, "latency_ms": sample.latency_ms, "error": None}


def _misspelt(world: World, arguments: Arguments) -> Arguments:
    know_provider("misspelt", target="erp.example.org")
    return {"provider": "misspelt"}


CASES = {
    "health.probe_all_providers": Case(
        prepare=_providers,
        effect=_probes,
        proves=_all_probed,
        transient=Never("the database is its own: test_every_actor.py takes it away"),
        permanent=Never("a provider that cannot be probed fails the task of its own probe"),
        bad_input=Never("it takes nothing"),
        legacy=("probe_all_providers_job",),
    ),
    "health.probe_provider": Case(
        prepare=_mail_server,
        effect=_samples,
        proves=_probed,
        transient=Never("a provider that does not answer is down, which is an answer"),
        permanent=[
            Flaw("no such provider", lambda world, arguments: {"provider": "nope"}, "there is no provider 'nope'"),
            Flaw("no target", _misspelt, "expected a URL .* correct the target in the table providers"),
        ],
        bad_input=[Bad({"provider": ""}, "provider"), Bad({"provider": "p" * 101}, "provider")],
    ),
    "health.check_system": Case(
        prepare=_thresholds,
        effect=_effect,
        proves=_measured,
        transient=Never("the database and Redis are its own: test_every_actor.py takes the database away"),
        permanent=Never("it takes nothing, and whatever can be measured is an answer"),
        bad_input=Never("it takes nothing"),
        legacy=("system_health_check_job", "health_check"),
    ),
}
