"""Performing the engines' steps: sockets, TLS, spools, time-outs, limits.  Knows no verb.

The mail path uses transports of its own on Twisted's epoll reactor: direct reads, immediate
sends, an outbox only for what the kernel refuses, TLS through memory BIOs.  There is no
Deferred, producer or timer per connection.
"""
