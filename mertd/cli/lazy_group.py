"""The table of commands, and a group that imports the module of a command when it is called.

So `mertd --help` and `mertd --version` import no command, and each command only what it needs itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import typer.core
import typer.main

COMMANDS = {
    "run": ("run_command", "Run the daemon: listen, embed, publish. Ctrl-C or SIGTERM stops it."),
    "tail": ("tail_command", "Show embeddings as they come."),
    "remember": ("remember_command", "Keep what daemons publish, for `mertd memory`. Ctrl-C or SIGTERM stops it."),
    "relay": ("relay_command", "Relay what a daemon publishes to NATS JetStream. Ctrl-C or SIGTERM stops it."),
    "memory": ("memory_commands", "What is remembered: look at it, check it, export it, forget it."),
    "replay": ("replay_command", "Publish what is remembered once more, marked as replay, to develop clients with."),
    "similar": (
        "similar_command",
        "Find moments in the memory that sound like this, or what two streams heard in turn.",
    ),
    "changes": ("changes_command", "Show the sections of what was heard: where the sound changed, and where it came back."),
    "view": ("view_command", "Serve a page that shows what is heard, live and remembered. Ctrl-C or SIGTERM stops it."),
    "embed": ("embed_command", "Embed sound files offline: the same windows and vectors as the daemon's."),
    "demo": ("demo_command", "See it work, with nothing: synthesised music, a real daemon, a real subscriber."),
    "devices": ("devices_command", "List the input devices, each with the address that opens it; * marks the default one."),
    "status": ("status_command", "Ask a running daemon how it is."),
    "bench": (
        "bench_command",
        "Measure every part here: backends against PyTorch, the daemon, fan-out, start-up, streams per machine.",
    ),
    "doctor": (
        "doctor_command",
        "Find what is wrong, why it matters and how to mend it. Exits with 3 if something keeps mertd from its work.",
    ),
    "man": ("man_command", "Print the manual page, for `man -l -`."),
    "model": ("model_commands", "Make, check and describe the model's weights."),
    "config": ("config_commands", "Write, show and check the configuration."),
    "control": ("control_commands", "Tell a running daemon to do something."),
    "service": ("service_commands", "Run mertd as a service of your session: launchd on macOS, systemd on Linux."),
    "keys": ("keys_commands", "Who may connect to a daemon that runs with --curve."),
}
"""Modules of `mertd.cli` that hold the commands, each as `commands`, and what the list of commands says of them."""


class LazyGroup(typer.core.TyperGroup):
    """All of COMMANDS. To list them takes no import; `get_command` imports the one that is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: typer.core.TyperCommand(name, help=summary) for name, (_, summary) in COMMANDS.items()}
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name; None if there is none."""
        if self._listing or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        return load_command(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands into a help page."""
        with self._only_listing():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands and options that begin with `incomplete`."""
        with self._only_listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _only_listing(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def load_command(name: str) -> Any:
    """Import the module of a command, and return the command or the group in it."""
    module, _ = COMMANDS[name]
    command: Any = typer.main.get_command(importlib.import_module(f"mertd.cli.{module}").commands)
    command.name = name
    return command


def single_command() -> typer.Typer:
    """Return what holds one command that has no others below it."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def command_group(name: str) -> typer.Typer:
    """Return what holds the commands below `mertd NAME`."""
    return typer.Typer(help=COMMANDS[name][1], no_args_is_help=True, add_completion=False, rich_markup_mode=None)
