"""The app that holds the consents on macOS: how it is made, how it asks, and whether it can still start.

macOS stores a consent together with the signature of the app that got it. Another signature leaves the old entry in place:
System Settings shows the switch on, and the app hears zeros. So a new app gets a clean slate, while LaunchServices knows it:
tccutil finds an app through LaunchServices only.
"""

from __future__ import annotations

import plistlib
import shlex
from typing import Any

from mertd.service.execute import query
from mertd.service.launchd_files import LABEL, LaunchdFiles
from mertd.service.manager import ServiceSpec
from mertd.service.plan import CopyFile, Plan, RemovePath, RunCommand, ShowFile, WriteFile
from mertd.service.property_list import dump

CONSENT_TIMEOUT_S = 300.0
"""Seconds for the dialogues: longer than the app itself waits for both (`microphone.ANSWER_TIMEOUT_S`)."""

REGISTER = "/System/Library/Frameworks/CoreServices.framework/Frameworks/LaunchServices.framework/Support/lsregister"
"""Tells LaunchServices of an app now, instead of some seconds later."""

CONSENTS = {"Microphone": "microphone consent", "AudioCapture": "consent to record what other programs play"}
"""What the app may be allowed, by tccutil's names."""


def make_app(files: LaunchdFiles) -> Plan:
    """Return the steps that make the app, in place of an earlier one."""
    undo = shlex.join(["rm", "-r", str(files.app)])
    return [
        RemovePath(what="Remove an earlier app; this one will hold the consents.", path=files.app),
        WriteFile(what="Describe the app.", undo=undo, path=files.info, content=dump(files.app_info())),
        CopyFile(what="Give it a copy of this Python.", undo=undo, source=files.installation.binary, path=files.executable),
        RunCommand(
            what="Sign it, for this machine only: macOS ties consent to this signature.",
            undo=undo,
            command=("codesign", "--force", "--sign", "-", "--identifier", LABEL, "--timestamp=none", str(files.app)),
        ),
        *revoke_consent(files),
        RunCommand(
            what="Check that the copy finds mertd.",
            command=(str(files.executable), "-P", "-m", "mertd", "--version"),
            environment=files.environment,
        ),
    ]


def revoke_consent(files: LaunchdFiles) -> Plan:
    """Return the steps that make macOS forget what this app, or an earlier one of its name, was allowed or denied."""
    register = RunCommand(what="Tell macOS of the app.", command=(REGISTER, "-f", str(files.app)), optional=True)
    return [
        register,
        *(
            RunCommand(
                what=f"Revoke {what} that an app of this name may have.",
                undo="mertd service install asks for it again",
                command=("tccutil", "reset", service, LABEL),
                optional=True,
            )
            for service, what in CONSENTS.items()
        ),
    ]


def ask_for_consent(files: LaunchdFiles, spec: ServiceSpec) -> Plan:
    """Return the steps that ask for what the sources need.

    The app is started through `open`: from a terminal, it would use the terminal's consent, which the agent does not have. It
    writes its answer to a file that it is told. What `open` itself is asked to write to exists already, in case it must. If
    LaunchServices drops the variables, the app may not start here; the agent, which has them from launchd, then asks itself.
    """
    kinds = [*(["microphone"] if spec.needs_microphone else []), *(["system-audio"] if spec.needs_system_audio else [])]
    if not kinds:
        return []
    answer = files.log.parent / "consent.txt"
    errors = files.log.parent / "consent-errors.txt"
    variables = [word for name, value in files.environment.items() if name != "PATH" for word in ("--env", f"{name}={value}")]
    program = ["--args", "-P", "-m", "mertd.service.microphone", "--answer", str(answer), *kinds]
    streams = ["--stdout", str(errors), "--stderr", str(errors)]
    return [
        *(
            WriteFile(what="Make a file for what the app says.", path=path, content=b"", mode=0o600)
            for path in (answer, errors)
        ),
        RunCommand(
            what="Listen once. If macOS asks whether mertd may do that, allow it.",
            undo="; ".join(f"tccutil reset {service} {LABEL}" for service in CONSENTS),
            command=("open", "-W", "-n", *streams, *variables, str(files.app), *program),
            optional=True,
            timeout_s=CONSENT_TIMEOUT_S,
        ),
        ShowFile(what="Show the outcome.", path=answer, otherwise="the app has not answered; the agent will ask by itself"),
        ShowFile(what="Show what else it said.", path=errors),
        *(RemovePath(what="Remove the file.", path=path) for path in (answer, errors)),
    ]


def app_problem(files: LaunchdFiles) -> str:
    """Return why the installed agent cannot start, or not with this Python; empty if it can, or is not installed.

    Homebrew, for example, removes the library that the copied interpreter was linked with when it upgrades Python.
    """
    try:
        agent: dict[str, Any] = plistlib.loads(files.definition.read_bytes())
        info: dict[str, Any] = plistlib.loads(files.info.read_bytes()) if files.info.is_file() else {}
    except (OSError, ValueError, plistlib.InvalidFileException) as error:
        return "" if not files.definition.is_file() else f"{files.definition} cannot be read: {error}"
    program = str((agent.get("ProgramArguments") or [""])[0])
    again = "`mertd service install` makes the app anew, and macOS asks again"
    if program != str(files.executable):
        return ""  # not mertd's own agent
    if not files.executable.is_file():
        return f"{program} does not exist; {again}"
    variables = {str(name): str(value) for name, value in (agent.get("EnvironmentVariables") or {}).items()}
    code, output = query((program, "-P", "-m", "mertd", "--version"), variables)
    if code:
        reason = next((line for line in output.splitlines() if "not loaded" in line), (output.splitlines() or [""])[-1])
        return f"{program} does not start (exit code {code}): {reason}; {again}"
    if info.get("MertdInterpreter") != files.interpreter_digest():
        return f"the app holds a copy of another Python than {files.installation.binary}; it still starts; {again}"
    return ""
