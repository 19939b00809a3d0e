"""IMAP by the tables and against THREATS."""

from __future__ import annotations

import pytest

from gateway.core.rules import Rules
from gateway.core.steps import Stage
from gateway.protocols.imap import ImapEngine
from tests.support.play import play

RULES = Rules(hostname="gate.example", client_tls="starttls")
REFUSE = Rules(hostname="gate.example", client_tls="starttls", cleartext_login="refuse")
HELD = Rules(hostname="gate.example", hold=frozenset({Stage.APPEND}))
PLUS = """
U>  * OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ STARTTLS AUTH=PLAIN] ready
"""
SLOW = """
U>  * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready
>C  * OK [CAPABILITY IMAP4rev1 LITERAL+ STARTTLS AUTH=PLAIN] ready
"""
HELD_PLUS = PLUS.replace(" STARTTLS", "")
HELD_SLOW = SLOW.replace(" STARTTLS", "")
BYE_LOST = "* BYE [UNAVAILABLE] Connection to the mail server lost, try again later"

# ---------------------------------------------------------------- the prologue


def test_capabilities_are_asked_where_the_greeting_has_none():
    play(
        ImapEngine,
        """
U>  * OK hello
>U  mailgate.1 CAPABILITY
U>  * CAPABILITY IMAP4rev1 IDLE X-SECRET COMPRESS=DEFLATE
U>  mailgate.1 OK done
!   ExtensionStruck(X-SECRET)
!   ExtensionStruck(COMPRESS=DEFLATE)
>C  * OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ STARTTLS] hello
""",
        RULES,
    )


def test_upstream_tls_then_capabilities_again():
    """RFC 9051 6.2.1: what was told before TLS is not carried over."""
    play(
        ImapEngine,
        """
U>  * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hello
>U  mailgate.1 STARTTLS
U>  mailgate.1 OK go
!   StartTls(upstream)
?   tls upstream
>U  mailgate.2 CAPABILITY
U>  * CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN
U>  mailgate.2 OK done
>C  * OK [CAPABILITY IMAP4rev1 IDLE LITERAL+ AUTH=PLAIN] hello
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
    )


@pytest.mark.parametrize(
    ("greeting", "fault"),
    [
        ("* OK [CAPABILITY IMAP4rev1] hello", "starttls_missing"),
        ("* PREAUTH [CAPABILITY IMAP4rev1] hello", "preauth"),
    ],
)
def test_upstream_tls_is_never_downgraded(greeting, fault):
    play(
        ImapEngine,
        f"""
U>  {greeting}
!   Fault(upstream, {fault})
>C  * BYE [UNAVAILABLE] No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
    )


def test_bytes_behind_the_upstreams_tagged_ok():
    play(
        ImapEngine,
        """
U>  * OK [CAPABILITY IMAP4rev1 STARTTLS] hello
>U  mailgate.1 STARTTLS
U>| mailgate.1 OK go\\r\\n* CAPABILITY EVIL\\r\\n
!   Fault(upstream, injected_before_tls)
>C  * BYE [UNAVAILABLE] No secure connection to the mail server, try again later
!   Close(upstream_unreachable)
""",
        Rules(hostname="gate.example", upstream_tls="starttls"),
        cuttings=("line by line",),
    )


def test_preauth_is_a_login_of_its_own_kind():
    play(
        ImapEngine,
        """
U>  * PREAUTH [CAPABILITY IMAP4rev1] hello
!   LoginSeen(preauth, , ok)
>C  * PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] hello
""",
        RULES,
    )


def test_the_clients_address_goes_upstream_by_id():
    play(
        ImapEngine,
        """
U>  * OK [CAPABILITY IMAP4rev1 ID] hello
>U  mailgate.1 ID ("name" "mailgate" "x-originating-ip" "192.0.2.7" "x-originating-port" "4711" \
"x-connected-port" "0" "x-session-ext-id" "test")
U>  * ID NIL
U>  mailgate.1 OK
>C  * OK [CAPABILITY IMAP4rev1 ID LITERAL+] hello
""",
        Rules(hostname="gate.example", forward_client="id"),
    )


# --------------------------------------------------------------------- STARTTLS


