"""Counters that begin again, that are set back, that only root may read, and that count twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.bench import energy_meters
from mertd.bench.energy_log import EnergyLog, Reading
from mertd.bench.energy_meters import (
    FoundMeters,
    NoReadingError,
    NvidiaMeter,
    PowermetricsMeter,
    PowermetricsSum,
    RaplMeter,
    find_meters,
    rapl_zones,
)

RANGE = 262_143_328_850
"""Microjoules after which a package's counter begins again: that of a Xeon."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Zone:
    """A zone's folder, as the kernel shows it."""

    def __init__(self, folder: Path, name: str = "package-0", most: int | None = RANGE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "name").write_text(name + "\n")
        if most is not None:
            (folder / "max_energy_range_uj").write_text(f"{most}\n")
        self.set(0)

    def set(self, value: int) -> None:
        (self.folder / "energy_uj").write_text(f"{value}\n")


@given(steps=st.lists(st.integers(0, 200_000_000), max_size=30), start=st.integers(0, RANGE - 1))
def test_no_energy_is_lost_or_invented_however_often_the_counter_begins_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int
) -> None:
    """codecarbon #322, powerjoular #45, joularjx #65 and scaphandre #280 had negative power; zeus #91 missed whole rounds."""
    clock, zone = Clock(), Zone(tmp_path_factory.mktemp("rapl"))
    zone.set(start)
    meter = RaplMeter("package-0", zone.folder, clock)
    for at, taken in enumerate(steps):
        clock.now += 1.0
        zone.set((start + sum(steps[: at + 1])) % RANGE)
        assert meter.joules() == pytest.approx(sum(steps[: at + 1]) * 1e-6), taken


def test_a_counter_that_does_not_tell_its_range_is_not_guessed(tmp_path: Path) -> None:
    """codecarbon #1309: a range that could not be read became nought, and the energy of hours negative."""
    zone = Zone(tmp_path / "zone", most=None)
    zone.set(4_000_000_000)
    meter = RaplMeter("package-0", zone.folder, Clock())
    zone.set(4_000_100_000)
    assert meter.joules() == pytest.approx(0.1)
    zone.set(10_000)
    with pytest.raises(NoReadingError, match="has begun again, and does not tell where"):
        meter.joules()


def test_a_counter_that_was_set_back_is_not_taken_for_one_that_began_again(tmp_path: Path) -> None:
    """As after a suspended machine wakes up: a quarter of a megajoule in a second."""
    clock, zone = Clock(), Zone(tmp_path / "zone")
    zone.set(90_000_000)
    meter = RaplMeter("package-0", zone.folder, clock)
    clock.now = 1.0
    zone.set(5_000_000)
    with pytest.raises(NoReadingError, match="was set back: it went from 90000000 to 5000000 microjoules"):
        meter.joules()


