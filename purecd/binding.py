# SPDX-License-Identifier: Apache-2.0
"""What both fronts need to show an operation as a method."""

from __future__ import annotations

import inspect
from typing import Any, Callable


def with_self(method: Any, operation: Callable[..., Any]) -> None:
    """Show the operation's signature to `help` and `inspect` as a method's, which returns the result."""
    signature = inspect.signature(operation)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    returned = signature.return_annotation
    if isinstance(returned, str) and returned.startswith("Op["):
        returned = returned[len("Op[") : -1]
    parameters = [first, *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=returned)
    method.__annotations__ = {**operation.__annotations__, "return": returned}