def test_starttls():
    play(
        ImapEngine,
        PLUS
        + """
C>  a STARTTLS
>C  a OK Begin TLS negotiation now
!   StartTls(client)
?   tls client
C>  b STARTTLS
>C  b BAD TLS is already active
C>  c CAPABILITY
>U  c CAPABILITY
U>  * CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN STARTTLS
U>  c OK
>C  * CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN
>C  c OK
""",
        RULES,
    )


def test_commands_behind_starttls_are_an_attack():
    play(
        ImapEngine,
        PLUS
        + """
C>  a STARTTLS
C>  b LOGIN evil evil
!   Fault(client, pipelined_before_tls)
>C  a BAD Commands behind STARTTLS
!   Close(protocol_error)
""",
        RULES,
        cuttings=("glued",),
    )


# ----------------------------------------------------------------------- logins


@pytest.mark.parametrize("form", ["alice s3cret", '"alice" "s3cret"', 'alice "s3c\\\\\\"ret"'])
def test_login(form):
    play(
        ImapEngine,
        PLUS
        + f"""
C>  a LOGIN {form}
>U  a LOGIN {form}
U>  a NO [AUTHENTICATIONFAILED] no
!   LoginSeen(LOGIN, alice, failed)
>C  a NO [AUTHENTICATIONFAILED] no
""",
        RULES,
    )


def test_login_with_literals():
    """The upstream's own + is what lets the client go on."""
    play(
        ImapEngine,
        PLUS
        + """
C>  a LOGIN {5}
>U  a LOGIN {5}
U>  + go
>C  + go
C>| alice {6}\\r\\n
>U| alice {6}\\r\\n
U>  + go
>C  + go
C>| s3cret\\r\\n
>U| s3cret\\r\\n
U>  a OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] in
!   LoginSeen(LOGIN, alice, ok)
>C  a OK [CAPABILITY IMAP4rev1 LITERAL+] in
""",
        RULES,
    )


def test_authenticate():
    play(
        ImapEngine,
        PLUS
        + """
C>  a AUTHENTICATE PLAIN
>U  a AUTHENTICATE PLAIN
U>| + \\r\\n
>C| + \\r\\n
C>  AGFsaWNlAHMzY3JldA==
>U  AGFsaWNlAHMzY3JldA==
U>  a OK in
!   LoginSeen(PLAIN, alice, ok)
>C  a OK in
""",
        RULES,
    )
    play(
        ImapEngine,
        PLUS
        + """
C>  a AUTHENTICATE PLAIN AGFsaWNlAHMzY3JldA==
>U  a AUTHENTICATE PLAIN AGFsaWNlAHMzY3JldA==
U>  a NO no
!   LoginSeen(PLAIN, alice, failed)
>C  a NO no
C>  b AUTHENTICATE PLAIN
>U  b AUTHENTICATE PLAIN
U>| + \\r\\n
>C| + \\r\\n
C>  *
>U  *
U>  b BAD cancelled
!   LoginSeen(PLAIN, , aborted)
>C  b BAD cancelled
C>  c AUTHENTICATE EXTERNAL =
!   LoginSeen(EXTERNAL, , policy)
>C  c NO [CANNOT] Unsupported authentication mechanism
""",
        RULES,
    )


REFUSING = PLUS.replace("STARTTLS AUTH=PLAIN", "STARTTLS LOGINDISABLED")


@pytest.mark.parametrize("literal", ["", "{9+}"])
def test_cleartext_logins_are_refused_without_the_upstream(literal):
    """The audit says that a password was exposed; framing is kept."""
    login = "a LOGIN alice s3cret" if not literal else "a LOGIN {5+}\nC>| alice {6+}\\r\\ns3cret\\r\\n"
    play(
        ImapEngine,
        REFUSING + f"\nC>  {login}\n!   Fault(client, cleartext_login)\n"
        f"!   LoginSeen(LOGIN, {'alice' if not literal else ''}, policy)\n"
        ">C  a NO [PRIVACYREQUIRED] Must issue STARTTLS first\nC>  b NOOP\n>U  b NOOP\n",
        REFUSE,
    )


