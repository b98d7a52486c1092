"""SNMP v2c: one GET of sysUpTime (RFC 3418), asked twice, as UDP may lose one. Any answer of the agent's is up.

Version 2c, because devices speak it as they come; what is asked for is no secret, and nothing is set. An agent does not
answer a wrong community: it looks as if it were down. Needs the extra `network`.
"""

from typing import Final

from pysnmp.error import PySnmpError
from pysnmp.hlapi.v1arch.asyncio import CommunityData, SnmpDispatcher, UdpTransportTarget, get_cmd

from workers import callboard
from workers.clients.probes.target import Down, host_and_port

_SYS_UP_TIME: Final = "1.3.6.1.2.1.1.3.0"


async def ask(target: str, timeout_s: float) -> None:
    """Raises Down, OSError; PermanentError: the target is none."""
    host, port = host_and_port(target)
    community = CommunityData(callboard.settings.snmp_community.get_secret_value(), mpModel=1)  # noqa: S508 - see above
    dispatcher = SnmpDispatcher()
    try:
        agent = await UdpTransportTarget.create((host, port), timeout=timeout_s, retries=1)
        nothing, *_ = await get_cmd(dispatcher, community, agent, (_SYS_UP_TIME, None))
    except PySnmpError as error:
        raise Down(f"it cannot be asked: {error}") from error
    finally:
        dispatcher.close()
    if nothing is not None:
        raise Down(f"no answer to sysUpTime: {nothing} (a wrong CALLBOARD_SNMP_COMMUNITY gets none either)")
