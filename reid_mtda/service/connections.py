"""Open connections: whoever waits, sends or reads too slowly is let go, and no address holds the places of others.

Nobody needs a token to open connections. Each one is counted from the moment it is accepted, TLS handshake
included. Where an address, or everybody together, has reached the limit, the connection that has waited longest
without a whole request makes room: those who have something to say are served, the same address's included.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_WAIT_S = 10.0  # for the handshake and the headers of a request
_SEND_S = 10.0  # for a body, and as long again for each 160 kB of it
_SLOWEST_BYTES = 16_000  # a second
_READ_S = 30.0  # without a byte of the answer taken
_LINGER_S = 1.0  # for an answer to be read by somebody who is still sending what is not wanted
_SWEEP_TICKS = 10  # of a tenth of a second

Peer = tuple[str, int]


class Phase(Enum):
    """What a connection does: it has no whole request's headers yet, it sends the body, or it is answered."""

    WAITING = "waiting"
    SENDING = "sending"
    ANSWERED = "answered"


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    whose: str
    since_s: float
    phase: Phase = Phase.WAITING
    received: int = 0
    unread_since_s: float | None = None
    is_held: Callable[[], bool] = lambda: False


class Connections:
    """The open connections of one server; used in its event loop alone.

    Args:
        most: at once.
        most_by_address: at once by one address; an IPv6 network of 64 bits counts as one.
        exempt: addresses and networks of trusted proxies, who speak for many.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        most: int,
        most_by_address: int,
        exempt: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._most_by_address, self._clock = most, most_by_address, clock
        self._exempt = [ipaddress.ip_network(one) for one in exempt]
        self._open: dict[Peer, _Connection] = {}

    def __len__(self) -> int:
        self._drop_closed()
        return len(self._open)

    def accept(self, connection: socket.socket, peer: Peer) -> bool:
        """Count a new connection; False, and it is closed, where there is no place and nobody who merely waits."""
        self._drop_closed()
        whose = self._whose(peer[0])
        own = [one for one in self._open.values() if one.whose == whose]
        if whose and len(own) >= self._most_by_address and not self._let_one_go(own):
            connection.close()
            return False
        if len(self._open) >= self._most and not self._let_one_go(self._of_the_busiest_address()):
            connection.close()
            return False
        self._open[peer] = _Connection(connection, whose, self._clock())
        return True

    def tell(self, peer: Peer, phase: Phase, received: int = 0) -> None:
        """A connection is in ``phase`` and sent so many bytes.

        Args:
            peer: who opened the connection.
            phase: what it does.
            received: how many bytes of the request came so far.
        """
        if (one := self._open.get(peer)) is None:
            return
        if one.phase is not phase:
            one.phase, one.since_s, one.received = phase, self._clock(), 0
        one.received += received

    def watch(self, peer: Peer, is_held: Callable[[], bool]) -> None:
        """``is_held`` says whether the server itself has stopped reading from a connection, whose time then stands."""
        if (one := self._open.get(peer)) is not None:
            one.is_held = is_held

    def unread(self, peer: Peer, *, is_unread: bool) -> None:
        """The other side takes no more of its answer, or takes it again."""
        if (one := self._open.get(peer)) is not None:
            one.unread_since_s = self._clock() if is_unread else None

    def lost(self, peer: Peer) -> None:
        """A connection has ended."""
        self._open.pop(peer, None)

    def sweep(self) -> None:
        """Let those go whose time is over."""
        self._drop_closed()
        now = self._clock()
        for one in self._open.values():
            waited = now - one.since_s
            if one.phase is Phase.SENDING and one.is_held():
                one.since_s = now - min(waited, one.received / _SLOWEST_BYTES)
                continue
            is_late = {
                Phase.WAITING: waited > _WAIT_S,
                Phase.SENDING: waited > _SEND_S + one.received / _SLOWEST_BYTES,
                Phase.ANSWERED: False,
            }[one.phase]
            if is_late or (one.unread_since_s is not None and now - one.unread_since_s > _READ_S):
                _let_go(one)

    def _let_one_go(self, among: Sequence[_Connection]) -> bool:
        """Close the one that has waited longest for its own request; one with a body under way where none waits."""
        for phase in (Phase.WAITING, Phase.SENDING):
            if found := [one for one in among if one.phase is phase and one.socket.fileno() >= 0]:
                oldest = min(found, key=lambda one: one.since_s)
                _let_go(oldest)
                self._open = {peer: one for peer, one in self._open.items() if one is not oldest}
                return True
        return False

    def _of_the_busiest_address(self) -> list[_Connection]:
        """The connections of whoever has most that are not being answered; those of proxies where nobody else has."""
        counts = Counter(one.whose for one in self._open.values() if one.phase is not Phase.ANSWERED)
        busiest = max(counts, key=lambda whose: (bool(whose), counts[whose]), default=None)
        return [one for one in self._open.values() if one.whose == busiest]

    def _drop_closed(self) -> None:
        """Forget connections that ended before they spoke HTTP, e.g. in their handshake."""
        for peer in [peer for peer, one in self._open.items() if one.socket.fileno() < 0]:
            del self._open[peer]

    def _whose(self, host: str) -> str:
        """Which connections count together; '' for those of a trusted proxy."""
        whose = owner_of(host)
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(host.partition("%")[0])
            if any(address in network for network in self._exempt if network.version == address.version):
                return ""
        return whose


def owner_of(host: str) -> str:
    """Whose failures and connections count together: an IPv4 address, or the 64 bits that one IPv6 customer has.

    >>> owner_of("192.0.2.7"), owner_of("::ffff:192.0.2.7"), owner_of("2001:db8::1:2"), owner_of("testclient")
    ('192.0.2.7', '192.0.2.7', '2001:db8::/64', 'testclient')
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False)) if not address.is_loopback else str(address)


