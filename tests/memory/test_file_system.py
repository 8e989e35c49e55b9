from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mertd.memory import store
from mertd.memory.file_system import shared_type
from mertd.memory.store import Store

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /mnt/with\040space rw - nfs4 server:/export rw,vers=4.2
31 22 0:41 / /mnt rw,relatime - cifs //server/share rw
32 31 254:1 / /mnt/local rw,relatime master:1 - xfs /dev/vdb rw
33 22 0:42 / /hidden rw - nfs server:/old rw
34 33 0:43 / /hidden rw - tmpfs none rw
nonsense
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/", None),
        ("/home/me/memory", None),
        ("/mnt/memory", "cifs"),
        ("/mnt/local/memory", None),
        ("/mnt/localmemory", "cifs"),
        ("/mnt/with space/memory", "nfs4"),
        ("/hidden/memory", None),
    ],
)
def test_what_other_machines_may_have(folder: str, expected: str | None) -> None:
    assert shared_type(Path(folder), MOUNTS) == expected


def test_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Store(tmp_path / "local").close()
    assert caplog.text == ""
    monkeypatch.setattr(store, "shared_type", lambda _: "nfs4")
    Store(tmp_path / "shared").close()
    assert "is on a network file system (nfs4); only processes of this machine may use the memory" in caplog.text
