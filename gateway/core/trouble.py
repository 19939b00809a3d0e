"""The closed sets of things that go wrong, and of reasons why a session ends.

An engine words a :class:`Trouble` in its own protocol; metrics take the values as labels.
"""

from __future__ import annotations

from enum import StrEnum


class Trouble(StrEnum):
    """A failure that a client must be told of."""

    UPSTREAM_DOWN = "upstream_down"  # no address of the upstream could be reached
    UPSTREAM_TLS = "upstream_tls"  # TLS to the upstream is required and could not be had
    UPSTREAM_FAULT = "upstream_fault"  # the upstream broke the protocol or went away
    UPSTREAM_TIMEOUT = "upstream_timeout"  # the upstream is silent
    TLS_REQUIRED = "tls_required"
    TOO_MANY = "too_many"  # a limit of connections
    TOO_MANY_ERRORS = "too_many_errors"
    REFUSED = "refused"  # a plugin turned the client away
    IDLE = "idle"  # the client is silent
    SHUTDOWN = "shutdown"
    NO_SPACE = "no_space"  # the spool can't take the message
    PLUGIN_FAILED = "plugin_failed"
    PROTOCOL = "protocol"  # the client broke the protocol beyond an answer
    INTERNAL = "internal"


class FaultKind(StrEnum):
    """What a peer did against the protocol, or an attacker tried."""

    BARE_LF = "bare_lf"
    BARE_CR = "bare_cr"
    NUL = "nul"
    END_OF_DATA_LOOKALIKE = "end_of_data_lookalike"
    CONTROL_IN_ARGUMENT = "control_in_argument"
    LINE_TOO_LONG = "line_too_long"
    BAD_COMMAND = "bad_command"
    BAD_SEQUENCE = "bad_sequence"
    BAD_REPLY = "bad_reply"
    REPLY_TOO_LONG = "reply_too_long"
    UNEXPECTED_REPLY = "unexpected_reply"
    BAD_LITERAL = "bad_literal"
    LITERAL_TOO_LARGE = "literal_too_large"
    BAD_CHUNK = "bad_chunk"
    BAD_SASL = "bad_sasl"
    TOO_MANY_COMMANDS = "too_many_commands"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    MESSAGE_TOO_LARGE = "message_too_large"
    TAG_REUSED = "tag_reused"
    UNKNOWN_TAG = "unknown_tag"
    UNEXPECTED_CONTINUATION = "unexpected_continuation"
    EARLY_TALKER = "early_talker"
    PIPELINED_BEFORE_TLS = "pipelined_before_tls"
    PIPELINED_BEHIND_AUTH = "pipelined_behind_auth"
    INJECTED_BEFORE_TLS = "injected_before_tls"
    STARTTLS_MISSING = "starttls_missing"
    STARTTLS_REFUSED = "starttls_refused"
    PREAUTH = "preauth"
    STRUCK_EXTENSION_USED = "struck_extension_used"
    TRUNCATED_BODY = "truncated_body"
    TRUNCATED_TLS = "truncated_tls"
    TLS_HANDSHAKE = "tls_handshake"
    PLAINTEXT_ON_TLS_PORT = "plaintext_on_tls_port"
    TLS_ON_PLAINTEXT_PORT = "tls_on_plaintext_port"
    CERTIFICATE = "certificate"
    PROXY_HEADER = "proxy_header"
    REFERRAL = "referral"
    UNWATCHED = "unwatched"  # plugins that only observe could not be shown a message
    CLEARTEXT_LOGIN = "cleartext_login"
    INTERNAL = "internal"


class CloseReason(StrEnum):
    """Why a session ended."""

    QUIT = "quit"
    CLIENT_EOF = "client_eof"
    UPSTREAM_EOF = "upstream_eof"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    TIMEOUT = "timeout"
    TLS_ERROR = "tls_error"
    POLICY = "policy"
    PROTOCOL_ERROR = "protocol_error"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"


#: Why the session ends, by trouble.
REASONS: dict[Trouble, CloseReason] = {
    Trouble.UPSTREAM_DOWN: CloseReason.UPSTREAM_UNREACHABLE,
    Trouble.UPSTREAM_TLS: CloseReason.UPSTREAM_UNREACHABLE,
    Trouble.UPSTREAM_FAULT: CloseReason.UPSTREAM_EOF,
    Trouble.UPSTREAM_TIMEOUT: CloseReason.TIMEOUT,
    Trouble.TLS_REQUIRED: CloseReason.POLICY,
    Trouble.TOO_MANY: CloseReason.POLICY,
    Trouble.TOO_MANY_ERRORS: CloseReason.POLICY,
    Trouble.REFUSED: CloseReason.POLICY,
    Trouble.IDLE: CloseReason.TIMEOUT,
    Trouble.SHUTDOWN: CloseReason.SHUTDOWN,
    Trouble.PROTOCOL: CloseReason.PROTOCOL_ERROR,
}
