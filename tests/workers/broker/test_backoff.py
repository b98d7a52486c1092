"""Which errors of a server pass by themselves."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from workers.broker.backoff import is_full, is_transient

PASSING = [
    redis.ConnectionError("Connection refused"),
    redis.TimeoutError("Timeout reading from socket"),
    BusyLoadingError("Redis is loading the dataset in memory"),
    redis.ResponseError("LOADING Redis is loading the dataset in memory"),
    ReadOnlyError("You can't write against a read only replica."),
    redis.ResponseError("READONLY You can't write against a read only replica."),
    redis.ResponseError("Error running script (call to f_1): @user_script:3: -READONLY You can't write"),
    MasterDownError("MASTERDOWN Link with MASTER is down"),
    ClusterDownError("CLUSTERDOWN The cluster is down"),
    TryAgainError("TRYAGAIN Multiple keys request during rehashing"),
    BrokenPipeError(32, "Broken pipe"),
]
LASTING = [
    AuthenticationError("WRONGPASS invalid username-password pair"),
    NoPermissionError("this user has no permissions to run the 'evalsha' command"),
    redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    redis.ResponseError("ERR unknown command 'EVALSHA'"),
    ValueError("not Redis's at all"),
]
FULL = [
    OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
    redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'"),
    redis.ResponseError("Error running script: @user_script:9: -OOM command not allowed"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_tried_again(error: Exception) -> None:
    assert is_transient(error)
    assert not is_full(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_not(error: Exception) -> None:
    assert not is_transient(error)
    assert not is_full(error)


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_a_full_server_is_known_as_such(error: Exception) -> None:
    assert is_full(error)
