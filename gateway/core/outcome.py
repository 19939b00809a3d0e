"""What the pipeline's verdicts on one message came to, in terms an engine can word."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is to be done with a held message."""

    PASS = "pass"
    MODIFY = "modify"
    REJECT = "reject"
    QUARANTINE = "quarantine"
    DISCARD = "discard"
    DEFER = "defer"  # a plugin failed, or the spool is full: a temporary failure


@dataclass(slots=True)
class Outcome:
    """The decision on one held message.

    size: octets of the message that SendBody will send.
    eight_bit: the message holds octets above 127.
    ends_with_newline: its last two octets are CRLF.
    accept: for QUARANTINE and DISCARD: tell the client that the message was taken.
    notice: for messages towards a client (REJECT, QUARANTINE, DEFER): SendBody sends a short
        notice of ``size`` octets in place of the message.
    """

    action: Action
    size: int = 0
    reason: str = ""
    eight_bit: bool = False
    ends_with_newline: bool = True
    accept: bool = False
    notice: bool = False


PASS = Action.PASS
