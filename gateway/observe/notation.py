"""The notation of plays: conversations as text, one line for each thing said.

::

    C>  EHLO me          the client says (CRLF is added)
    C>| raw\\r\\n          the same, with Python's escapes and no line end added
    U>  250 ok           the upstream says
    >U  EHLO me          the gateway sends upstream
    >C  250 ok           the gateway sends the client
    !   StartTls(client) a step: an order or a fact
    ?   routed           news from outside the conversation
    # comment
"""

from __future__ import annotations

from ..core.steps import (
    BodyAbort,
    BodyData,
    BodyEnd,
    BodyStart,
    ClientNamed,
    Close,
    CommandSeen,
    Connect,
    ExtensionStruck,
    Fault,
    LoginSeen,
    Refused,
    ReplySeen,
    Send,
    SendBody,
    StartTls,
    Step,
    TlsStarted,
)


def spell(mark: str, data: bytes) -> str:
    """Write what was said as one line of a play; plain where that reads back the same."""
    text = data[:-2]
    if data[-2:] == b"\r\n" and text[:1] != b" " and text.isascii():
        words = text.decode("ascii")
        if words.isprintable():
            return f"{mark}  {words}" if words else mark
    return f"{mark}| {data.decode('latin-1').encode('unicode_escape').decode('ascii')}"


def unspell(rest: str) -> bytes:
    """Read what stands behind the two letters of the mark.  Raises ValueError."""
    if rest.startswith("|"):
        text = rest[2:] if rest.startswith("| ") else rest[1:]
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    return rest.removeprefix("  ").removeprefix(" ").encode() + b"\r\n"


def render(step: Step) -> str:
    """Write an order or a fact, in one line without secrets; not for Send and BodyData."""
    match step:
        case BodyStart(source=source, stage=stage, held=held, section=section, partial=partial):
            words = [str(source), str(stage), "held" if held else "passing"]
            words += [f"[{section}]"] if section else []
            words += ["partial"] if partial else []
            return f"BodyStart({', '.join(words)})"
        case BodyEnd(source) | BodyAbort(source):
            return f"{type(step).__name__}({source})"
        case SendBody(side=side, framing=framing, piece=piece):
            place = f", {piece.start}-{piece.end}" if piece is not None else ""
            if step.lines is not None:
                place = f", {step.lines} lines"
            return f"SendBody({side}, {framing.value}{place})"
        case StartTls(side) | TlsStarted(side=side):
            return f"{type(step).__name__}({side})"
        case Connect():
            return "Connect()"
        case Close(reason=reason):
            return f"Close({reason})"
        case CommandSeen(_, verb, text):
            return f"CommandSeen({verb}, {text})"
        case ReplySeen(command, result, _):
            return f"ReplySeen({command.verb}, {result})"
        case LoginSeen(mechanism=mechanism, user=user, outcome=outcome):
            return f"LoginSeen({mechanism}, {user}, {outcome})"
        case ClientNamed(how, name):
            return f"ClientNamed({how}, {name})"
        case Fault(side, kind, _):
            return f"Fault({side}, {kind})"
        case Refused(verb, reason):
            return f"Refused({verb}, {reason})"
        case ExtensionStruck(name, _):
            return f"ExtensionStruck({name})"
        case Send(side, data):
            return f"Send({side}, {len(data)} octets)"
        case BodyData(source, data):
            return f"BodyData({source}, {len(data)} octets)"
