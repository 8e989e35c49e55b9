"""`mertd service`: the same commands for launchd and systemd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.lazy_group import command_group, load_command
from mertd.cli.output import say, say_json, say_with_tabs
from mertd.cli.read_settings import existing_default_config, settings_from_options
from mertd.errors import MertdError, UsageError

if TYPE_CHECKING:
    from mertd.config import Settings
    from mertd.service.manager import Inspection, ServiceManager, ServiceSpec
    from mertd.service.plan import Plan

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show commands and files, and change nothing.")]
Platform = Annotated[str | None, typer.Option(help="With --dry-run: launchd or systemd, on any machine.")]

commands = command_group("service")


@commands.command()
def install(
    options: Annotated[list[str] | None, typer.Argument(help="Options of `mertd run`, after --.")] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration file for `mertd run`.")] = None,
    dry_run: DryRun = False,
    platform: Platform = None,
) -> None:
    """Install and start it, or bring it up to date. On a Mac, this is when it asks for the microphone."""
    from mertd.service import choose
    from mertd.user_folders import expand_home

    manager = _manager(dry_run, platform)
    if any(word.split("=")[0] == "--config" for word in options or []):
        raise UsageError("--config comes before the --, where it is made a full path")
    words = [*(["--config", str(expand_home(config).absolute())] if config else []), *(options or [])]
    settings = _settings(words)
    spec = choose.service_spec(settings, words)
    if problems := choose.unmet_requirements(manager, settings):
        if not dry_run:
            raise UsageError(*problems)
        for problem in problems:
            say(f"it could not be installed yet: {problem}")
    _execute(manager.install(spec, choose.inspect(manager, spec, dry_run)), dry_run)
    if not dry_run:
        say("installed; `mertd service uninstall` undoes all of it, `mertd service logs --follow` shows what it does")


@commands.command()
def uninstall(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop and remove it, with everything that was installed with it."""
    from mertd.service.manager import Inspection

    manager = _manager(dry_run, platform)
    _execute(manager.uninstall(Inspection(manager.state())), dry_run)
    if not dry_run:
        say("uninstalled; configuration and weights stay where they are")


@commands.command()
def start(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Start it, and wait until it answers."""
    _execute_with_spec(lambda manager, spec, found: manager.start(spec, found), dry_run, platform)


@commands.command()
def stop(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop it in order, until the next start or login."""
    from mertd.service.manager import Inspection

    manager = _installed_manager(dry_run, platform)
    _execute(manager.stop(Inspection(manager.state())), dry_run)


@commands.command()
def restart(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop and start it."""
    _execute_with_spec(lambda manager, spec, found: manager.restart(spec, found), dry_run, platform)


@commands.command()
def reload(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Make it read its configuration again, without interruption."""
    from mertd.service.execute import ServiceError

    manager = _installed_manager(dry_run, platform)
    _settings(manager.options() or ())  # mistakes are reported here, and the service keeps its settings
    if not dry_run and not manager.state().running:
        raise ServiceError("the service is not running; `mertd service start` reads the configuration")
    _execute(manager.reload(), dry_run)


@commands.command()
def status(json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Say how it is; exits with 3 unless it runs and answers."""
    from mertd.service import choose
    from mertd.service.execute import daemon_status

    manager = choose.service_manager()
    state, options = manager.state(), manager.options()
    answer = None
    control = problem = ""
    broken = manager.problem()
    if state.installed and options is not None:
        try:
            control = _settings(options).control
        except MertdError as error:  # it may be running with the settings that it read when it started
            problem = str(error)
        answer = daemon_status(control) if control else None
    answers = state.running and answer is not None
    if json:
        facts = {**asdict(state), "definition": str(state.definition)}
        say_json({**facts, "control": control, "answers": answers, "problem": broken})
    elif not state.installed:
        say(f"not installed in {state.manager}; `mertd service install` does that")
    else:
        runs = f"runs, process {state.pid}" if state.running else "does not run"
        say(f"{state.manager}: {runs}; {state.detail or 'nothing more is known'}")
        say(f"described in {state.definition}")
        if broken:
            say(f"problem: {broken}")
        if answer is None:
            say(f"no answer at {control or 'an unknown endpoint'}; {problem or '`mertd service logs` may say why'}")
        else:
            say(f"mertd {answer.version}, {answer.phase}, answers; `mertd status --control {control}` tells more")
    raise typer.Exit(0 if answers else 3)


@commands.command()
def logs(
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of lines to show, from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing lines as they come.")] = False,
    dry_run: DryRun = False,
    platform: Platform = None,
) -> None:
    """Show its log."""
    from mertd.service.execute import execute_plan, show_plan

    plan = _installed_manager(dry_run, platform).logs(count, follow)
    if dry_run:
        show_plan(plan, say_with_tabs)
    else:
        execute_plan(plan, lambda _: None)


def _manager(dry_run: bool, platform: str | None) -> ServiceManager:
    from mertd.service import choose

    if not dry_run and platform not in (None, choose.native_platform()):
        choose.service_manager(platform)  # raises for an unknown name
        native = choose.native_platform()
        raise UsageError(f"--platform {platform}: this machine has {native}; --dry-run shows what would be done on the other")
    return choose.service_manager(platform)


def _installed_manager(dry_run: bool, platform: str | None) -> ServiceManager:
    from mertd.service.execute import ServiceError

    manager = _manager(dry_run, platform)
    if not dry_run and not manager.state().installed:
        raise ServiceError("the service is not installed; `mertd service install` does that")
    return manager


def _execute_with_spec(
    make_plan: Callable[[ServiceManager, ServiceSpec, Inspection], Plan], dry_run: bool, platform: str | None
) -> None:
    from mertd.service import choose

    manager = _installed_manager(dry_run, platform)
    options = manager.options() or ()
    spec = choose.service_spec(_settings(options), options)
    _execute(make_plan(manager, spec, choose.inspect(manager, spec, dry_run)), dry_run)


def _execute(plan: Plan, dry_run: bool) -> None:
    from mertd.service.execute import execute_plan, show_plan

    if dry_run:
        show_plan(plan, say_with_tabs)
    else:
        execute_plan(plan, say)


def _settings(words: Sequence[str]) -> Settings:
    """Return the settings of `mertd run WORDS`. Raises `UsageError`, or typer's own error for an unknown option."""
    with load_command("run").make_context("mertd run", list(words)) as context:
        options = dict(context.params)
    config = options.pop("config")
    return settings_from_options(Path(config) if config else existing_default_config(), options)
