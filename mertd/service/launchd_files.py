"""The files that the service consists of on macOS: where they lie and what they contain.

macOS ties microphone consent to a program inside an app, to the app's usage description and to its signature. So the app holds
a copy of the Python interpreter, signed once. A new signature would void the consent: an upgrade of mertd leaves the app as it
is, and only another interpreter replaces it. The agent runs that copy directly: through a shell, consent would belong to the
shell.
"""

from __future__ import annotations

import hashlib
import plistlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mertd.errors import UsageError
from mertd.service.program import Installation
from mertd.service.templates import read_template

AGENT_MODULE = "mertd.cli.launchd_agent"
"""What the agent runs; the log's path and the words of `mertd run` follow."""

LABEL = "local.mertd"
"""Name of the agent and bundle identifier of the app. The templates in launchd/ contain it, too."""

FRAMEWORKS = (Path("/Library/Frameworks"), Path("/System/Library/Frameworks"))
"""Where dyld looks for frameworks by itself; it no longer does once it is told other directories."""

LIBRARIES = (Path("/usr/local/lib"), Path("/usr/lib"))
"""The same for libraries."""

PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""Search path of the agent: launchd reads no shell start-up file."""


@dataclass(frozen=True)
class LaunchdFiles:
    """Paths and contents for the user with this home directory and user id.

    passed_on  variables of the shell that the agent needs, too: launchd starts it without them
    """

    home: Path
    uid: int
    installation: Installation
    passed_on: Mapping[str, str] = field(default_factory=dict)

    @property
    def definition(self) -> Path:
        return self.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    @property
    def app(self) -> Path:
        return self.home / "Library" / "Application Support" / "mertd" / "mertd.app"

    @property
    def info(self) -> Path:
        return self.app / "Contents" / "Info.plist"

    @property
    def executable(self) -> Path:
        return self.app / "Contents" / "MacOS" / "mertd"

    @property
    def log(self) -> Path:
        return self.home / "Library" / "Logs" / "mertd" / "mertd.log"

    @property
    def target(self) -> str:
        """The agent's name for launchctl."""
        return f"gui/{self.uid}/{LABEL}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the copied interpreter finds its library and packages; child processes inherit them.

        The copy looks for its library at the place that was written into it: an absolute path, which an upgrade may remove, or
        one relative to the program, where nothing is beside the copy. dyld then tries the fallbacks.
        """
        frameworks = [self.installation.frameworks] if self.installation.frameworks else []
        return {
            "PATH": PATH,
            "PYTHONSAFEPATH": "1",
            "PYTHONHOME": _joined(self.installation.home),
            "PYTHONPATH": _joined(*self.installation.packages),
            "DYLD_FALLBACK_LIBRARY_PATH": _joined(*self.installation.libraries, *LIBRARIES),
            "DYLD_FALLBACK_FRAMEWORK_PATH": _joined(*frameworks, *FRAMEWORKS),
        }

    def agent(self, options: tuple[str, ...]) -> dict[str, Any]:
        """Return the agent's property list: the template and what depends on this machine."""
        return {
            **plistlib.loads(read_template("launchd", "agent.plist")),
            "ProgramArguments": [str(self.executable), "-P", "-m", AGENT_MODULE, str(self.log), "run", *options],
            "EnvironmentVariables": {**self.environment, **self.passed_on},
            "WorkingDirectory": str(self.home),
            "StandardOutPath": str(self.log),
            "StandardErrorPath": str(self.log),
        }

    def app_info(self) -> dict[str, Any]:
        """Return the app's Info.plist. The digest of the copied interpreter shows whether another one has to be copied."""
        return {**plistlib.loads(read_template("launchd", "app.plist")), "MertdInterpreter": self.interpreter_digest()}

    def interpreter_digest(self) -> str:
        """Return the SHA-256 of this installation's interpreter."""
        return hashlib.sha256(self.installation.binary.read_bytes()).hexdigest()


def _joined(*paths: Path) -> str:
    """Return paths as one variable, separated by colons. Raises `UsageError` for a path that contains one."""
    if found := [path for path in paths if ":" in str(path)]:
        raise UsageError(f"Python cannot be started from {str(found[0])!r}: the path contains a colon; install mertd elsewhere")
    return ":".join(map(str, paths))
