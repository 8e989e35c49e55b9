"""What a real systemd reads from units with odd paths, compared with what was written and with `unit_reader`.

    PYTHONPATH=tests uv run python tests/service/real_systemd.py [SEED]

It needs a systemd of this user, as `.ci/service.sh` has one, and starts nothing. systemd answers over D-Bus, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mertd.service.unit_syntax import argument, assignment, directory, executable
from service.unit_reader import UNREPRESENTABLE, read_assignments, read_command, read_paths

UNIT = "mertd-quoting.service"
BUS_PATH = "/org/freedesktop/systemd1/unit/mertd_2dquoting_2eservice"
COMMANDS = 300
NASTY = "\\\"'%$;@{}-+!:|# \t\n\r\x01\x1b\x7f\x85\u2028\u202eaä\U0001f600nx0"


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    commands = [[word(generator) for _ in range(generator.randrange(5))] for _ in range(COMMANDS)]
    variables = [f"V{number}={word(generator)}" for number in range(COMMANDS)]
    paths = [f"/{word(generator).translate(dict.fromkeys((*range(32), 127))).strip('/')}x" for _ in range(COMMANDS)]
    lines = ["[Service]", "Type=oneshot"]
    lines += [f"ExecStart={' '.join([executable('/bin/true'), *map(argument, words)])}" for words in commands]
    lines += [f"Environment={assignment(*variable.split('=', 1))}" for variable in variables]
    lines += [f"ReadWritePaths=-{directory(path)}" for path in paths]
    values = {name: [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")] for name in PROPERTIES}
    with installed("\n".join(lines) + "\n"):
        # D-Bus gives arguments before `$` is expanded, so `$$` is still two.
        found = [[part.replace("$$", "$") for part in command[1][1:]] for command in ask("ExecStart")]
        compare("arguments", commands, found, [read_command(value)[1:] for value in values["ExecStart"]])
        compare("variables", variables, ask("Environment"), [read_assignments(value)[0] for value in values["Environment"]])
        seen = [os.path.normpath(path.removeprefix("-")) for path in ask("ReadWritePaths")]
        read = [os.path.normpath(read_paths(value)[0]) for value in values["ReadWritePaths"]]
        compare("paths", [os.path.normpath(path) for path in paths], seen, read)


PROPERTIES = ("ExecStart", "Environment", "ReadWritePaths")


def word(generator: random.Random) -> str:
    letters = [
        generator.choice(NASTY) if generator.random() < 0.8 else any_character(generator) for _ in range(generator.randrange(9))
    ]
    return "".join(letters)


def any_character(generator: random.Random) -> str:
    while True:
        code = generator.randrange(1, 0x110000)
        if not 0xD800 <= code <= 0xDFFF and not UNREPRESENTABLE.search(chr(code)):
            return chr(code)


@contextmanager
def installed(text: str) -> Iterator[None]:
    folder = Path(os.environ["XDG_RUNTIME_DIR"], "systemd", "user")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNIT).write_text(text, encoding="utf-8")
    try:
        subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)
        yield
    finally:
        (folder / UNIT).unlink()
        subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)


def ask(name: str) -> Any:
    command = ["busctl", "--user", "--json=short", "get-property", "org.freedesktop.systemd1", BUS_PATH]
    done = subprocess.run([*command, "org.freedesktop.systemd1.Service", name], check=True, capture_output=True)
    return json.loads(done.stdout)["data"]


def compare(what: str, written: list[Any], by_systemd: list[Any], by_reader: list[Any]) -> None:
    assert len(written) == len(by_systemd) == len(by_reader), f"{len(written)} {what}, systemd has {len(by_systemd)}"
    for one, two, three in zip(written, by_systemd, by_reader, strict=True):
        assert one == two, f"written {one!r}, read by systemd as {two!r}"
        assert one == three, f"written {one!r}, read by the reader as {three!r}"
    print(f"{len(written)} {what} read by systemd as they were written")


if __name__ == "__main__":
    main()
