"""What a user can do wrong, said in one line.

Everything a user can cause (a mistyped spec, a missing file, a shape that does not fit) raises a `UserError`: its
message is one line that names the file, layer, spec or option and says what would be right. The command lines print
that line and exit with status 2; a traceback means a defect of ours.
"""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user gave us; the message is the one line the user needs."""


class SpecError(UserError):
    """A number-system expression that does not parse or does not make sense."""


class GraphError(UserError):
    """A model that cannot be loaded: unknown operator, inconsistent shapes, unreadable file."""


class PlanError(UserError):
    """A bit plan that does not match its schema or its graph."""
