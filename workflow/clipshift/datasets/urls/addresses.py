"""Which addresses a download may connect to. Standard library only.

A list of URLs comes from strangers. Without a check it can make this machine ask its own services
and those of its network, e.g. the metadata service of a cloud.
"""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# An IPv4 address behind a translating gateway (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(OSError):
    """An address that is not connected to; the message begins with `refused: KIND`."""


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself.

    >>> str(inner(ipaddress.ip_address("::ffff:10.0.0.1")))
    '10.0.0.1'
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def kind(address: Address) -> str | None:
    """What is wrong with an address that the internet at large does not share, or None.

    >>> kind(ipaddress.ip_address("169.254.169.254"))
    'link-local address'
    >>> kind(ipaddress.ip_address("1.1.1.1"))
    """
    address = inner(address)
    if address.is_loopback or address.is_unspecified:
        return "loopback address"
    if address.is_link_local:
        return "link-local address"
    if address.is_multicast or not address.is_global:
        return "private address"
    return None


@dataclass(frozen=True)
class Policy:
    """Networks that are connected to although they are not public."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[str]) -> "Policy":
        return cls(tuple(ipaddress.ip_network(text) for text in networks))

    def check(self, address: str) -> None:
        """Raise `Refused` unless an address (as `getaddrinfo` gives it) may be connected to."""
        found = ipaddress.ip_address(address.partition("%")[0])
        if any(candidate in net for net in self.allowed for candidate in (found, inner(found))):
            return
        if what := kind(found):
            raise Refused(f"refused: {what} {found}")

    def connect(
        self, place: tuple[str, int], timeout: float | None, source: Sequence[str] | None = None
    ) -> socket.socket:
        """As `socket.create_connection`, to an address that was checked.

        The name is resolved once, every address it has is checked, and the connection goes to such
        an address and not to the name: an answer that changes between the check and the connection
        (DNS rebinding) changes nothing.
        """
        host, port = place
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, target in found:
            self.check(str(target[0]))
        failure: OSError = OSError(f"no address of {host}")
        for family, form, protocol, _, target in found:
            connection = socket.socket(family, form, protocol)
            try:
                connection.settimeout(timeout)
                connection.connect(target)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        raise failure