def test_a_referral_does_not_lead_around_the_gateway():
    play(
        ImapEngine,
        PLUS
        + """
C>  a LOGIN alice s3cret
>U  a LOGIN alice s3cret
U>  a NO [REFERRAL imap://alice@elsewhere/] go there
!   Fault(upstream, referral)
>C  a NO go there
""",
        RULES,
    )


# --------------------------------------------------------- literals of commands


def test_literal_plus_is_made_synchronising_where_the_upstream_lacks_it():
    play(
        ImapEngine,
        SLOW
        + """
C>  a CREATE {3+}
C>| box\\r\\n
>U  a CREATE {3}
U>  + go
>U| box\\r\\n
U>  a OK
>C  a OK
""",
        RULES,
    )


def test_a_refused_literal_leaves_both_sides_in_step():
    """The octets that the client sends unasked are thrown away, never read as commands."""
    play(
        ImapEngine,
        SLOW
        + """
C>  a CREATE {8+}
>U  a CREATE {8}
U>  a NO no
>C  a NO no
C>| b LOGOUT\\r\\nc NOOP\\r\\n
>U  c NOOP
""",
        RULES,
    )
    play(
        ImapEngine,
        SLOW
        + """
C>  a CREATE {8}
>U  a CREATE {8}
U>  a NO no
>C  a NO no
C>  c NOOP
>U  c NOOP
""",
        RULES,
    )


@pytest.mark.parametrize("size", ["4294967296", "99999999999999999999", "70000"])
def test_literals_beyond_the_bound(size):
    """The bound comes before any allocation."""
    play(
        ImapEngine,
        PLUS + f"\nC>  a CREATE {{{size}}}\n!   Fault(client, literal_too_large)\n"
        ">C  a NO [TOOBIG] Literal too large\n"
        "C>  b NOOP\n>U  b NOOP\n",
        RULES,
    )


def test_a_pushed_literal_beyond_measure_ends_the_session():
    play(
        ImapEngine,
        PLUS + "\nC>  a CREATE {99999999999999999999+}\n!   Fault(client, literal_too_large)\n"
        ">C  * BYE [CLIENTBUG] Protocol error\n!   Close(protocol_error)\n",
        RULES,
    )


def test_what_looks_like_a_literal_within_quotes():
    play(
        ImapEngine,
        PLUS
        + '\nC>  a SEARCH SUBJECT "x {5+}\n!   Fault(client, bad_literal)\n>C  a BAD Literal within quotes\n',
        RULES,
    )


@pytest.mark.parametrize("opener", ["NOOP x{36+}", "NOOP ) {36+}", "NOOP ~{36+}", "CAPABILITY a%{36+}"])
def test_octets_that_nobody_asked_for_are_not_relayed(opener: str):
    """An upstream that finds a mistake before a literal would read it as commands."""
    play(
        ImapEngine,
        PLUS
        + f"""
C>  a {opener}
C>| b LOGIN alice alice-secret\\r\\nb NOOP\\r\\n\\r\\nc NOOP\\r\\n
>U  a {opener.replace("+}", "}")}
U>  a BAD Error in IMAP command
>C  a BAD Error in IMAP command
>U  c NOOP
U>  c OK
>C  c OK
""",
        RULES,
    )


def test_too_many_literals():
    rules = Rules(hostname="gate.example", client_tls="starttls", max_command_literals=1)
    play(
        ImapEngine,
        PLUS
        + """
C>  a LOGIN {1+}
C>| x {1+}\\r\\n
>U  a LOGIN {1}
U>  + go
>U| x
!   Fault(client, literal_too_large)
>C  * BYE [CLIENTBUG] Protocol error
!   Close(protocol_error)
""",
        rules,
    )


# ----------------------------------------------------------------------- APPEND


def test_append_streams_where_nobody_asks():
    play(
        ImapEngine,
        PLUS
        + """
C>  a APPEND Sent (\\Seen) {5}
>U  a APPEND Sent (\\Seen) {5}
U>  + go
>C  + go
!   BodyStart(client, append, passing)
C>| hello\\r\\n
!   body hello
>U| hello
!   BodyEnd(client)
>U| \\r\\n
U>  a OK done
>C  a OK done
""",
        RULES,
        cuttings=("glued",),
    )


