"""What the doctor knows, as plain data: `gather` collects it, `findings` judges it, tests make it up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Package:
    """A library by its name on PyPI. `version`: empty if it is missing."""

    name: str
    version: str
    purpose: str


@dataclass(frozen=True)
class DiskSpace:
    """The space left in a directory that mertd writes to."""

    purpose: str
    directory: str
    free_bytes: int


@dataclass(frozen=True)
class Environment:
    """The Python installation and the machine. `unsupported`: why mertd is not made for this machine; empty if it is."""

    python: str = ""
    executable: str = ""
    packages: tuple[Package, ...] = ()
    disks: tuple[DiskSpace, ...] = ()
    system: str = ""
    unsupported: str = ""


@dataclass(frozen=True)
class Configuration:
    """The effective settings that findings refer to. `source`: where they were read from."""

    source: str = ""
    mistakes: tuple[str, ...] = ()
    hop_s: float = 5.0
    gate_dbfs: float = -70.0
    limits: StreamLimits | None = None


@dataclass(frozen=True)
class StreamLimits:
    """What the configured streams need of the system, and what it has: file descriptors of a process, and bytes of memory."""

    streams: int
    descriptors: int
    descriptors_allowed: int
    ring_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class ModelTrial:
    """The result of loading and running the model. `seconds`: for one window. `problem`: why it cannot run."""

    weights: str = ""
    trained: bool = False
    backend: str = ""
    device: str = ""
    precision: str = ""
    seconds: float = 0.0
    rejected: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class InputDevice:
    """An input device and two seconds of its signal. `configured`: a source of the configuration uses it.

    `rms_dbfs`, `peak_dbfs`: None if no signal was recorded. `zeros`: share of samples that are exactly zero. `cause`: why all
    samples are zero, a `mertd.vocabulary.ZerosCause`. `hint`: an explanation of it.
    """

    name: str
    configured: bool
    rate: int = 0
    channels: int = 0
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    zeros: float = 0.0
    cause: str = ""
    hint: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Audio:
    """Sound on this machine. `portaudio_problem`: why PortAudio cannot be used. None elsewhere: not examined."""

    portaudio_problem: str = ""
    inputs: tuple[InputDevice, ...] | None = None
    loopbacks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class EndpointUse:
    """An endpoint of the configuration. `problem`: why it cannot be bound. `pid`: of the mertd that has bound it."""

    option: str
    endpoint: str
    pid: int = 0
    problem: str = ""


@dataclass(frozen=True)
class RunningDaemon:
    """A daemon that answers. `faults`: last errors of its processes and streams. `clock_steps`: epochs begun by a step."""

    pid: int
    phase: str
    version: str
    faults: tuple[str, ...] = ()
    skipped: int = 0
    dropped: int = 0
    clock_steps: int = 0


@dataclass(frozen=True)
class WallClock:
    """The wall clock. `synchronised`: None if unknown. `stepped_s`: how far it jumped during the examination, in seconds."""

    synchronised: bool | None = None
    stepped_s: float = 0.0


@dataclass(frozen=True)
class Facts:
    """Everything. `model`, `daemon`: None if there is none, or it was not examined. `unknown`: what could not be examined.

    service_problem: why the installed service cannot start; empty if nothing is wrong with it.
    """

    environment: Environment = Environment()
    configuration: Configuration = Configuration()
    model: ModelTrial | None = None
    audio: Audio = Audio()
    endpoints: tuple[EndpointUse, ...] = ()
    stale_locks: tuple[str, ...] = ()
    service: str = ""
    service_problem: str = ""
    daemon: RunningDaemon | None = None
    clock: WallClock = WallClock()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One finding. `level`: ok, warning or problem. `why` it matters and the `fix` are empty for ok."""

    check: str
    level: str
    text: str
    why: str = ""
    fix: str = ""