def _let_go(one: _Connection) -> None:
    with contextlib.suppress(OSError):
        one.socket.shutdown(socket.SHUT_RDWR)  # the event loop sees its end, and closes it


class Listener(socket.socket):
    """A listening socket that has its connections counted."""

    connections: Connections | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """As of a socket; one that finds no place is closed and passed over."""
        connection, peer = super().accept()
        if self.connections is not None and not self.connections.accept(connection, peer[:2]):
            raise ConnectionAbortedError("too many connections")  # asyncio goes on with the next one
        return connection, peer


class Server(uvicorn.Server):
    """Uvicorn with deadlines and limits for those who wait, send and read."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        config.http = _protocol(connections)
        super().__init__(config)
        self.connections = connections

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on ``sockets``, made as ``Listener``, until told to stop."""
        for one in sockets or ():
            if isinstance(one, Listener):
                one.connections = self.connections
        super().run(sockets)

    async def on_tick(self, counter: int) -> bool:
        """As of uvicorn, ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            self.connections.sweep()
        return await super().on_tick(counter)


def _protocol(connections: Connections) -> type[H11Protocol]:
    class Counted(H11Protocol):
        """HTTP of one connection, which tells what it does."""

        _peer: Peer = ("", 0)

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._peer = (transport.get_extra_info("peername") or self._peer)[:2]
            connections.watch(self._peer, lambda: self.flow.read_paused)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.lost(self._peer)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._tell(len(data))

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                return
            if self.conn.their_state is h11.SEND_BODY:
                # What is still under way was not wanted; closed at once, it would cost the other side the answer.
                self.flow.pause_reading()
                self.loop.call_later(_LINGER_S, self.transport.close)
            self._tell(0)

        def pause_writing(self) -> None:
            super().pause_writing()
            connections.unread(self._peer, is_unread=True)

        def resume_writing(self) -> None:
            super().resume_writing()
            connections.unread(self._peer, is_unread=False)

        def _tell(self, received: int) -> None:
            phase = {h11.IDLE: Phase.WAITING, h11.SEND_BODY: Phase.SENDING}.get(self.conn.their_state, Phase.ANSWERED)
            connections.tell(self._peer, phase, received)

    return Counted
