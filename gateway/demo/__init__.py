"""The embedded upstream: an in-memory mail server that stands behind the gateway in the demo and in tests.

It is a complete small world, and no part of the gateway depends on it::

    upstream.py        EmbeddedUpstream: opens every port on 127.0.0.1; runs alone with ``python -m``
    store.py           users, mailboxes, messages; samples.py fills them
    conversation.py    what every connection shares: lines, TLS, SASL, transcript, quirks
    smtp_server.py     SMTP (RFC 5321) and LMTP (RFC 2033)
    pop3_server.py     POP3 (RFC 1939)
    imap_server.py     IMAP4rev1 (RFC 3501); imap_grammar, imap_items, imap_search serve it
    quirks.py          Quirks: the ways in which a test makes this peer misbehave
    certificates.py    a throw-away certificate authority

Nothing is kept on disk, passwords are kept in clear in memory, and only loopback is listened on: this is a
demonstration and a test peer, never a server for real mail.
"""
