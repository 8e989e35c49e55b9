"""The commands `mertd config …` and their options; the work is in `mertd.cli.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.cli.options import Config, Json

config = typer.Typer(help="Write, show and check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@config.command("init")
def config_init(
    path: Annotated[Path | None, typer.Argument(help="The file to write; by default the one that `mertd run` reads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a file with every setting, its unit and its default."""
    from mertd.cli.config import init

    init(path, force)


@config.command("show")
def config_show(config: Config = None, json: Json = False) -> None:
    """Print every setting as it holds, and whether default, file or environment says so."""
    from mertd.cli.config import show

    show(config, json)


@config.command("check")
def config_check(
    path: Annotated[Path | None, typer.Argument(help="The file; by default the one that `mertd run` reads.")] = None,
) -> None:
    """Report every mistake of a file and of MERTD_ variables."""
    from mertd.cli.config import check_file

    check_file(path)
