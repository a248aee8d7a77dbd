# SPDX-License-Identifier: Apache-2.0
"""What both fronts need to show an operation as a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import inspect


class _Shape:
    """What `inspect` is shown of a command, worked out when it asks.

    Loading `inspect` for that took a tenth of the time to import a client (benchmarks/startup.py).
    """

    def __init__(self, operation: Callable[..., Any]) -> None:
        self.__wrapped__ = operation  # `inspect.getsource` and the like look on there

    def __call__(self) -> None:
        """Not to be called; `inspect` reads signatures of callables only."""

    @property
    def __signature__(self) -> inspect.Signature:
        import inspect

        signature = inspect.signature(self.__wrapped__)
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [first, *signature.parameters.values()]
        returned = _result(signature.return_annotation)
        return signature.replace(parameters=parameters, return_annotation=returned)


def with_self(method: Any, operation: Callable[..., Any]) -> None:
    """Show the operation's signature to `help` and `inspect` as a method's, which returns the result."""
    method.__wrapped__ = _Shape(operation)  # where `inspect.signature` looks on
    method.__annotations__ = {
        **operation.__annotations__,
        "return": _result(operation.__annotations__.get("return")),
    }


def _result(returned: Any) -> Any:
    if isinstance(returned, str) and returned.startswith("Op["):
        return returned[len("Op[") : -1]
    return returned
