"""Compile this room's kernels, at set-up."""

from workshop_brain.connect.opcua import decode
from workshop_brain.connect.sparkplug import wire


def warm_up() -> None:
    """Call each kernel once with small inputs."""
    decode.warm()
    wire.warm()
