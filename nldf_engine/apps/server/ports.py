"""An event loop that binds datagram sockets within a range of ports.

ICE (aioice) binds "any port" of the running loop. A firewall lets through a range: here "any port" is one of
that range, taken in turn.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any

TAKEN = (errno.EADDRINUSE, errno.EACCES)


class PortRangeLoop(asyncio.SelectorEventLoop):
    """Args:
    ports: first and last port that is bound where a datagram socket is wanted on any.
    """

    def __init__(self, ports: tuple[int, int]) -> None:
        super().__init__()
        self._ports = range(ports[0], ports[1] + 1)
        self._next = 0

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **more: Any
    ) -> Any:
        """As of the loop, but for local ports of 0.

        Raises:
            OSError: no port of the range is free.
        """
        make = super().create_datagram_endpoint
        if local_addr is None or local_addr[1] != 0:
            return await make(protocol_factory, local_addr, remote_addr, **more)
        for _ in self._ports:
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            try:
                return await make(protocol_factory, (local_addr[0], port), remote_addr, **more)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
        raise OSError(
            errno.EADDRINUSE, f"no UDP port of {self._ports[0]}-{self._ports[-1]} is free; widen --udp-ports"
        )
