"""FETCH where plugins judge what clients read: one message, however it is fetched."""

from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from gateway.core.steps import Stage
from gateway.protocols.imap import ImapEngine
from tests.support.play import play
from tests.support.views import NEW, NOTICE

RULES = Rules(hostname="gate.example", hold=frozenset({Stage.FETCH}), judge_listings=10)
READY = """
U>  * PREAUTH [CAPABILITY IMAP4rev1] ready
>C  * PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] ready
C>  s SELECT INBOX
>U  s SELECT INBOX
U>  * OK [UIDVALIDITY 5] ok
>C  * OK [UIDVALIDITY 5] ok
U>  s OK done
>C  s OK done
"""
SIZE = len(NEW)


def views(text: str, rules: Rules = RULES) -> None:
    play(ImapEngine, READY + text, rules)


def test_a_message_that_passes_is_the_upstreams_octet_by_octet():
    views(
        """
C>  a UID FETCH 7 (FLAGS BODY[])
>U  a UID FETCH 7 (UID FLAGS BODY[])
U>| * 1 FETCH (UID 7 FLAGS () BODY[] {11}\\r\\na OK\\r\\n* BYE)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body a OK|* BYE
!   BodyEnd(upstream)
?   pass
>C| * 1 FETCH (UID 7 FLAGS () BODY[] {11}\\r\\n
!   SendBody(client, raw)
?   sent
>C| )\\r\\n
U>  a OK done
>C  a OK done
"""
    )


@pytest.mark.parametrize("item", ["BODY.PEEK[]", "RFC822"])
def test_a_rewritten_message_has_its_own_size(item):
    told = item.replace(".PEEK", "")
    views(
        f"""
C>  a FETCH 1 ({item} RFC822.SIZE FLAGS)
>U  a FETCH 1 (UID {item} RFC822.SIZE FLAGS)
U>| * 1 FETCH (UID 7 {told} {{5}}\\r\\nhello RFC822.SIZE 5 FLAGS (\\\\Seen))\\r\\na OK done\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hello
!   BodyEnd(upstream)
?   modify
!   BodyAbort(upstream)
>C| * 1 FETCH ({told} {{{SIZE}}}\\r\\nSubject: new\\r\\n\\r\\nNew text.\\r\\n
>C|  RFC822.SIZE {SIZE} FLAGS (\\\\Seen))\\r\\n
>C  a OK done
"""
    )


def test_several_messages_and_the_upstream_behind_them_wait_their_turn():
    views(
        """
C>  a UID FETCH 7:8 BODY[]
>U  a UID FETCH 7:8 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {2}\\r\\nhi)\\r\\n* 3 EXISTS\\r\\n
U>| * 2 FETCH (UID 8 BODY[] {2}\\r\\nho)\\r\\na OK done\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hi
!   BodyEnd(upstream)
?   pass
>C| * 1 FETCH (UID 7 BODY[] {2}\\r\\n
!   SendBody(client, raw)
?   sent
>C| )\\r\\n* 3 EXISTS\\r\\n
!   BodyStart(upstream, fetch, held)
!   body ho
!   BodyEnd(upstream)
?   reject no
!   BodyAbort(upstream)
>C| * 2 FETCH (UID 8 BODY[] {33}\\r\\nSubject: withheld\\r\\n\\r\\nWithheld.\\r\\n)\\r\\na OK done\\r\\n
""".replace("{33}", f"{{{len(NOTICE)}}}")
    )


@pytest.mark.parametrize(
    ("value", "body"), [('"hi"', "hi"), ('"a \\\\\\\\ b"', "a \\ b"), ("~{2}\\r\\nhi", "hi")]
)
def test_a_message_as_a_string_or_a_literal8(value, body):
    views(
        f"""
C>  a UID FETCH 7 (BODY[])
>U  a UID FETCH 7 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {value})\\r\\n
!   BodyStart(upstream, fetch, held)
!   body {body}
!   BodyEnd(upstream)
?   modify
!   BodyAbort(upstream)
>C| * 1 FETCH (UID 7 BODY[] {{{SIZE}}}\\r\\nSubject: new\\r\\n\\r\\nNew text.\\r\\n)\\r\\n
"""
    )


def test_a_message_that_is_gone_is_nil():
    views(
        """
C>  a UID FETCH 7 (BODY[])
>U  a UID FETCH 7 (UID BODY[])
U>  * 1 FETCH (UID 7 BODY[] NIL)
U>  a OK done
>C  a NO [UNAVAILABLE] a message can't be inspected now, try again later
"""
    )


def test_the_uid_behind_the_message():
    """Items come in any order (RFC 9051 7.5.2)."""
    views(
        """
C>  a UID FETCH 7 (BODY.PEEK[])
>U  a UID FETCH 7 (UID BODY.PEEK[])
U>| * 1 FETCH (BODY[] {2}\\r\\nhi UID 7)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hi
!   BodyEnd(upstream)
?   modify
!   BodyAbort(upstream)
>C| * 1 FETCH (UID 7 BODY[] {%d}\\r\\nSubject: new\\r\\n\\r\\nNew text.\\r\\n)\\r\\n
""".replace("%d", str(SIZE))
    )


