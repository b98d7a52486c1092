"""Frames and exceptions between a worker and its isolated child."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import Retry
from workers.runner.wire import ARGUMENTS_MAX_CHARS, TEXT_MAX_CHARS, Frames, FrameTooBig, describe, frame, rebuild


@given(st.lists(st.dictionaries(st.just("said"), st.text("aé€𝄞") | st.integers()), max_size=5), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(contents: list[dict[str, object]], size: int) -> None:
    data = b"".join(frame(**content) for content in contents)
    frames = Frames(max_bytes=100_000)

    found = [one for at in range(0, len(data), size) for one in frames.feed(data[at : at + size])]

    assert found == contents


def test_a_frame_beyond_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameTooBig, match="more than the 10 allowed"):
        Frames(max_bytes=10).feed(frame(said="x" * 100)[:4])


@pytest.mark.parametrize(
    "error", [KeyError("x"), Retry("later", delay=5), OSError(2, "no", "a", None, "b"), ValueError()]
)
def test_an_exception_is_the_same_again(error: Exception) -> None:
    again = rebuild(json.loads(json.dumps(describe(error))))

    assert (type(again), str(again), again.args, vars(again)) == (type(error), str(error), error.args, vars(error))


def test_a_huge_exception_is_cut() -> None:
    described = describe(ValueError("x" * (ARGUMENTS_MAX_CHARS + 1), object()))

    assert len(json.dumps(described)) < 6 * TEXT_MAX_CHARS
    assert isinstance(rebuild(described), ValueError)
