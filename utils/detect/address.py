"""Network addresses of images and streams: parse them, hide their passwords, download images."""

from __future__ import annotations

import base64
import http.client
import os
import re
import string
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from utils.dataset.images import IMAGE_SUFFIXES
from utils.detect.video import VIDEO_SUFFIXES
from utils.errors import InputError, RunError

_WEB = ("http", "https")
_LISTENING = ("udp", "rtp", "tcp", "srt")  # the host is optional: without it, this machine waits for a sender
SCHEMES = (*_WEB, "rtsp", "rtsps", "rtmp", "rtmps", *_LISTENING)
_LIVE_SUFFIXES = frozenset({".flv", ".ts"})  # of files and of live streams over HTTP
# Some cameras have the password in the path.
_SECRET = re.compile(r"((?:user|login|pass|pwd|token|key|auth|secret)\w*=)[^&/;]*", re.IGNORECASE)
_MAX_NAME_LENGTH = 60  # characters

_TIMEOUT = 30.0  # seconds without an answer or data
_MAX_SECONDS = 120.0  # of a download
_MAX_BYTES = 64 * 2**20
_CHUNK = 2**16  # bytes
_USER_AGENT = "Yolo-FastestV2"  # some servers refuse the name of Python's client


@dataclass(frozen=True)
class Address:
    """A network address."""

    url: str = field(repr=False)  # as given; it may contain a password
    shown: str  # for messages and files: without user name, password and query
    name: str  # for the names of files and folders
    is_image: bool  # an http(s) address whose path ends with the suffix of an image
    is_video_file: bool  # an http(s) address whose path ends with the suffix of a video, which has a last frame


def parse_address(text: str) -> Address | None:
    """Parse `scheme://user:password@host:port/path?query`; None if the text is a path.

    Raises:
        InputError: the scheme is unknown, or it is not an address. The message contains no password.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    # A single letter is a Windows drive.
    if not colon or len(scheme) == 1 or (not rest.startswith("//") and (scheme not in SCHEMES or os.path.exists(text))):
        return None
    if scheme not in SCHEMES:
        raise InputError(f"{scheme}://…: expected a path, or an address that begins with {' '.join(SCHEMES)}")
    try:
        parts = urlsplit(text)
        valid = rest.startswith("//") and parts.port != 0 and (parts.hostname or scheme in _LISTENING)
    except ValueError:  # the port is not a number, or the brackets of an IPv6 address are wrong
        valid = False
    if not valid:
        raise InputError(
            f"{scheme}:…: expected {scheme}://user:password@host:port/path, of which user, password and port are "
            "optional; in a password, write %2F %3F %23 %40 for / ? # @"
        )
    shown = _without_secrets(rest.removeprefix("//"))
    suffix = os.path.splitext(shown)[1].lower() if scheme in _WEB else ""
    is_image, is_video = suffix in IMAGE_SUFFIXES, suffix in VIDEO_SUFFIXES
    path = PurePosixPath(unquote(shown))
    name = re.sub(r"[^\w.-]+", "_", path.stem if is_image or is_video else str(path)).strip("_.-")[:_MAX_NAME_LENGTH]
    return Address(
        url=f"{scheme}:{rest}",
        shown=f"{scheme}://{shown}",
        name=name or "stream",
        is_image=is_image,
        is_video_file=is_video and suffix not in _LIVE_SUFFIXES,
    )


def _without_secrets(rest: str) -> str:
    """Remove user name, password, query and fragment from an address without its scheme."""
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    # A password may contain @ and /, so the credentials end at the last @.
    credentials, at, after = rest.rpartition("@")
    if at and (":" in credentials or "/" not in credentials):
        rest = after
    return _SECRET.sub(r"\1***", rest)


def download_image(address: Address) -> bytes:
    """Download the file at an http(s) address into memory.

    Raises:
        InputError: the server answers that it has no such file, or the file is too large.
        RunError: there is no connection, or it is too slow.
    """
    shown = address.shown
    deadline = time.monotonic() + _MAX_SECONDS
    content = bytearray()
    try:
        with urllib.request.urlopen(_request(urlsplit(address.url)), timeout=_TIMEOUT) as response:
            while chunk := response.read1(_CHUNK):
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise InputError(f"{shown}: expected an image of at most {_MAX_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise RunError(f"{shown}: the download took longer than {_MAX_SECONDS:.0f} s")
    except urllib.error.HTTPError as error:
        raise InputError(f"{shown}: expected an image, the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise RunError(f"{shown}: cannot download: {reason}") from error
    return bytes(content)


def _request(parts: SplitResult) -> urllib.request.Request:
    """Create a request. urllib rejects credentials, spaces and non-ASCII letters in addresses."""
    host = parts.netloc.rpartition("@")[2]
    path, query = (quote(text, safe=string.punctuation) for text in (parts.path, parts.query))
    request = urllib.request.Request(
        urlunsplit((parts.scheme, host, path, query, "")), headers={"User-Agent": _USER_AGENT}
    )
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # Not sent to another server if this one redirects.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode()}")
    return request