def test_pieces_are_answered_when_the_whole_is_known():
    views(
        f"""
C>  a UID FETCH 7 (UID BODY.PEEK[TEXT]<0.4> BODY.PEEK[HEADER.FIELDS (SUBJECT)])
>U  mailgate.1 UID FETCH 7 (UID)
U>  * 1 FETCH (UID 7)
U>  mailgate.1 OK done
>U  mailgate.2 UID FETCH 7 (UID BODY.PEEK[])
U>| * 1 FETCH (UID 7 BODY[] {{5}}\\r\\nhello)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hello
!   BodyEnd(upstream)
?   modify
!   BodyAbort(upstream)
U>  mailgate.2 OK done
>U  mailgate.3 UID FETCH 7 (UID BODY.PEEK[TEXT]<0.4> BODY.PEEK[HEADER.FIELDS (SUBJECT)])
U>| * 1 FETCH (UID 7 BODY[TEXT]<0> {{4}}\\r\\nhell BODY[HEADER.FIELDS (SUBJECT)] {{2}}\\r\\n\\r\\n)\\r\\n
>C| * 1 FETCH (UID 7 BODY[TEXT]<0> {{4}}\\r\\nNew\x20
>C|  BODY[HEADER.FIELDS (SUBJECT)] {{16}}\\r\\nSubject: new\\r\\n\\r\\n)\\r\\n
U>  mailgate.3 OK fetched
>C  a OK fetched
C>  b UID FETCH 7 RFC822.SIZE
>U  mailgate.4 UID FETCH 7 (UID RFC822.SIZE)
U>  * 1 FETCH (UID 7 RFC822.SIZE 5)
>C  * 1 FETCH (UID 7 RFC822.SIZE {SIZE})
U>  mailgate.4 OK fetched
>C  b OK fetched
"""
    )


def test_pieces_of_an_unchanged_message_are_the_upstreams_own():
    views(
        """
C>  a FETCH 1 BODY[1]
>U  mailgate.1 FETCH 1 (UID)
U>  * 1 FETCH (UID 7)
U>  mailgate.1 OK done
>U  mailgate.2 FETCH 1 (UID BODY.PEEK[])
U>| * 1 FETCH (UID 7 BODY[] {5}\\r\\nhello)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hello
!   BodyEnd(upstream)
?   pass
!   BodyAbort(upstream)
U>  mailgate.2 OK done
>U  mailgate.3 FETCH 1 (UID BODY[1])
U>| * 1 FETCH (UID 7 BODY[1] {1}\\r\\no FLAGS (\\\\Seen))\\r\\n
>C| * 1 FETCH (BODY[1] {1}\\r\\n
!   BodyStart(upstream, fetch, passing, [1])
!   body o
>C| o
!   BodyEnd(upstream)
>C|  FLAGS (\\\\Seen))\\r\\n
U>  mailgate.3 OK fetched
>C  a OK fetched
"""
    )


def test_what_the_upstream_tells_meanwhile_is_passed_on():
    """Flags that another client has set, and new mail, while the gateway fetches for itself."""
    views(
        """
C>  a FETCH 1:2 (ENVELOPE)
>U  mailgate.1 FETCH 1:2 (UID)
U>  * 1 FETCH (UID 7 FLAGS (\\Seen))
>C  * 1 FETCH (FLAGS (\\Seen))
U>  * 3 EXISTS
>C  * 3 EXISTS
U>  mailgate.1 OK done
>U  mailgate.2 FETCH 1 (UID BODY.PEEK[])
U>  * 2 FETCH (FLAGS (\\Deleted))
>C  * 2 FETCH (FLAGS (\\Deleted))
"""
    )


def test_a_client_that_is_a_gateway_keeps_its_tags():
    views(
        """
C>  mailgate.1 FETCH 1:2 (ENVELOPE)
>U  xmailgate.1 FETCH 1:2 (UID)
U>  xmailgate.1 OK done
>C  mailgate.1 OK done
C>  xmailgate.2 FETCH 1:2 (ENVELOPE)
>U  xxmailgate.2 FETCH 1:2 (UID)
C>  xxmailgate.2 NOOP
U>  xxmailgate.2 OK done
>C  xmailgate.2 OK done
>U  xxmailgate.2 NOOP
"""
    )


def test_a_deferred_message_is_left_out_and_the_command_says_so():
    views(
        """
C>  a UID FETCH 7 (BODY[])
>U  a UID FETCH 7 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {5}\\r\\nhello)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hello
!   BodyEnd(upstream)
?   defer scanner down
U>  a OK done
>C  a NO [UNAVAILABLE] a message can't be inspected now, try again later
"""
    )


