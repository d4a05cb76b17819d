"""Conversations of a client socket with one of uvicorn's protocols."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from server.http.protocol.incoming import incoming

Talk = Callable[[socket.socket], Coroutine[Any, Any, Any]]
WAIT_S = 30.0


def converse(talk: Talk, application: Any, protocol: Callable[..., Any], patience_s: float) -> tuple[Any, ServerState]:
    """Send bytes on a new connection; returns what the client received and the server's state afterwards."""
    return asyncio.run(conversing(talk, application, protocol, patience_s))


async def conversing(
    talk: Talk, application: Any, protocol: Callable[..., Any], patience_s: float
) -> tuple[Any, ServerState]:
    """Do the same in the running loop."""
    loop = asyncio.get_running_loop()
    config = Config(application, lifespan="off", log_config=None)
    config.timeout_keep_alive = patience_s  # type: ignore[assignment]
    config.load()
    state = ServerState()
    connect = incoming(protocol)
    server = await loop.create_server(lambda: connect(config, state, {}, loop), "127.0.0.1", 0)
    connection = socket.socket()
    connection.setblocking(False)
    async with server:
        with connection:
            await loop.sock_connect(connection, server.sockets[0].getsockname())
            seen = await asyncio.wait_for(talk(connection), WAIT_S)
        for _ in range(100):
            await asyncio.sleep(0)
        return seen, state


async def until_closed(client: socket.socket, *parts: bytes) -> bytes:
    """Send part by part, and return all that comes until the server closes the connection."""
    loop, received = asyncio.get_running_loop(), b""
    for part in parts:
        await loop.sock_sendall(client, part)
        await asyncio.sleep(0.01)
    while piece := await loop.sock_recv(client, 1 << 16):
        received += piece
    return received