def test_held_append_goes_on_with_its_new_size():
    play(
        ImapEngine,
        HELD_SLOW
        + """
C>  a APPEND Sent (\\Seen) " 1-Jan-2026 00:00:00 +0000" {5}
>C  + OK
!   BodyStart(client, append, held)
C>| hello\\r\\n
!   body hello
!   BodyEnd(client)
?   modify 9
>U  a APPEND Sent (\\Seen) " 1-Jan-2026 00:00:00 +0000" {9}
U>  + go
!   SendBody(upstream, raw)
?   sent
>U| \\r\\n
U>  a OK [APPENDUID 1 2] done
>C  a OK [APPENDUID 1 2] done
""".replace(">C  + OK\n!   BodyStart(client, append, held)", "!   BodyStart(client, append, held)\n>C  + OK"),
        HELD,
    )


def test_held_append_waits_for_the_upstream_though_the_client_did_not():
    """A literal8 stays one, and the UTF8 form keeps its end (RFC 9755)."""
    play(
        ImapEngine,
        HELD_PLUS
        + """
C>  a APPEND Sent UTF8 (~{5+}
!   BodyStart(client, append, held)
C>| hello)\\r\\n
!   body hello
!   BodyEnd(client)
?   pass
>U  a APPEND Sent UTF8 (~{5}
U>  + go
!   SendBody(upstream, raw)
?   sent
>U  )
U>  a OK
>C  a OK
""",
        HELD,
    )


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        ("reject no macros", "a NO [CANNOT] no macros"),
        ("quarantine held", "a NO [CANNOT] held"),
        ("defer Scanner down", "a NO [UNAVAILABLE] Scanner down"),
        ("discard x accept", "a OK APPEND completed"),
    ],
)
def test_a_stopped_append_never_reaches_the_upstream(verdict, reply):
    play(
        ImapEngine,
        HELD_PLUS
        + f"""
C>  a APPEND Sent {{5+}}
!   BodyStart(client, append, held)
C>| hello\\r\\n
!   body hello
!   BodyEnd(client)
?   {verdict}
>C  {reply}
C>  b NOOP
>U  b NOOP
""",
        HELD,
    )


def test_the_upstream_refuses_the_append_after_our_continuation():
    play(
        ImapEngine,
        HELD_SLOW
        + """
C>  a APPEND nowhere {5}
!   BodyStart(client, append, held)
>C  + OK
C>| hello\\r\\n
!   body hello
!   BodyEnd(client)
?   pass
>U  a APPEND nowhere {5}
U>  a NO [TRYCREATE] none
!   BodyAbort(client)
>C  a NO [TRYCREATE] none
C>  b NOOP
>U  b NOOP
""",
        HELD,
    )


MULTI_PLUS = """
U>  * OK [CAPABILITY IMAP4rev1 LITERAL+ MULTIAPPEND] ready
>C  * OK [CAPABILITY IMAP4rev1 MULTIAPPEND LITERAL+] ready
"""
MULTI_SLOW = """
U>  * OK [CAPABILITY IMAP4rev1 MULTIAPPEND] ready
>C  * OK [CAPABILITY IMAP4rev1 MULTIAPPEND LITERAL+] ready
"""


