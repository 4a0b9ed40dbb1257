"""The way to try an installation end to end: reports as strangers send them, through a running MTA, and what came of each.

Owns the catalogue of shapes, the SMTP client that sends them once each, and the comparison of what came of them with what the
policy says must. Never sends anything but the catalogue, and to nobody but the MTA that it is told.
"""

from sidecar.commands.simulate.client import Target, UnreachableError
from sidecar.commands.simulate.expectation import Expectations
from sidecar.commands.simulate.shapes import SHAPES, MessageShape
from sidecar.commands.simulate.simulation import Result, Simulation
from sidecar.commands.simulate.witness import Witness

__all__ = ["SHAPES", "Expectations", "MessageShape", "Result", "Simulation", "Target", "UnreachableError", "Witness"]
