"""A bucket of S3, or of a store that speaks it: whole objects under a prefix.

Credentials come from where AWS's own programs take them (AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, a profile, the machine's role), never from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")


def bucket_problem(url: str, endpoint: str) -> str:
    """Say what is wrong with the address of a bucket; "" if nothing is."""
    if url and (not url.startswith("s3://") or not url[5:].strip("/") or "@" in url):
        return 'url is "s3://bucket/prefix", without credentials'
    if endpoint and not (url and endpoint.startswith(("https://", "http://"))):
        return 'endpoint is an address as "https://host:port", and goes with url'
    return ""


class Bucket:
    """Objects by key below the prefix of a URL.  Methods block, and raise OSError: what is not there too."""

    def __init__(self, url: str, *, endpoint: str, region: str, timeout: float) -> None:
        """timeout: seconds for connecting and for a request.  Raises ValueError without obstore."""
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError:
            raise ValueError('url needs the extra "s3": pip install "mailgate[s3]"') from None
        self._obstore = obstore
        limit = f"{timeout:g}s"
        more: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        self._store = S3Store.from_url(
            url,
            region=region,
            client_options={
                "timeout": limit,
                "connect_timeout": limit,
                "allow_http": endpoint.startswith("http://"),
            },
            retry_config={"max_retries": 1},
            **more,
        )

    def _try(self, function: Callable[..., Result], *arguments: Any, **more: Any) -> Result:
        try:
            return function(self._store, *arguments, **more)
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise OSError(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}") from error

    def put(self, key: str, content: bytes | Iterable[bytes]) -> None:
        """Write an object: it is there whole, or not at all."""
        self._try(self._obstore.put, key, content)

    def get(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self._try(lambda store, key: self._obstore.get(store, key).bytes(), key))

    def delete(self, key: str) -> None:
        """Take an object away, if it is there."""
        self._try(self._obstore.delete, key)

    def list(self) -> Iterator[tuple[str, int]]:
        """Give the key and the octets of each object."""
        listed = self._try(lambda store, prefix: [*self._obstore.list(store, prefix)], None)
        for some in listed:
            for one in some:
                yield str(one["path"]), int(one["size"])