def test_a_fetch_waits_for_the_commands_before_it_and_holds_those_behind():
    views(
        """
C>  a NOOP
>U  a NOOP
C>  b UID FETCH 7 (RFC822.SIZE)
C>  c NOOP
U>  * 1 EXPUNGE
>C  * 1 EXPUNGE
U>  a OK done
>C  a OK done
>U  mailgate.1 UID FETCH 7 (UID)
U>  mailgate.1 OK done
>C  b OK done
>U  c NOOP
"""
    )


def test_a_fetch_that_the_upstream_refuses():
    views(
        """
C>  a FETCH 99 (ENVELOPE)
>U  mailgate.1 FETCH 99 (UID)
U>  mailgate.1 BAD no such message
>C  a BAD no such message
C>  b FETCH 1 (BODY[])
>U  b FETCH 1 (UID BODY[])
U>  b NO [CANNOT] locked
>C  b NO [CANNOT] locked
"""
    )


def test_a_long_listing_is_the_upstreams_but_for_what_is_known():
    views(
        f"""
C>  a UID FETCH 7 BODY[]
>U  a UID FETCH 7 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {{2}}\\r\\nhi)\\r\\n
!   BodyStart(upstream, fetch, held)
!   body hi
!   BodyEnd(upstream)
?   modify
!   BodyAbort(upstream)
>C| * 1 FETCH (UID 7 BODY[] {{{SIZE}}}\\r\\nSubject: new\\r\\n\\r\\nNew text.\\r\\n)\\r\\n
U>  a OK done
>C  a OK done
C>  b FETCH 1:* (FLAGS RFC822.SIZE)
>U  b FETCH 1:* (UID FLAGS RFC822.SIZE)
U>  * 1 FETCH (UID 7 FLAGS () RFC822.SIZE 2)
U>  * 2 FETCH (UID 8 FLAGS () RFC822.SIZE 9)
>C  * 1 FETCH (FLAGS () RFC822.SIZE {SIZE})
>C  * 2 FETCH (FLAGS () RFC822.SIZE 9)
U>  b OK done
>C  b OK done
"""
    )


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 (BODY[]",
        "FETCH 1",
        "FETCH x BODY[]",
        "FETCH 1 (PREVIEW)",
        "NOTIFY NONE",
        "FETCH 1 BODY[HEADER",
    ],
)
def test_what_can_not_be_read_does_not_go_past_the_plugins(command):
    play_text = READY + f"C>  a {command}\n"
    with pytest.raises(AssertionError) as caught:
        play(ImapEngine, play_text + ">C  nothing\n", RULES)
    assert "BAD" in str(caught.value) and ">U" not in str(caught.value)


def test_capabilities_that_would_show_the_original_are_struck():
    play(
        ImapEngine,
        """
U>  * PREAUTH [CAPABILITY IMAP4rev1 PREVIEW NOTIFY UIDONLY SNIPPET=FUZZY IDLE] ready
>C  * PREAUTH [CAPABILITY IMAP4rev1 IDLE LITERAL+] ready
C>  a ENABLE UIDONLY CONDSTORE
>U  a ENABLE CONDSTORE
""",
        RULES,
    )


def test_the_upstream_dies_within_a_message():
    """Nothing of it was shown, so the client hears goodbye."""
    views(
        """
C>  a UID FETCH 7 BODY[]
>U  a UID FETCH 7 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {5}\\r\\nhe
!   BodyStart(upstream, fetch, held)
!   body he
?   closed upstream
>C  * BYE [UNAVAILABLE] Connection to the mail server lost, try again later
!   BodyAbort(upstream)
!   Close(upstream_eof)
"""
    )


def test_a_response_that_can_not_be_read_ends_the_session():
    views(
        """
C>  a UID FETCH 7 BODY[]
>U  a UID FETCH 7 (UID BODY[])
U>  * 1 FETCH (UID 7 BODY[] "x
>C  * BYE [UNAVAILABLE] Connection to the mail server lost, try again later
!   Close(upstream_eof)
"""
    )


def test_what_mailboxes_are_for_is_asked_after_the_login():
    """A plugin that leaves drafts alone must know them, whether or not the client asks."""
    play(
        ImapEngine,
        """
U>  * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] ready
C>  a LOGIN alice secret
C>  b APPEND Entw\xfcrfe {2+}
C>| hi\\r\\n
>U  a LOGIN alice secret
U>  a OK [CAPABILITY IMAP4rev1 SPECIAL-USE] in
>C  a OK [CAPABILITY IMAP4rev1 SPECIAL-USE LITERAL+] in
>U  mailgate.1 LIST (SPECIAL-USE) "" "*"
U>  * LIST (\\HasNoChildren \\drafts) "/" Drafts
U>  mailgate.1 OK done
""".replace("Entw\xfcrfe", "Drafts")
        + """
!   BodyStart(client, append, held)
!   body hi
!   BodyEnd(client)
""",
        Rules(hostname="gate.example", hold=frozenset({Stage.APPEND})),
    )
