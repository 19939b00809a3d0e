"""Events out: records of logins and security events to files, syslog servers and webhooks.

``ecs`` makes JSON of a record, in the words of the Elastic Common Schema.  ``file``, ``syslog`` and
``webhook`` are outlets: each takes batches, and may block, as a thread of its own hands them over
(:class:`gateway.audit.writer.AuditWriter`).  Nothing here knows of Twisted.
"""
