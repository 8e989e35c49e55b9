"""`mertd config`: write a configuration file, show the settings that apply, check a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.cli.lazy_group import command_group
from mertd.cli.options import Config, Json
from mertd.cli.output import say, say_json
from mertd.cli.read_settings import raw_daemon_settings
from mertd.errors import MertdError, UsageError
from mertd.files import replacing

commands = command_group("config")


@commands.command()
def init(
    path: Annotated[Path | None, typer.Argument(help="The file to write; by default the one that `mertd run` reads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a file with every setting, its unit and its default."""
    from mertd.config import default_config, template

    path = path or default_config()
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force overwrites it")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(template().encode())
    except OSError as error:
        raise MertdError(f"{path} cannot be written: {error.strerror}") from error
    say(f"{path}: every setting with its default; take away the # before what is to change")


@commands.command()
def show(config: Config = None, json: Json = False) -> None:
    """Print every setting that applies, and whether the default, the file or the environment determines it."""
    from mertd.config import Settings, as_toml, default_config, validate

    raw = raw_daemon_settings(config, {})
    settings = validate(raw)
    origins = {name: raw.origins.get(name, "default") for name in Settings.model_fields}
    if json:
        values = settings.model_dump(mode="json")
        say_json({name: {"value": values[name], "from": origins[name]} for name in values})
        return
    say(f"# {raw.path or f'no file: {default_config()} is not there'}")
    for name, origin in origins.items():
        value = getattr(settings, name)
        say(f"{name} = {as_toml(value)}  # {origin}" if value is not None else f"# {name}: not set")


@commands.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="The file; by default the one that `mertd run` reads.")] = None,
) -> None:
    """Report every mistake of a file and of MERTD_ variables."""
    from mertd.config import validate

    raw = raw_daemon_settings(path, {})
    validate(raw)
    say(f"{raw.path or 'defaults and environment'}: no mistakes")
