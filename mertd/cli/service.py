"""`mertd service`: the same words for launchd and systemd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import typer.main

from mertd.cli.output import say, say_json, say_with_tabs
from mertd.cli.settings import home_config, settings
from mertd.config import Settings
from mertd.errors import MertdError, UsageError
from mertd.service import choose
from mertd.service.execute import ServiceError, daemon_status, execute_plan, show_plan
from mertd.service.manager import Inspection, ServiceManager, ServiceSpec
from mertd.service.plan import Plan


def install(config: Path | None, options: Sequence[str], dry_run: bool, platform: str | None) -> None:
    """Install the service, or bring the one that is there up to date."""
    service = _manager(dry_run, platform)
    if any(word.split("=")[0] == "--config" for word in options):
        raise UsageError("--config comes before the --: it is made a path in full there")
    words = [*(["--config", str(config.expanduser().absolute())] if config else []), *options]
    chosen = _settings(words)
    wanted = choose.service_spec(chosen, words)
    if problems := choose.unmet_requirements(service, chosen):
        if not dry_run:
            raise UsageError(*problems)
        for problem in problems:
            say(f"it could not be installed yet: {problem}")
    _do(service.install(wanted, choose.inspect(service, wanted, dry_run)), dry_run)
    if not dry_run:
        say("installed; `mertd service uninstall` undoes all of it, `mertd service logs --follow` shows what it does")


def uninstall(dry_run: bool, platform: str | None) -> None:
    """Remove the service, and whatever came with it."""
    service = _manager(dry_run, platform)
    _do(service.uninstall(Inspection(service.state())), dry_run)
    if not dry_run:
        say("uninstalled; configuration and weights stay where they are")


def start(dry_run: bool, platform: str | None) -> None:
    """Start it."""
    _with_installed(lambda service, wanted, found: service.start(wanted, found), dry_run, platform)


def stop(dry_run: bool, platform: str | None) -> None:
    """Stop it, until the next start or login."""
    service = _installed(dry_run, platform)
    _do(service.stop(Inspection(service.state())), dry_run)


def restart(dry_run: bool, platform: str | None) -> None:
    """Stop and start it."""
    _with_installed(lambda service, wanted, found: service.restart(wanted, found), dry_run, platform)


def reload(dry_run: bool, platform: str | None) -> None:
    """Have it read its configuration again, which is checked first."""
    service = _installed(dry_run, platform)
    _settings(service.options() or ())
    if not dry_run and not service.state().running:
        raise ServiceError("it does not run; `mertd service start` reads the configuration")
    _do(service.reload(), dry_run)


def logs(count: int, follow: bool, dry_run: bool, platform: str | None) -> None:
    """Show its log."""
    _do(_installed(dry_run, platform).logs(count, follow), dry_run, quiet=True)


def status(json: bool) -> int:
    """Print how it is, by its manager and by itself; the exit code is 0 if it runs and answers, otherwise 3."""
    service = choose.service_manager()
    state, options = service.state(), service.options()
    answer, control, problem = None, "", ""
    if state.installed and options is not None:
        try:
            control = _settings(options).control
        except MertdError as error:  # it may run all the same, with what it read when it started
            problem = str(error)
        answer = daemon_status(control) if control else None
    well = state.running and answer is not None
    if json:
        say_json({**asdict(state), "definition": str(state.definition), "control": control, "answers": well})
        return 0 if well else 3
    if not state.installed:
        say(f"not installed in {state.manager}; `mertd service install` does that")
        return 3
    runs = f"runs, process {state.pid}" if state.running else "does not run"
    say(f"{state.manager}: {runs}; {state.detail or 'nothing more is known'}")
    say(f"described in {state.definition}")
    if answer is None:
        say(f"no answer at {control or 'an unknown endpoint'}; {problem or '`mertd service logs` may say why'}")
    else:
        say(f"mertd {answer.version}, {answer.phase}, answers; `mertd status --control {control}` tells more")
    return 0 if well else 3


# Shared


def _manager(dry_run: bool, platform: str | None) -> ServiceManager:
    if not dry_run and platform not in (None, choose.native_platform()):
        choose.service_manager(platform)  # for the complaint about a name that means nothing
        raise UsageError(
            f"--platform {platform}: this machine has {choose.native_platform()}; with --dry-run you see what would be done"
        )
    return choose.service_manager(platform)


def _installed(dry_run: bool, platform: str | None) -> ServiceManager:
    service = _manager(dry_run, platform)
    if not dry_run and not service.state().installed:
        raise ServiceError("the service is not installed; `mertd service install` does that")
    return service


def _with_installed(
    plan: Callable[[ServiceManager, ServiceSpec, Inspection], Plan], dry_run: bool, platform: str | None
) -> None:
    service = _installed(dry_run, platform)
    options = service.options() or ()
    wanted = choose.service_spec(_settings(options), options)
    _do(plan(service, wanted, choose.inspect(service, wanted, dry_run)), dry_run)


def _do(plan: Plan, dry_run: bool, quiet: bool = False) -> None:
    if dry_run:
        show_plan(plan, say_with_tabs)
    else:
        execute_plan(plan, (lambda _: None) if quiet else say)


def _settings(words: Sequence[str]) -> Settings:
    """What `mertd run WORDS` would do. Raises `UsageError`, or typer's own for an option that is none."""
    from mertd.cli.app import app

    group = typer.main.get_command(app)
    command = group.commands["run"]  # type: ignore[attr-defined]
    with command.make_context("mertd run", list(words)) as context:
        flags = dict(context.params)
    config = flags.pop("config")
    return settings(Path(config) if config else home_config(), flags)
