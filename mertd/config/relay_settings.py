"""The table `[relay]`: which bus a daemon's messages go to, how to get in, and what its stream keeps."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from mertd.bus.bus_access import EXAMPLE, BusAccess, parse_servers
from mertd.bus.bus_stream import STREAM, StreamWish
from mertd.errors import UsageError
from mertd.memory.amounts import bytes_of, seconds_of


class RelaySettings(BaseModel):
    """Settings of a relay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field(repr=False, description=f"Servers of the bus, with commas between: {EXAMPLE}, or tls://HOST:4222.")
    stream: str = Field(STREAM, description="Name of the JetStream stream.")
    create: bool = Field(False, description="Make the stream if it is absent; one that exists is never altered: true or false.")
    replicas: int = Field(1, description="Servers of a cluster that each keep all, of a stream that is made: 1, 3 or 5.")
    max_age: str = Field("30d", description="How long a stream that is made keeps a message, as 2y, 30d or 12h.")
    max_size: str | None = Field(None, description="Most that such a stream keeps, as 50GB; by default no limit.")
    credentials: str | None = Field(None, description="File with a user's JWT and seed, as `nsc generate creds` writes.")
    nkey: str | None = Field(None, description="File with the seed of a user's nkey.")
    ca: str | None = Field(None, description="PEM file of who signed the servers' certificates; by default the system's.")
    certificate: str | None = Field(None, description="PEM file of the client's own certificate.")
    private_key: str | None = Field(None, description="PEM file of its private key, without a password.")
    cursor: str | None = Field(None, description="File that keeps the relay's place; by default in the user's data.")

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | RelaySettings):
            raise ValueError("expected a table, or the address of a bus")
        return {"to": value} if isinstance(value, str) else value

    @field_serializer("to")
    def _without_passwords(self, to: str) -> str:
        return ",".join(map(str, parse_servers(to)))

    @field_validator("to")
    @classmethod
    def _to(cls, to: str) -> str:
        try:
            parse_servers(to)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return to

    @model_validator(mode="after")
    def _together(self) -> RelaySettings:
        try:
            self.access()
            self.wish()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def access(self) -> BusAccess:
        """Return how to get in."""
        servers = parse_servers(self.to)
        return BusAccess(servers, self.credentials, self.nkey, self.ca, self.certificate, self.private_key)

    def wish(self) -> StreamWish:
        """Return which stream is used."""
        age, size = seconds_of(self.max_age), bytes_of(self.max_size or "")
        if age is None:
            raise UsageError(f"max_age: {self.max_age!r} is not a time; write it as 2y, 30d or 12h")
        if self.max_size is not None and not size:
            raise UsageError(f"max_size: {self.max_size!r} is not a size; write it as 500MB or 50GB")
        return StreamWish(self.stream, self.create, self.replicas, age, size)


def merged(before: Any, found: Any) -> Any:
    """Return the table, of which a flag or a variable names the bus anew."""
    return {**before, "to": found} if isinstance(before, dict) and isinstance(found, str) else found
