# SPDX-License-Identifier: Apache-2.0
"""What both fronts need to show an operation as a method."""

from __future__ import annotations

import inspect
from typing import Any, Callable


def with_self(method: Any, operation: Callable[..., Any]) -> None:
    """Show the operation's signature, as a method's, to `help` and `inspect`."""
    signature = inspect.signature(operation)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])
