"""A real Valkey that lets one user in, behind TLS, as managed ones are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from valkey.asyncio import Valkey

from relay.store.embedded import embedded
from tests.ingest.toy import CERTIFICATE, toy_tls

USER: Final = "relay"
PASSWORD: Final = "c4n4ry-p4ssw0rd"
_KEEPER: Final = "keeper"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def tls_before(place: str, host: str) -> AsyncIterator[int]:
    """Speak TLS before a server's socket, as a managed store does; yields the port."""

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        back, forth = await asyncio.open_unix_connection(place)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, forth))
            tasks.create_task(_copy(back, writer))

    server = await asyncio.start_server(pass_on, host, 0, ssl=toy_tls())
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def guarded() -> AsyncIterator[str]:
    """Run a Valkey that lets nobody in but one user; yields its socket."""
    async with embedded() as url:
        place = url.removeprefix("unix://")
        admin = Valkey(unix_socket_path=place)
        rights = ("~relay:*", "&*", "+@all", "-@admin", "-@dangerous", "+info")
        for user in (
            (USER, "on", f">{PASSWORD}", *rights),
            (_KEEPER, "on", f">{_KEEPER}", "+@all"),
            ("default", "off"),
        ):
            await admin.execute_command("ACL", "SETUSER", *user)  # type: ignore[no-untyped-call]
        try:
            yield place
        finally:
            await admin.aclose()


async def forbid(place: str) -> None:
    """Let the user in no more, and throw him out."""
    keeper = Valkey(unix_socket_path=place, username=_KEEPER, password=_KEEPER)
    for words in (("ACL", "SETUSER", USER, "off"), ("CLIENT", "KILL", "USER", USER)):
        await keeper.execute_command(*words)  # type: ignore[no-untyped-call]
    await keeper.aclose()


def url_of(port: int, *, password: str = PASSWORD, ca: bool = True) -> str:
    """Return the store's URL, as it is set."""
    trusted = f"?ssl_ca_certs={CERTIFICATE}" if ca else ""
    return f"valkeys://{USER}:{password}@127.0.0.1:{port}/0{trusted}"
