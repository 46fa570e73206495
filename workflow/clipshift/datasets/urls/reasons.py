"""Names for what became of a URL: few enough to count, from img2dataset's words."""

import re

SUCCESS = "success"
# First match wins. Messages are those of Python's urllib, http.client, socket and ssl, of
# img2dataset's resizer, and our own (`addresses`, `web`).
_NAMES = [
    (r"refused: (?P<name>[a-z-]+ address)", "refused: {name}"),
    (r"Redirection to url .* is not allowed", "refused: redirect to another scheme"),
    (r"HTTP Error 30\d: The HTTP server returned a redirect error", "redirects without end"),
    (r"HTTP Error (?P<name>\d{3})", "HTTP {name}"),
    (r"timed? ?out", "timeout"),
    (r"IncompleteRead|cut-off image", "truncated"),
    (r"larger than \d+ bytes", "too large"),
    (r"X-Robots-Tag", "disallowed by X-Robots-Tag"),
    (r"Name or service|name resolution|No address associated|nodename nor", "host not found"),
    (r"label (empty|too long)|no host given|InvalidURL|nonnumeric port|contain control", "no URL"),
    (r"unknown url type|'idna' codec|Invalid IPv6 URL|Port out of range", "no URL"),
    (r"certificate|SSL|TLS", "TLS failed"),
    (
        r"[Rr]efused|reset by peer|aborted|[Uu]nreachable|without response|no address of",
        "no answer",
    ),
    (r"BadStatusLine|LineTooLong|got more than|HTTP/", "no answer"),
    (r"CV_IO_MAX_IMAGE_", "too many pixels"),
    (r"Image decoding error", "not an image"),
    (r"(?P<name>image too small|image area too large|aspect ratio too large)", "{name}"),
]


def reason(status: str, message: str | None) -> str | None:
    """Why a URL gave no image, or None where it did.

    >>> reason("failed_to_download", "HTTP Error 404: Not Found")
    'HTTP 404'
    >>> reason("failed_to_download", "<urlopen error [Errno -2] Name or service not known>")
    'host not found'
    >>> reason("success", None)
    """
    if status == SUCCESS:
        return None
    for pattern, name in _NAMES:
        if found := re.search(pattern, message or ""):
            return name.format(**found.groupdict())
    return "image could not be resized" if status == "failed_to_resize" else "other failure"
