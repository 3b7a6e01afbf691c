"""The errors a user can meet, each with the exit code of the command that meets it.

A message is one sentence of the form ``<thing> must be <rule>, not <value!r>`` plus the mend, when there is one.
"""


class ShiftForgeError(Exception):
    """Base of all errors that the command line prints as one sentence instead of a traceback."""

    exit_code = 2


class InputError(ShiftForgeError, ValueError):
    """A value, a shape, a file or a configuration key is wrong (exit code 2)."""


class NotBuiltError(InputError):
    """The request is well formed, but this version or this configuration does not build it (exit code 2)."""


class CheckFailed(ShiftForgeError):
    """A comparison or a check found a difference (exit code 1)."""

    exit_code = 1


class ToolError(ShiftForgeError):
    """An external tool is missing or failed (exit code 3)."""

    exit_code = 3


class DeviceError(ShiftForgeError):
    """The device refused a packet, or did not answer in time (exit code 3)."""

    exit_code = 3