def test_messages_of_one_append_are_judged_and_sent_on_one_by_one():
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND "my box" (\\Seen) {2+}
!   BodyStart(client, append, held)
C>| hi (\\\\Draft) "1-Jan-2026 00:00:00 +0000" {3+}\\r\\nho!\\r\\nb NOOP\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND "my box" (\\Seen) {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
!   body ho!
!   BodyEnd(client)
?   modify 9
>U|  (\\\\Draft) "1-Jan-2026 00:00:00 +0000" {9}\\r\\n
U>  + go
!   SendBody(upstream, raw)
?   sent
>U| \\r\\nb NOOP\\r\\n
U>  a OK [APPENDUID 1 2:3] done
>C  a OK [APPENDUID 1 2:3] done
""",
        HELD,
    )


def test_messages_of_one_append_with_synchronising_literals():
    play(
        ImapEngine,
        MULTI_SLOW
        + """
C>  a APPEND box {2}
!   BodyStart(client, append, held)
>C  + OK
C>| hi {3}\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND box {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
>C  + OK
C>| ho!\\r\\n
!   body ho!
!   BodyEnd(client)
?   pass
>U|  {3}\\r\\n
U>  + go
!   SendBody(upstream, raw)
?   sent
>U| \\r\\n
U>  a OK done
>C  a OK done
""",
        HELD,
    )


def test_one_refused_message_calls_the_whole_append_off():
    """RFC 3502: a literal of no octets has the server undo what it has."""
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND box {2+}
!   BodyStart(client, append, held)
C>| hi {3+}\\r\\nbad {4+}\\r\\nmore {1+}\\r\\nx\\r\\nb NOOP\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND box {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
!   body bad
!   BodyEnd(client)
?   reject no macros
>U|  {0}\\r\\n
U>  + go
>U| \\r\\n
U>  a NO cancelled
>C  a NO [CANNOT] no macros
>U  b NOOP
U>  b OK
>C  b OK
""",
        HELD,
    )


def test_a_refused_message_is_called_off_with_a_synchronising_literal():
    play(
        ImapEngine,
        MULTI_SLOW
        + """
C>  a APPEND box UTF8 (~{2}
!   BodyStart(client, append, held)
>C  + OK
C>| hi) UTF8 (~{3}\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND box UTF8 (~{2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
>C  + OK
C>| bad)\\r\\n
!   body bad
!   BodyEnd(client)
?   defer down
>U| ) {0}\\r\\n
U>  + go
>U| \\r\\n
U>  a NO cancelled
>C  a NO [UNAVAILABLE] down
C>  b NOOP
>U  b NOOP
""",
        HELD,
    )


def test_a_first_message_that_is_refused_never_reaches_the_upstream():
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND box {3+}
!   BodyStart(client, append, held)
C>| bad {2+}\\r\\nhi\\r\\nb NOOP\\r\\n
!   body bad
!   BodyEnd(client)
?   reject no
>C  a NO [CANNOT] no
>U  b NOOP
""",
        HELD,
    )


def test_a_discarded_message_is_left_out_of_its_append():
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND "my box" (\\Seen) {3+}
!   BodyStart(client, append, held)
C>| bad {2+}\\r\\nhi {4+}\\r\\nbad2\\r\\n
!   body bad
!   BodyEnd(client)
?   discard x accept
!   BodyStart(client, append, held)
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND "my box" {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
!   body bad2
!   BodyEnd(client)
?   discard x accept
>U| \\r\\n
U>  a OK
>C  a OK
""",
        HELD,
    )


def test_the_upstream_refuses_a_later_message_of_an_append():
    play(
        ImapEngine,
        MULTI_SLOW
        + """
C>  a APPEND box {2+}
!   BodyStart(client, append, held)
C>| hi {3+}\\r\\nho! {1+}\\r\\nx\\r\\nb NOOP\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND box {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
!   body ho!
!   BodyEnd(client)
?   pass
>U|  {3}\\r\\n
U>  a NO [OVERQUOTA] full
!   BodyAbort(client)
>C  a NO [OVERQUOTA] full
>U  b NOOP
""",
        HELD,
    )


def test_a_client_calls_its_append_off():
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND box {2+}
!   BodyStart(client, append, held)
C>| hi {0}\\r\\n
!   body hi
!   BodyAbort(client)
>C  a NO APPEND cancelled
C>  b NOOP
>U  b NOOP
""",
        HELD,
    )


def test_an_answer_between_two_messages_of_an_append_ends_the_session():
    """What the upstream would make of the rest nobody can tell."""
    play(
        ImapEngine,
        MULTI_PLUS
        + """
C>  a APPEND box {2+}
!   BodyStart(client, append, held)
C>| hi {3}\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U  a APPEND box {2}
U>  + go
!   SendBody(upstream, raw)
?   sent
!   BodyStart(client, append, held)
>C  + OK
U>  a NO what
!   Fault(upstream, bad_reply)
>C  * BYE [UNAVAILABLE] Connection to the mail server lost, try again later
!   BodyAbort(client)
!   Close(upstream_eof)
""",
        HELD,
    )


@pytest.mark.parametrize("verb", ["REPLACE 4", "UID REPLACE 17"])
def test_a_replacing_message_is_judged(verb):
    """RFC 8508: what it replaces stays if it is refused."""
    play(
        ImapEngine,
        HELD_PLUS
        + f"""
