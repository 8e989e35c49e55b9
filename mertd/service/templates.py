"""Templates of the files that describe the service. They lie in launchd/ and systemd/ at the top of the repository."""

from __future__ import annotations

from importlib import resources


def read_template(directory: str, name: str) -> bytes:
    """Return a file of `launchd` or `systemd`.

    A wheel has it below this package (pyproject.toml, force-include), a checkout at its top. Raises `FileNotFoundError` if
    neither is there.
    """
    package = resources.files("mertd")
    packed = package / "service" / "files" / directory / name
    return (packed if packed.is_file() else package / ".." / directory / name).read_bytes()
