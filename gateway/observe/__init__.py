"""Hub and sinks: what an admin sees.

The session publishes facts to the :class:`~gateway.observe.hub.Hub`; sinks watch the kinds
they care for.  No sink knows another, none can break a session, none holds a secret.
"""