C>  a {verb} Drafts {{5+}}
!   BodyStart(client, append, held)
C>| hello\\r\\n
!   body hello
!   BodyEnd(client)
?   pass
>U  a {verb} Drafts {{5}}
U>  + go
!   SendBody(upstream, raw)
?   sent
>U| \\r\\n
U>  a OK
>C  a OK
C>  b {verb} Drafts {{5+}}
!   BodyStart(client, append, held)
C>| hello\\r\\n
!   body hello
!   BodyEnd(client)
?   reject no
>C  b NO [CANNOT] no
""",
        HELD,
    )


def test_a_mailbox_as_a_literal():
    play(
        ImapEngine,
        HELD_PLUS
        + """
C>  a APPEND {6}
>C  + OK
C>| my "bx (\\\\Seen) {2}\\r\\n
!   BodyStart(client, append, held)
>C  + OK
C>| hi\\r\\n
!   body hi
!   BodyEnd(client)
?   pass
>U| a APPEND "my \\\\"bx" (\\\\Seen) {2}\\r\\n
U>  + go
!   SendBody(upstream, raw)
""",
        HELD,
    )


# -------------------------------------------------------------------- responses


def test_the_octets_of_a_literal_are_data():
    """Whatever they look like: tagged responses, continuations, BYE."""
    play(
        ImapEngine,
        PLUS
        + """
C>  a FETCH 1 (UID BODY[])
>U  a FETCH 1 (UID BODY[])
U>| * 1 FETCH (UID 7 BODY[] {19}\\r\\na OK x\\r\\n+ go\\r\\n* BYE FLAGS (\\\\Seen))\\r\\na OK done\\r\\n
>C  * 1 FETCH (UID 7 BODY[] {19}
!   BodyStart(upstream, fetch, passing)
!   body a OK x|+ go|* BYE
>C| a OK x\\r\\n+ go\\r\\n* BYE
!   BodyEnd(upstream)
>C|  FLAGS (\\\\Seen))\\r\\na OK done\\r\\n
""",
        RULES,
        cuttings=("glued",),
    )


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ("BODY[]", ""),
        ("BODY[TEXT]", ", [TEXT]"),
        ("BODY[1.2.MIME]", ", [1.2.MIME]"),
        ("BODY[]<0>", ", partial"),
        ("BODY[1]<10>", ", [1], partial"),
        ("RFC822", ""),
        ("RFC822.HEADER", ", [HEADER]"),
        ("BINARY[2]", ", [2]"),
    ],
)
def test_fetch_items_are_named(item, what):
    play(
        ImapEngine,
        PLUS
        + f"""
U>| * 3 FETCH ({item} {{2}}\\r\\nhi)\\r\\n
>C  * 3 FETCH ({item} {{2}}
!   BodyStart(upstream, fetch, passing{what})
!   body hi
>C| hi
!   BodyEnd(upstream)
>C  )
""",
        RULES,
        cuttings=("glued",),
    )


def test_literals_that_are_no_messages_only_pass():
    play(
        ImapEngine,
        PLUS + "\nU>| * LIST () NIL {4}\\r\\n* NO\\r\\n* 1 EXISTS\\r\\n\n"
        ">C| * LIST () NIL {4}\\r\\n* NO\\r\\n* 1 EXISTS\\r\\n\n",
        RULES,
    )


def test_status_text_holds_no_literal():
    """RFC 9051 7.1: text that ends like a literal is text."""
    play(
        ImapEngine,
        PLUS + "\nU>  * NO something {5}\nU>  * 1 EXISTS\n>C  * NO something {5}\n>C  * 1 EXISTS\n",
        RULES,
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [("+ go", "unexpected_continuation"), ("zz OK what", "unknown_tag"), ("a BAZ", "bad_reply")],
)
def test_responses_out_of_step(line, fault):
    play(
        ImapEngine,
        PLUS + f"\nC>  a NOOP\n>U  a NOOP\nU>  {line}\n!   Fault(upstream, {fault})\n"
        f">C  {BYE_LOST}\n!   Close(upstream_eof)\n",
        RULES,
    )


def test_two_answers_for_one_tag():
    play(
        ImapEngine,
        PLUS + f"\nC>  a NOOP\n>U  a NOOP\nU>  a OK\nU>  a OK\n>C  a OK\n!   Fault(upstream, unknown_tag)\n"
        f">C  {BYE_LOST}\n!   Close(upstream_eof)\n",
        RULES,
    )


def test_the_upstream_dies_within_a_literal():
    play(
        ImapEngine,
        PLUS
        + """
