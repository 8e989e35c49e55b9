"""`mertd config …`: write a configuration file, show what holds, check."""

from __future__ import annotations

from pathlib import Path

from mertd.cli.output import say, say_json
from mertd.cli.settings import given
from mertd.config import Settings, as_toml, check, default_config, template
from mertd.errors import UsageError
from mertd.files import replacing


def init(path: Path | None, force: bool) -> None:
    """Write a file with every setting in it. Raises `UsageError` if there is one already, or it cannot be written."""
    path = path or default_config()
    if path.exists() and not force:
        raise UsageError(f"{path} exists; --force writes over it")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(template().encode())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    say(f"{path}: every setting with its default; take away the # before what is to change")


def show(path: Path | None, json: bool) -> None:
    """Print every setting, and where it comes from. Raises `UsageError` for mistakes."""
    found = given(path, {})
    settings = check(found)
    origins = {name: found.origins.get(name, "default") for name in Settings.model_fields}
    if json:
        values = settings.model_dump(mode="json")
        say_json({name: {"value": values[name], "from": origins[name]} for name in values})
        return
    say(f"# {found.path or f'no file: {default_config()} is not there'}")
    for name, origin in origins.items():
        value = getattr(settings, name)
        say(f"{name} = {as_toml(value)}  # {origin}" if value is not None else f"# {name}: not set")


def check_file(path: Path | None) -> None:
    """Say that there is no mistake. Raises `UsageError` with all of them."""
    found = given(path, {})
    check(found)
    say(f"{found.path or 'defaults and environment'}: no mistakes")
