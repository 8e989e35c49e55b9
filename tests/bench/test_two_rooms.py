"""Lags and bounds of the measurement, with a network that is small and untrained."""

from __future__ import annotations

import pytest

from made_music import needs_fluidsynth
from mertd.bench.two_rooms import LATER, measure_rooms


@pytest.mark.slow
@needs_fluidsynth
def test_the_measurement_as_a_whole() -> None:
    later = (LATER[1], LATER[8])
    found = measure_rooms("random:0?size=tiny", 2, 3, 5.0, lambda _: None, later)
    assert (found["pieces"], found["hop_s"]) == (3, 2.5)
    assert not found["trained"]
    assert len(found["rows"]) == 2 * len(later)
    assert found["unrelated"] == {"pairs": 9, "false_alarms": 0, "rarest": 1.0}
    assert sum(row["certain"] for row in found["rows"]) >= 2
    for row in found["rows"]:
        assert not row["wrong"], "what is said to be certain is within its bound"
        assert row["found_s"] is not None
        assert abs(row["found_s"] - row["lag_s"]) <= row["bound_s"], "in this music, also of those that are uncertain"