def test_what_only_root_may_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = Zone(tmp_path / "intel-rapl:0")

    def refused(_: Path, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:  # root, who may run the tests, is refused nothing
        patched.setattr(Path, "read_text", refused)
        with pytest.raises(NoReadingError, match=r"only root may read .*energy_uj; run it as root"):
            RaplMeter("package-0", zone.folder)
    (zone.folder / "energy_uj").unlink()
    with pytest.raises(NoReadingError, match=r"energy_uj cannot be read: No such file or directory"):
        RaplMeter("package-0", zone.folder)


def test_no_zone_is_counted_twice(tmp_path: Path) -> None:
    """powerstat #4 summed `psys` with packages, codecarbon PR 950 the same package of two interfaces, and pyJoules #14 took a
    zone's number for the package's.
    """
    for folder, name in {
        "intel-rapl:0": "package-1",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-0",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }.items():
        Zone(tmp_path / folder, name)
    (tmp_path / "intel-rapl").mkdir()
    assert {name: zone.name for name, zone in rapl_zones(tmp_path).items()} == {
        "package-1": "intel-rapl:0",
        "package-0": "intel-rapl:1",
        "dram of package 0": "intel-rapl:0:1",
        "dram of package 1": "intel-rapl:1:0",
    }
    assert rapl_zones(tmp_path / "none") == {}


class Nvml:
    """NVIDIA's library with one GPU. `energy`: None for a GPU without a counter; `power`: None for one that tells nothing."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy: int | None, power: int | None) -> None:
        self.energy, self.power = energy, power

    def nvmlDeviceGetName(self, _: object) -> str:  # noqa: N802
        return "Tesla P100"

    def nvmlDeviceGetTotalEnergyConsumption(self, _: object) -> int:  # noqa: N802
        return self._told(self.energy)

    def nvmlDeviceGetPowerUsage(self, _: object) -> int:  # noqa: N802
        return self._told(self.power)

    def _told(self, value: int | None) -> int:
        if value is None:
            raise self.NVMLError("Not Supported")
        return value


def test_a_gpu_without_a_counter_is_known_by_its_power() -> None:
    """codecarbon #608 failed on such GPUs, #1316 took their energy for nothing; with Jetson's there is none to be had."""
    counted = Nvml(5_000_000, None)
    meter = NvidiaMeter(counted, None, 0)
    counted.energy = 5_012_500
    assert (meter.name, meter.joules()) == ("gpu 0, Tesla P100", 12.5)
    clock, sampled = Clock(), Nvml(None, 100_000)
    meter = NvidiaMeter(sampled, None, 1, clock)
    clock.now, sampled.power = 1.0, 200_000
    assert meter.joules() == pytest.approx(150.0)
    clock.now = 3.0
    assert meter.joules() == pytest.approx(150.0 + 400.0)
    sampled.power = None
    with pytest.raises(NoReadingError, match="gpu 1, Tesla P100 tells neither its energy nor its power: Not Supported"):
        meter.joules()
    with pytest.raises(NoReadingError, match="tells neither"):
        NvidiaMeter(Nvml(None, None), None, 0)


POWERMETRICS_LINES = """\
*** Sampled system activity (Tue Nov 28 11:28:55 2023 +0100) (1002.80ms elapsed) ***

**** Processor usage ****

E-Cluster Power: 6 mW
CPU 0 frequency: 920 MHz
CPU Power: 1000 mW
GPU Power: 250 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 1250 mW

*** Sampled system activity (Tue Nov 28 11:28:56 2023 +0100) (500.00ms elapsed) ***
CPU Power: 4000 mW
GPU Power: 0 mW
ANE Power: 2000 mW
"""


def test_every_sample_of_a_mac_counts_for_its_time() -> None:
    """joularjx #51: the sum is not in every version of macOS. codecarbon #985: the last sample is not the mean of all."""
    found = PowermetricsSum()
    found.add(POWERMETRICS_LINES.splitlines(keepends=True))
    assert found.joules == pytest.approx(1.25 * 1.0028 + 6.0 * 0.5)


def test_powermetrics_is_not_started_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    with pytest.raises(NoReadingError, match="only root may run powermetrics; `sudo mertd bench --only energy`"):
        PowermetricsMeter()


class Steady:
    """A meter of constant power, which no longer tells after some looks."""

    def __init__(self, name: str, looks: int) -> None:
        self.name, self._looks, self.closed = name, looks, 0

    def joules(self) -> float:
        self._looks -= 1
        if self._looks < 0:
            raise NoReadingError(f"{self.name} is silent")
        return 7.0

    def close(self) -> None:
        self.closed += 1


def test_a_meter_that_falls_silent_is_left_out_and_named() -> None:
    good, bad = Steady("good", 1 << 30), Steady("bad", 1)
    with EnergyLog(FoundMeters([good, bad], ["no GPU"])) as log:
        first = log.read()
        later = log.read()
        assert set(first.joules) == {"good", "bad"} or "bad is silent" in log.absent
        assert set(later.joules) == {"good"}
        assert set(first.watts_until(later)) == {"good"}
    assert log.absent == ["no GPU", "bad is silent"]
    assert (good.closed, bad.closed) == (1, 1)


def test_power_is_energy_over_time() -> None:
    assert Reading(1.0, {"a": 10.0, "b": 1.0}).watts_until(Reading(3.0, {"a": 16.0})) == {"a": 3.0}


def test_this_machine_tells_or_says_why_not() -> None:
    found = find_meters()
    try:
        assert found.meters or found.absent
        assert all(meter.joules() >= 0 for meter in found.meters)
    finally:
        for meter in found.meters:
            meter.close()


@pytest.mark.linux
def test_the_name_of_each_reason_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_meters, "POWERCAP", Path("/nowhere"))
    monkeypatch.setattr(energy_meters.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(energy_meters.sys, "platform", "linux")
    found = find_meters()
    assert found.meters == []
    assert "there are no counters of the processor under /nowhere" in found.absent[0]
    assert "nvidia-ml-py is not installed" in found.absent[1]
