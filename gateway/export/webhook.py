"""Records to a webhook: batches by POST, signed as Standard Webhooks are (https://www.standardwebhooks.com).

A receiver makes HMAC-SHA-256 of ``id.timestamp.body`` with the secret and compares its base64 with
``webhook-signature``.  The id of a batch is the same whenever it is sent again.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..audit.chain import read_key
from ..audit.record import StoredRecord
from ..audit.store import StoreError
from .ecs import line
from .outlet import Outlet, sendable, words

#: The receiver will never take this batch: it is no outage, and no use to try again.
_REFUSED = frozenset({400, 413, 415, 422})
#: Seconds that a receiver may ask to be left alone.
_AFTER_MOST = 600.0


def read_secret(path: Path) -> bytes:
    """Return a secret: a key, or ``whsec_`` and base64 of one.  Raises ValueError."""
    key = read_key(path)
    if not key.startswith(b"whsec_"):
        return key
    try:
        return base64.b64decode(key[6:], validate=True)
    except binascii.Error:
        raise ValueError(f"{path}: what follows whsec_ is no base64") from None


class WebhookOutlet(Outlet):
    """Posts batches.

    url: http or https.  lines: the body is JSON objects line by line, else one array of them.
    secret: signs; None signs nothing.  headers: more of them.  timeout: in seconds.
    """

    def __init__(
        self,
        url: str,
        hostname: str,
        *,
        lines: bool = False,
        secret: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        self._name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._hostname = hostname
        self._lines = lines
        self._secret = secret
        self._headers = dict(headers or {})
        self._tls = tls if parts.scheme == "https" else None
        self._timeout = timeout

    def write(self, records: Sequence[StoredRecord]) -> None:
        told = [line(one, self._hostname) for one in sendable(records)]
        if self._lines:
            body, kind = b"".join(one + b"\n" for one in told), "application/x-ndjson"
        else:
            body, kind = b"[" + b",".join(told) + b"]", "application/json"
        ident = f"msg_{hashlib.blake2b(body, digest_size=15).hexdigest()}"
        headers = {
            "Content-Type": kind,
            "User-Agent": "mailgate",
            "webhook-id": ident,
            "webhook-timestamp": str(int(time.time())),
            **self._headers,
        }
        if self._secret is not None:
            signed = f"{ident}.{headers['webhook-timestamp']}.".encode() + body
            digest = hmac.digest(self._secret, signed, hashlib.sha256)
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        status, reason, after = self._post(body, headers)
        if 200 <= status < 300:
            return
        if status in _REFUSED:
            raise ValueError(f"{self._name}: {status} {reason}")
        raise StoreError(f"{self._name}: {status} {reason}", after)

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, float]:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        )
        try:
            connection.request("POST", self._target, body, headers)
            answer = connection.getresponse()
            answer.read(65536)
            return answer.status, answer.reason[:100], _seconds(answer.getheader("Retry-After", ""))
        except (OSError, http.client.HTTPException) as error:
            why = words(error) if isinstance(error, OSError) else f"no HTTP: {type(error).__name__}"
            raise StoreError(f"{self._name}: {why}") from None
        finally:
            connection.close()


def _seconds(after: str) -> float:
    """Read ``Retry-After`` (RFC 9110 10.2.3): seconds, or a date."""
    try:
        seconds = float(after) if after.isdigit() else email.utils.parsedate_to_datetime(after).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    if not after.isdigit():
        seconds -= time.time()
    return min(max(seconds, 0.0), _AFTER_MOST)
