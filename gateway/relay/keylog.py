"""OpenSSL's key log, by which Wireshark decrypts what it has recorded."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


class KeyLog:
    """A file of session keys, for its owner alone.  Whoever reads it reads every connection."""

    def __init__(self, path: Path, failed: Callable[[Path, OSError], None]) -> None:
        """Open the file.  Raises OSError.  failed: hears of the first line that can't be written."""
        self.path = path
        self._failed = failed
        self._broken = False
        # No link is followed: who may write to the folder must not choose where keys go.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise OSError(22, "not a plain file", str(path))
            os.fchmod(self._descriptor, 0o600)  # one that was there may have been for all
        except OSError:
            os.close(self._descriptor)
            raise

    def write(self, line: bytes) -> None:
        """Add a line; no session fails because of it."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError as error:
            if not self._broken:
                self._broken = True
                self._failed(self.path, error)
        else:
            self._broken = False

    def close(self) -> None:
        """Write no more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
