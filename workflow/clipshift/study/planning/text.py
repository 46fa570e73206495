"""Amounts as people read them."""


def hours(seconds: float) -> str:
    """Hours with two leading digits at least.

    >>> hours(0), hours(360), hours(3_600_000)
    ('0', '0.1', '1,000')
    """
    value = seconds / 3600
    if not value:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def size(value: float) -> str:
    """Bytes in powers of a thousand.

    >>> size(0), size(25_000), size(1.02e13)
    ('0', '25 kB', '10 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value else "0"
        value /= 1000
    return f"{value:,.1f} PB"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(5), duration(90), duration(7200), duration(864_000)
    ('5 s', '2 min', '2.0 h', '10.0 d')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
