"""Text for people: durations."""

import pytest

from models.text import span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (60, "1 min"),
        (1_380, "23 min"),
        (3_600, "1 h"),
        (7_260, "2 h 1 min"),
        (7_199, "2 h"),
    ],
)
def test_a_duration_in_words_has_no_part_that_is_zero(seconds: float, said: str) -> None:
    assert span(seconds) == said
