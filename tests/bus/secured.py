"""Certificates, keys and credentials for tests, as an operator would make them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import nkeys


class Authority:
    """Signs certificates, with `openssl`. Files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.file = folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")

    def certificate(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """Return the files of a certificate for this machine and of its key. `days`: negative for one that has expired."""
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl(
            "req", "-newkey", "ed25519", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        signed = ["-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
        self._openssl("x509", *signed, "-out", f"{name}.pem", "-days", str(days))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


class Key:
    """An nkey: of an operator, an account or a user."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix)
        self.pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self.pair.public_key.decode()

    def sign(self, name: str, subject: str, claims: dict[str, Any], seconds: float | None = None) -> str:
        """Return a JWT about `subject`, which expires after so many seconds."""
        body: dict[str, Any] = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject}
        body["nats"] = {"version": 2, **claims}
        if seconds is not None:
            body["exp"] = int(time.time() + seconds)
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        text = ".".join(_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
        return f"{text}.{_base64(self.pair.sign(text.encode()))}"


class Operator:
    """Makes a server's configuration with one account, and credentials of its users."""

    def __init__(self) -> None:
        self._key = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def configuration(self) -> str:
        operator = self._key.sign("operator", self._key.public, {"type": "operator"})
        limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1}
        claims = {"type": "account", "limits": {**limits, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}}
        account = self._key.sign("account", self._account.public, claims)
        system = self._key.sign("system", self._system.public, {"type": "account", "limits": limits})
        preload = f"{self._account.public}: {account}, {self._system.public}: {system}"
        lines = f"operator: {operator}\nsystem_account: {self._system.public}\n"
        return f"{lines}resolver: MEMORY\nresolver_preload {{ {preload} }}\n"

    def credentials(self, path: Path, seconds: float | None = None) -> Path:
        """Write the credentials file of a new user, which expire after so many seconds."""
        user = Key(nkeys.PREFIX_BYTE_USER)
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        jwt = self._account.sign("user", user.public, claims, seconds)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return path


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
