"""mailgate: a mail-gateway proxy and traffic inspector.

A *session* is an *engine* between two *links*.

The **engine** (pure Python, no I/O, one per protocol) knows both ends of one conversation.
It hears bytes and answers with **steps**.  A step is an *order* (send these bytes, start TLS,
here is body data, close) or a *fact* (this command was seen, this login succeeded).  The
**session** performs the orders in sequence and publishes the facts.  **Sinks** watch facts:
command log, metrics, audit, transcripts.  When a whole message lies in the **spool**, the pipeline
asks the **plugins** for a **verdict**, and the engine turns it into its own protocol's words.

The map::

    core/         steps, engine, exchange, rules, record, trouble, secret.  Standard library only.
    wire/         bytes <-> frames: lines, literals, dots, SASL, PROXY headers.  No verbs, no sides.
    protocols/    smtp/ (with LMTP), pop3/, imap/: engine, grammar, capabilities
    relay/        reactor, link, session, spool, listener, upstream, tls, limits.  Knows no verb.
    inspection/   message, parts (MIME by offsets), edits, verdict, loader, pipeline
    audit/        the audit of logins: records, stores, the thread that writes, privacy, hash chain
    observe/      hub and sinks: command_log, metrics, audit, transcript, log_setup
    plugin.py     what a plugin's author may import, and nothing else
    config/       model, reading, errors that name the place
    admin/        HTTP: health and metrics
    demo/         an in-memory mail server and the `mailgate demo` conversation
    auditing.py   the table [audit] -> store, writer, sink
    app.py        configuration -> services: the only file that knows all parts
    cli/          the command, one file per group

Imports go one way, and a test reads them: wire -> nothing; core -> wire; protocols -> core,
wire; inspection, audit -> core; observe -> audit, core; relay -> core, inspection, observe;
admin -> relay, observe; app, auditing and cli -> all.
"""

__version__ = "0.1.0"
