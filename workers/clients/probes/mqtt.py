"""MQTT: CONNECT, CONNACK, DISCONNECT. A broker that wants a login has answered: it is up."""

import asyncio
import threading
import time
from typing import Any, Final

from paho.mqtt.client import Client, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from workers.clients.probes.target import Down, host_and_port

_WANTS_A_LOGIN: Final = frozenset({"Bad user name or password", "Not authorized"})
_STEP_S: Final = 0.1


async def ask(target: str, timeout_s: float) -> None:
    """Raises Down, OSError, TimeoutError; PermanentError: the target is none."""
    host, port = host_and_port(target)
    given_up = threading.Event()
    try:
        # why a thread: paho's calls block, each for timeout_s at most.
        await asyncio.to_thread(_ask, host, port, timeout_s, given_up)
    finally:
        given_up.set()


def _ask(host: str, port: int, timeout_s: float, given_up: threading.Event) -> None:
    answers: list[ReasonCode] = []

    def note(_client: Client, _userdata: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        answers.append(code)

    client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.on_connect = note
    client.connect_timeout = timeout_s
    client.connect(host, port)
    until_s = time.monotonic() + timeout_s
    try:
        while not answers and not given_up.is_set():
            if time.monotonic() >= until_s:
                raise TimeoutError
            code = client.loop(timeout=_STEP_S)
            if code is not MQTTErrorCode.MQTT_ERR_SUCCESS and not answers:
                raise Down(f"it does not speak MQTT, or hung up: {error_string(code)}")
    finally:
        client.disconnect()
    if answers and answers[0].is_failure and answers[0].getName() not in _WANTS_A_LOGIN:
        raise Down(f"it answered {answers[0].getName()}")
