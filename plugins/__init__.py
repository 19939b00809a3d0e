"""The bundled plugins, one file each.

Each is an entry point in the group ``mailgate.plugins``, as a third party's would be, and
imports nothing of the gateway but :mod:`gateway.plugin`.
"""