U>| * 1 FETCH (BODY[] {9}\\r\\nhalf
>C  * 1 FETCH (BODY[] {9}
!   BodyStart(upstream, fetch, passing)
!   body half
>C| half
?   closed upstream
!   Fault(upstream, truncated_body)
!   BodyAbort(upstream)
!   Close(upstream_eof)
""",
        RULES,
        cuttings=("glued",),
    )


# ------------------------------------------------------------ commands and state


def test_tags_of_all_kinds_and_a_reused_one():
    play(
        ImapEngine,
        PLUS
        + """
C>  . NOOP
C>  . NOOP
>U  . NOOP
!   Fault(client, tag_reused)
>C  . BAD Tag is in use
C>  IDLE NOOP
>U  IDLE NOOP
C>  mailgate.1 NOOP
>U  mailgate.1 NOOP
""",
        RULES,
    )


@pytest.mark.parametrize("said", ['"x', "", "{3} {6}"])
def test_a_login_that_can_not_be_read_is_not_relayed(said: str):
    """What stands where the password is expected must not become the name of a user."""
    play(
        ImapEngine,
        PLUS
        + f"""
C>  a LOGIN {said}
!   LoginSeen(LOGIN, , aborted)
>C  a BAD Invalid LOGIN
""",
        RULES,
    )


@pytest.mark.parametrize("name", ["~bob", "bob@example.org", "b%b"])
def test_a_login_by_an_atom(name: str):
    play(
        ImapEngine,
        PLUS
        + f"""
C>  a LOGIN {name} secret
>U  a LOGIN {name} secret
U>  a OK in
!   LoginSeen(LOGIN, {name}, ok)
>C  a OK in
""",
        RULES,
    )


def test_a_user_whose_name_holds_a_control_is_refused():
    """Dovecot ends it there."""
    play(
        ImapEngine,
        PLUS
        + """
C>  a LOGIN {7}
>U  a LOGIN {7}
U>  + go
>C  + go
C>| alice\\0x {12}\\r\\n
>U| alice\\0x
!   LoginSeen(LOGIN, alice\\x00x, aborted)
>C  a BAD Cannot decode response
!   Close(policy)
""",
        RULES,
        cuttings=("line by line",),
    )


@pytest.mark.parametrize(
    "said",
    [
        '("x-\\originating-ip" "203.0.113.80")',
        '("x-originating-ip""203.0.113.82")',
        '("name" "a" x)',
        '("name")',
        "(name x)",
        "x",
    ],
)
def test_an_id_that_may_be_read_otherwise_is_not_relayed(said: str):
    play(ImapEngine, PLUS + f"\nC>  a ID {said}\n>C  a BAD Invalid ID\n", RULES)


def test_a_second_login_is_no_wrong_password():
    play(
        ImapEngine,
        PLUS
        + """
C>  a LOGIN alice secret
>U  a LOGIN alice secret
U>  a OK in
!   LoginSeen(LOGIN, alice, ok)
>C  a OK in
C>  b LOGIN alice other
>U  b LOGIN alice other
U>  b BAD logged in already
!   LoginSeen(LOGIN, alice, aborted)
>C  b BAD logged in already
""",
        RULES,
    )


def test_idle_and_done():
    play(
        ImapEngine,
        PLUS
        + """
C>  a IDLE
>U  a IDLE
U>  + idling
>C  + idling
C>  b NOOP
!   Fault(client, bad_sequence)
>C  b BAD Expected DONE
C>  DONE
>U  DONE
U>  a OK
>C  a OK
C>  DONE
>C  DONE BAD Missing command
""",
        RULES,
        cuttings=("line by line", "byte by byte"),
    )


@pytest.mark.parametrize("command", ["COMPRESS DEFLATE", "UNAUTHENTICATE", "URLFETCH x", "CONVERT x"])
def test_struck_commands_are_refused(command):
    verb = command.split()[0]
    play(
        ImapEngine,
        PLUS
        + f"\nC>  a {command}\n!   Fault(client, struck_extension_used)\n>C  a BAD {verb} is not available\n",
        RULES,
    )


def test_enable_asks_only_for_what_passes():
    play(
        ImapEngine,
        PLUS
        + """
C>  a ENABLE CONDSTORE X-EVIL
!   Fault(client, struck_extension_used)
>U  a ENABLE CONDSTORE
C>  b ENABLE X-EVIL
!   Fault(client, struck_extension_used)
>C  b BAD Nothing to enable
""",
        RULES,
    )


def test_id_is_read_and_what_only_a_proxy_may_say_is_dropped():
    play(
        ImapEngine,
        PLUS
        + """
C>  a ID ("name" "Mail" "version" "9" "x-originating-ip" "1.2.3.4")
!   ClientNamed(id, Mail 9)
!   Fault(client, struck_extension_used)
>U  a ID ("name" "Mail" "version" "9")
""",
        RULES,
    )


@pytest.mark.parametrize("line", ["a\\0 NOOP", "a NO\\0OP", "a FETCH \\r1"])
def test_controls_never_go_upstream(line):
    from gateway.core.engine import Route
    from gateway.core.record import SessionRecord
    from gateway.core.steps import CLIENT, UPSTREAM, Send
    from tests.support.play import Player

    player = Player(ImapEngine(RULES, SessionRecord("t", "imap", "t", "192.0.2.7", 1)))
    engine = player.engine
    player.check(engine.opened() + engine.routed(Route("t", "a")))
    player.check(engine.receive(UPSTREAM, b"* OK [CAPABILITY IMAP4rev1] x\r\n"))
    raw = line.encode().decode("unicode_escape").encode()
    steps = player.check(engine.receive(CLIENT, raw + b"\r\n"))
    sends = [step for step in steps if isinstance(step, Send)]
    assert all(step.side is CLIENT and b"BAD" in step.data for step in sends) and sends


def test_logout():
    play(
        ImapEngine,
        PLUS
        + "\nC>  a LOGOUT\n>U  a LOGOUT\nU>  * BYE bye\nU>  a OK\n>C  * BYE bye\n>C  a OK\n!   Close(quit)\n",
        RULES,
    )


def test_the_shutdown_says_bye():
    play(
        ImapEngine,
        PLUS
        + "\n? stop\n>C  * BYE [UNAVAILABLE] Service shutting down, try again later\n!   Close(shutdown)\n",
        RULES,
    )


def test_a_line_without_end():
    play(
        ImapEngine,
        PLUS + f"\nC>| {'a' * 70000}\n!   Fault(client, line_too_long)\nC>  \n"
        ">C  * BAD Line too long\nC>  b NOOP\n>U  b NOOP\n",
        RULES,
        cuttings=("line by line",),
    )


def test_an_answer_to_an_earlier_command_does_not_take_anothers_continuation():
    """The upstream answers an APPEND while it is asked to wait for a literal of the next command."""
    play(
        ImapEngine,
        PLUS
        + """
C>  a APPEND nowhere {2+}
>U  a APPEND nowhere {2}
U>  + go
!   BodyStart(client, append, passing)
C>| hi\\r\\n
!   body hi
>U| hi
!   BodyEnd(client)
>U| \\r\\n
C>  b SEARCH {5}
>U  b SEARCH {5}
U>  a NO [TRYCREATE] none
U>  + go
>C  a NO [TRYCREATE] none
>C  + go
""",
        RULES,
        cuttings=("line by line",),
    )


def test_a_client_that_leaves_within_a_command_is_not_waited_for():
    """The upstream waits for a literal that will not come: no answer is to be drained."""
    play(
        ImapEngine,
        PLUS
        + """
C>  b SEARCH {5}
>U  b SEARCH {5}
U>  + go
>C  + go
?   closed client
!   Close(client_eof)
""",
        RULES,
    )
