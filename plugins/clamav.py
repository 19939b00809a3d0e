"""Have ClamAV's clamd look for malware.

    [[plugins]]
    name = "clamav"
    use = "clamav"
    time_limit = 30.0
    options = { address = "unix:/run/clamav/clamd.ctl", seconds = 28.0 }

The message goes to clamd as it is (INSTREAM), over a connection of its own.  What is found is
refused, quarantined, discarded or marked; a clamd that does not answer, or can't scan, is a
failure of the plugin, which ``on_error`` settles.
"""

from __future__ import annotations

import re
import struct
from typing import Literal

from pydantic import BaseModel, Field

from gateway import plugin as api
from gateway.plugin import Message, SessionRecord, Verdict

_FOUND = re.compile(r"stream: (.{1,500}) FOUND")
_LENGTH = struct.Struct("!I")
Infected = Literal["reject", "quarantine", "discard", "tag"]


class ClamAv(api.Plugin):
    """Asks clamd, and stops what it finds."""

    class Options(api.PluginOptions):
        """Where clamd is, and what becomes of what it finds."""

        address: api.ServiceAddresses
        """"unix:/path" or "host:port"; of several the first that answers is asked"""
        connect_timeout: api.ServiceSeconds = 1.0
        """seconds until a connection stands"""
        seconds: api.ServiceSeconds = 4.5
        """seconds for everything together: less than the table's time_limit"""
        infected: Infected = "reject"
        """what becomes of a message in which something is found; "tag" adds `header`"""
        heuristics: Infected | None = None
        """the same for names that begin with "Heuristics."; as `infected` if left out"""
        max_size: int = Field(default=25 << 20, ge=1)
        """octets above which nothing is scanned; no more than clamd's StreamMaxLength"""
        larger: Literal["error", "pass", "reject", "quarantine"] = "error"
        """what becomes of a larger message; "error": see on_error"""
        header: api.FieldName = "X-Virus-Found"
        """the field of "tag"; one that came with a message is removed"""
        reason: str = "Malware found: {signature}"
        """what the client is told"""

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        own = self.options
        self._clamd = api.Service(own.address, connect_timeout=own.connect_timeout, seconds=own.seconds)

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Ask clamd."""
        own = self.options
        if message.size > own.max_size:
            message.note("not_scanned", f"{message.size} octets")
            return self._too_large(message)
        reply = self._clamd.ask(lambda talk: _scan(talk, message))
        if reply == "stream: OK":
            return self._clean(message)
        found = _FOUND.fullmatch(reply)
        assert found is not None  # _scan gives nothing else
        signature = found.group(1)
        message.note("signature", signature)
        heuristic = signature.startswith("Heuristics.") and own.heuristics is not None
        action = own.heuristics if heuristic else own.infected
        reason = own.reason.replace("{signature}", api.plain_text(signature, 200))
        match action:
            case "quarantine":
                return api.Quarantine(reason)
            case "discard":
                return api.Discard(reason)
            case "tag":
                edits = message.edits()
                edits.set_header(own.header, api.plain_text(signature, 200))
                return api.Modify(edits)
            case _:
                return api.Reject(reason)

    def _clean(self, message: Message) -> Verdict:
        tags = "tag" in (self.options.infected, self.options.heuristics)
        if not tags or message.header(self.options.header) is None:
            return api.Pass()
        edits = message.edits()
        edits.remove_header(self.options.header)  # whoever sent it is not believed
        return api.Modify(edits)

    def _too_large(self, message: Message) -> Verdict:
        reason = f"Message of {message.size} octets is too large to be scanned"
        match self.options.larger:
            case "pass":
                return api.Pass()
            case "reject":
                return api.Reject(reason)
            case "quarantine":
                return api.Quarantine(reason)
        raise api.ServiceError(f"{reason}: max_size is {self.options.max_size}")


def _scan(talk: api.Talk, message: Message) -> str:
    """Send the message, and return what clamd says of it: that it is clean, or what it has found."""
    try:
        talk.send(b"zINSTREAM\0")
        for piece in api.pieces(message.buffer):
            talk.send(_LENGTH.pack(len(piece)))
            talk.send(piece)
        talk.send(_LENGTH.pack(0))
    except (BrokenPipeError, ConnectionResetError):
        pass  # beyond its StreamMaxLength it says so, and hears no more
    try:
        reply = talk.line(b"\0", 4096).decode("utf-8", "replace").strip()
    except ConnectionResetError:
        raise api.ServiceError("it closed the connection: is max_size above its StreamMaxLength?") from None
    if reply == "stream: OK" or _FOUND.fullmatch(reply):
        return reply
    raise api.ServiceError(f"it answers {api.plain_text(reply, 200)!r}")
