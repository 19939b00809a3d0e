"""LIST and STAT with the sizes of messages as judged."""

from __future__ import annotations

from gateway.core.rules import Rules
from gateway.core.steps import Stage
from gateway.protocols.pop3.engine import Pop3Engine
from tests.support.play import play

RULES = Rules(hostname="gate.example", hold=frozenset({Stage.RETR}), exact_sizes=True, judge_listings=2)
GREETED = """
U>  +OK ready
>U  CAPA
U>| +OK\\r\\nUIDL\\r\\nPIPELINING\\r\\n.\\r\\n
>C  +OK ready
"""
LISTED = """
>U  LIST
U>| +OK\\r\\n1 10\\r\\n2 20\\r\\n3 30\\r\\n.\\r\\n
"""
UNIQUE = """
>U  UIDL
U>| +OK\\r\\n1 a\\r\\n2 b\\r\\n3 c\\r\\n.\\r\\n
"""


def judged(number: int, verdict: str) -> str:
    return f"""
>U  RETR {number}
U>| +OK\\r\\nhello {number}\\r\\n.\\r\\n
!   BodyStart(upstream, retr, held)
!   body hello {number}|
!   BodyEnd(upstream)
?   {verdict}
!   BodyAbort(upstream)
"""


def test_a_listing_of_judged_messages():
    """At most two are judged for one answer; the third keeps the upstream's size until the next."""
    play(
        Pop3Engine,
        GREETED
        + "C>  LIST\n"
        + LISTED
        + UNIQUE
        + judged(1, "modify 99")
        + judged(2, "pass")
        + """
>C| +OK 3 messages\\r\\n1 99\\r\\n2 9\\r\\n3 30\\r\\n.\\r\\n
C>  STAT
"""
        + LISTED
        + judged(3, "modify 7")
        + """
>C  +OK 3 115
C>  LIST 1
"""
        + LISTED
        + ">C  +OK 1 99\nC>  NOOP\n>U  NOOP\n",
        RULES,
    )


def test_a_message_that_can_not_be_judged_keeps_its_size():
    play(
        Pop3Engine,
        GREETED
        + "C>  LIST 2\n"
        + LISTED
        + ">U  UIDL\nU>  -ERR unknown\n"
        + judged(2, "defer Scanner down")
        + ">C  +OK 2 20\nC>  LIST 1\n"
        + LISTED
        + """
>U  RETR 1
U>  -ERR locked
>C  +OK 1 10
""",
        RULES,
    )


def test_the_upstream_says_what_is_wrong_with_a_listing():
    play(
        Pop3Engine,
        GREETED
        + "C>  LIST 4\n"
        + LISTED
        + UNIQUE
        + """
>U  LIST 4
U>  -ERR no such message
>C  -ERR no such message
C>  STAT
>U  LIST
U>  -ERR locked
>U  STAT
U>  +OK 3 60
>C  +OK 3 60
C>  LIST x y
>U  LIST x y
U>  -ERR no
>C  -ERR no
""",
        RULES,
    )


def test_sizes_wait_for_what_was_asked_before():
    play(
        Pop3Engine,
        GREETED
        + """
C>| NOOP\\r\\nSTAT\\r\\nQUIT\\r\\n
>U  NOOP
U>  +OK
>C  +OK
>U  LIST
U>| +OK\\r\\n.\\r\\n
>U  UIDL
U>| +OK\\r\\n.\\r\\n
>C  +OK 0 0
>U  QUIT
U>  +OK
>C  +OK
!   Close(quit)
""",
        RULES,
    )


def test_the_upstream_dies_within_a_message_that_is_judged_for_its_size():
    play(
        Pop3Engine,
        GREETED
        + "C>  STAT\n"
        + LISTED
        + UNIQUE
        + """
>U  RETR 1
U>| +OK\\r\\nhalf
!   BodyStart(upstream, retr, held)
!   body half
?   closed upstream
!   Fault(upstream, truncated_body)
>C  -ERR [SYS/TEMP] Connection to the mail server lost, try again later
!   BodyAbort(upstream)
!   Close(upstream_eof)
""",
        RULES,
        cuttings=("glued", "line by line"),
    )
