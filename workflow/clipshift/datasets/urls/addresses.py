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


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# Addresses that the internet does not share, by name (IANA's registries of special addresses, as
# they are whatever Python's own lists say). Of IPv6 only 2000::/3 is the internet's.
_LOOPBACK = _networks("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128")
_LINK_LOCAL = _networks("169.254.0.0/16", "fe80::/10")
# Of clouds' services for their machines those that lie on a public address (Azure).
_METADATA = _networks("168.63.129.16/32")
_PRIVATE = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3", "2001::/23", "2001:db8::/32", "3fff::/20",
)  # fmt: skip
_PUBLIC = ipaddress.IPv6Network("2000::/3")
# IPv6 addresses that end with an IPv4 address: translated (RFC 6052), mapped, compatible.
_ENDING = _networks("64:ff9b::/96", "::ffff:0:0/96", "::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # before the IPv4 address at the end


class Refused(OSError):
    """An address that is not connected to; the message begins with `refused: KIND`."""


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself.

    >>> str(inner(ipaddress.ip_address("::ffff:10.0.0.1")))
    '10.0.0.1'
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    number = int(address)
    ends = any(address in network for network in _ENDING) and number > 1
    if ends or number >> 32 & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return address.sixtofour or address


def kind(address: Address) -> str | None:
    """What is wrong with an address that the internet at large does not share, or None.

    >>> kind(ipaddress.ip_address("169.254.169.254"))
    'link-local address'
    >>> kind(ipaddress.ip_address("1.1.1.1"))
    """
    address = inner(address)
    for name, networks in (
        ("loopback", _LOOPBACK),
        ("link-local", _LINK_LOCAL),
        ("metadata", _METADATA),
        ("private", _PRIVATE),
    ):
        if any(address in network for network in networks):
            return f"{name} address"
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC:
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
