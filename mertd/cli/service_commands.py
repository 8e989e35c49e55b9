"""The commands `mertd service …` and their options; the work is in `mertd.cli.service`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

service = typer.Typer(
    help="Run mertd as a service of your session: launchd on macOS, systemd on Linux.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show commands and files, and touch nothing.")]
Platform = Annotated[str | None, typer.Option(help="With --dry-run: launchd or systemd, whatever this machine has.")]


@service.command()
def install(
    options: Annotated[list[str] | None, typer.Argument(help="Options of `mertd run`, after --.")] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration file for `mertd run`.")] = None,
    dry_run: DryRun = False,
    platform: Platform = None,
) -> None:
    """Install and start it, or bring it up to date. On a Mac, this is when it asks for the microphone."""
    from mertd.cli.service import install

    install(config, options or [], dry_run, platform)


@service.command()
def uninstall(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop and remove it, with all that came with it."""
    from mertd.cli.service import uninstall

    uninstall(dry_run, platform)


@service.command()
def start(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Start it, and wait until it answers."""
    from mertd.cli.service import start

    start(dry_run, platform)


@service.command()
def stop(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop it in order, until the next start or login."""
    from mertd.cli.service import stop

    stop(dry_run, platform)


@service.command()
def restart(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Stop and start it."""
    from mertd.cli.service import restart

    restart(dry_run, platform)


@service.command()
def reload(dry_run: DryRun = False, platform: Platform = None) -> None:
    """Have it read its configuration again, without a break."""
    from mertd.cli.service import reload

    reload(dry_run, platform)


@service.command()
def status(json: Annotated[bool, typer.Option("--json", help="For programs: JSON in place of text.")] = False) -> None:
    """Say how it is; exits with 3 unless it runs and answers."""
    from mertd.cli.service import status

    raise typer.Exit(status(json))


@service.command()
def logs(
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    dry_run: DryRun = False,
    platform: Platform = None,
) -> None:
    """Show its log."""
    from mertd.cli.service import logs

    logs(count, follow, dry_run, platform)
