"""What the doctor knows: plain data, gathered by `gather`, judged by `findings`, planted by tests."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Package:
    """A library, by its name for pip. `version`: empty if it is missing. `use`: what it is for."""

    name: str
    version: str
    use: str


@dataclass(frozen=True)
class Computing:
    """What a trial of the model said. `seconds`: for one window. `problem`: in words, if it cannot run."""

    weights: str = ""
    trained: bool = False
    backend: str = ""
    device: str = ""
    precision: str = ""
    seconds: float = 0.0
    rejected: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Input:
    """An input device, and what was heard of it. `wanted`: the configuration asks for it.

    `rms_dbfs`, `peak_dbfs`: None if it was not listened to. `zeros`: share of samples that are exactly zero. `cause`, `hint`:
    why it gives nothing but zeros, a `mertd.vocabulary.ZerosCause`.
    """

    name: str
    wanted: bool
    rate: int = 0
    channels: int = 0
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    zeros: float = 0.0
    cause: str = ""
    hint: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Port:
    """An endpoint of the configuration. `taken`: why it cannot be bound, in words. `pid`: of the mertd that has it."""

    option: str
    endpoint: str
    pid: int = 0
    taken: str = ""


@dataclass(frozen=True)
class Disk:
    """A folder that mertd writes to. `free`: bytes."""

    what: str
    folder: str
    free: int


@dataclass(frozen=True)
class Running:
    """A daemon that answers. `faults`: last errors of its processes and streams, in words; `steps`: of the clock."""

    pid: int
    phase: str
    version: str
    faults: tuple[str, ...] = ()
    skipped: int = 0
    dropped: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Facts:
    """Everything. None: not asked, or not to be found out; `unknown` says why."""

    python: str = ""
    executable: str = ""
    packages: tuple[Package, ...] = ()
    portaudio: str = ""  # why it cannot be used; empty if it can
    configuration: str = ""  # where it was read from
    mistakes: tuple[str, ...] = ()
    computing: Computing | None = None
    hop_s: float = 5.0
    inputs: tuple[Input, ...] | None = None
    gate_dbfs: float = -70.0
    loopbacks: tuple[str, ...] | None = None
    ports: tuple[Port, ...] = ()
    service: str = ""
    running: Running | None = None
    synchronised: bool | None = None
    stepped_s: float = 0.0
    disks: tuple[Disk, ...] = ()
    stale: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One verdict. `level`: ok, warning or problem. `why` it matters, and the `fix`: both empty if all is well."""

    check: str
    level: str
    text: str
    why: str = ""
    fix: str = ""
