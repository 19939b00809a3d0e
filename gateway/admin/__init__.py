"""HTTP for the admin: metrics, liveness, readiness."""

from .lag import LagMeter
from .server import AdminServer

__all__ = ["AdminServer", "LagMeter"]
