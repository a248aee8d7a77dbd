# SPDX-License-Identifier: Apache-2.0
"""Requests to the key-value store: immutable values, checked when made.

`Get`, `Put`, `Delete` and `Txn` are what the commands of these names send and what transactions are
made of; `version`, `create_revision`, `mod_revision`, `value` and `lease` begin a `Compare`:

    Txn([version("jobs/1") == 0], [Put("jobs/1", b"mine")], [Get("jobs/1")])

1. A key is 1 byte or more. Text is encoded as UTF-8.
2. A range is `[key, range_end)`; an empty `range_end` means the single key, ``b"\\0"`` means no end.
3. Wrong arguments raise ValueError or TypeError here, before anything is sent: some releases of etcd
   crash on what later ones refuse.

Source: etcd client/v3/op.go, client/v3/compare.go.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, Union

from purecd.records import NamedTuple
from purecd.types import brief

Text = Union[str, bytes, bytearray, memoryview]

INT64_MAX = (1 << 63) - 1
NO_END = b"\0"  # as range_end: no end; as key with it: the whole keyspace
MAX_TXN_DEPTH = 32  # levels of txns in txns; protobuf decoders stop at 100 nested messages

SORT_TARGETS = ("key", "version", "create_revision", "mod_revision", "value")  # in wire order


class HasId(Protocol):
    """Anything with the id of a lease."""

    @property
    def id(self) -> int: ...


LeaseId = Union[int, HasId]


def as_bytes(name: str, data: Text) -> bytes:
    """Turn a key or value into bytes; text becomes UTF-8."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"{name} must be str or bytes, not {type(data).__name__}")


def as_int(name: str, number: int, minimum: int = 0) -> int:
    """Check an int of 64 bits, not below `minimum`."""
    if isinstance(number, bool):
        raise TypeError(f"{name} must be an int, not bool")
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(number).__name__}") from None
    if not minimum <= number <= INT64_MAX:
        raise ValueError(f"{name} must be between {minimum} and 2**63 - 1, not {number}")
    return number


def as_lease_id(lease: LeaseId) -> int:
    """Take the id of a lease, given as an int or as an object with `id`."""
    number: Any = lease if isinstance(lease, int) else getattr(lease, "id", lease)
    return as_int("lease", number, -INT64_MAX - 1)


def check_flags(**flags: Any) -> None:
    """See to it that flags are True or False: what else is true or false is more likely a mistake."""
    for name, flag in flags.items():
        if flag is not True and flag is not False:
            raise TypeError(f"{name} must be True or False, not {flag!r}")


def prefix_end(prefix: bytes) -> bytes:
    """Find the `range_end` that makes ``[prefix, range_end)`` all keys beginning with `prefix`.

    Source: etcd client/v3/op.go (GetPrefixRangeEnd).
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else NO_END


def range_of(
    key: Text, range_end: Text | None = None, prefix: bool = False, from_key: bool = False
) -> tuple[bytes, bytes]:
    """Work out the range that the arguments of a read, delete, compare or watch mean.

    Args:
        key: first key; may be empty with `prefix` or `from_key`, which then mean all keys.
        range_end: end of the range, not included; empty or None for the single key.
        prefix: take all keys beginning with `key`.
        from_key: take all keys from `key` on.

    Returns:
        `(key, range_end)` as sent.
    """
    first = as_bytes("key", key)
    end = b"" if range_end is None else as_bytes("range_end", range_end)
    check_flags(prefix=prefix, from_key=from_key)
    if prefix + from_key + bool(end) > 1:
        raise ValueError("only one of range_end, prefix and from_key can be given")
    if prefix and first:
        return first, prefix_end(first)
    if prefix or from_key:
        return first or NO_END, NO_END
    if not first:
        raise ValueError("key is empty; for all keys give prefix=True or from_key=True")
    return first, end


class _Get(NamedTuple):
    key: bytes
    range_end: bytes
    limit: int
    revision: int
    sort_by: str | None
    descending: bool
    serializable: bool
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int


_PLAIN_TEXT = (str, bytes)
_PLAIN_GET = (0, 0, None, False, False, False, False, 0, 0, 0, 0)


class Get(_Get):
    """Read a key or a range of keys.

    Args:
        key: key, or start of the range.
        range_end: end of the range, not included.
        prefix: read all keys beginning with `key`.
        from_key: read all keys from `key` on.
        limit: most keys to return, 0 for all.
        revision: revision to read at, 0 for the latest.
        sort_by: ``"key"``, ``"version"``, ``"create_revision"``, ``"mod_revision"`` or ``"value"``.
        descending: largest first.
        serializable: let the asked member answer from its own, possibly stale, state.
        keys_only: leave values out.
        count_only: return the number of keys only.
        min_mod_revision, max_mod_revision, min_create_revision, max_create_revision: drop keys
            outside of these revisions, 0 for no bound.
    """

    __slots__ = ()

    def __new__(
        cls,
        key: Text,
        range_end: Text | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        limit: int = 0,
        revision: int = 0,
        sort_by: str | None = None,
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
    ) -> Get:
        if key and range_end is None and prefix is from_key is False and type(key) in _PLAIN_TEXT:
            end = b""
            if type(key) is str:
                key = key.encode()
        else:
            key, end = range_of(key, range_end, prefix, from_key)
        details = (
            limit,
            revision,
            sort_by,
            descending,
            serializable,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        )
        if details == _PLAIN_GET:
            return tuple.__new__(cls, (key, end, *_PLAIN_GET))
        return tuple.__new__(cls, (key, end, *_checked_get(*details)))

    @property
    def is_write(self) -> bool:
        return False

    def with_key_range(self, key: bytes, range_end: bytes) -> Get:
        """Copy with another range, given as sent."""
        return _with_range(self, key, range_end)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (Get, tuple(self))


def _checked_get(
    limit: int,
    revision: int,
    sort_by: str | None,
    descending: bool,
    serializable: bool,
    keys_only: bool,
    count_only: bool,
    min_mod_revision: int,
    max_mod_revision: int,
    min_create_revision: int,
    max_create_revision: int,
) -> tuple[Any, ...]:
    if sort_by is not None and sort_by not in SORT_TARGETS:
        raise ValueError(f"sort_by must be one of {', '.join(SORT_TARGETS)}, not {sort_by!r}")
    check_flags(descending=descending, serializable=serializable, keys_only=keys_only, count_only=count_only)
    return (
        as_int("limit", limit),
        as_int("revision", revision),
        sort_by,
        descending,
        serializable,
        keys_only,
        count_only,
        as_int("min_mod_revision", min_mod_revision),
        as_int("max_mod_revision", max_mod_revision),
        as_int("min_create_revision", min_create_revision),
        as_int("max_create_revision", max_create_revision),
    )


class _Put(NamedTuple):
    key: bytes
    value: bytes
    lease: int
    prev_kv: bool
    ignore_value: bool
    ignore_lease: bool


_PLAIN_PUT = (0, False, False, False)


class Put(_Put):
    """Set the value of a key.

    Args:
        key: key to set.
        value: its new value.
        lease: lease to attach the key to, as an id or an object with `id`; 0 detaches it.
        prev_kv: return the key as it was before.
        ignore_value: keep the value the key has; it must exist.
        ignore_lease: keep the lease the key has; it must exist.
    """

    __slots__ = ()

    def __new__(
        cls,
        key: Text,
        value: Text = b"",
        *,
        lease: LeaseId = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
    ) -> Put:
        if type(key) is not bytes:
            key = as_bytes("key", key)
        if not key:
            raise ValueError("key is empty")
        if type(value) is not bytes:
            value = as_bytes("value", value)
        details = (lease, prev_kv, ignore_value, ignore_lease)
        if details == _PLAIN_PUT:
            return tuple.__new__(cls, (key, value, *_PLAIN_PUT))
        lease = as_lease_id(lease)
        check_flags(prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease)
        if ignore_value and value:
            raise ValueError("a value cannot be given together with ignore_value")
        if ignore_lease and lease:
            raise ValueError("a lease cannot be given together with ignore_lease")
        return tuple.__new__(cls, (key, value, lease, prev_kv, ignore_value, ignore_lease))

    @property
    def is_write(self) -> bool:
        return True

    @property
    def range_end(self) -> bytes:
        """Always empty: a put is about a single key."""
        return b""

    def with_key_range(self, key: bytes, range_end: bytes = b"") -> Put:
        """Copy with another key; `range_end` must be empty."""
        if range_end:
            raise ValueError("a put has no range_end")
        return self._replace(key=key)

    def __repr__(self) -> str:
        return (
            f"Put(key={brief(self.key)}, value={brief(self.value)}, lease={self.lease}, "
            f"prev_kv={self.prev_kv}, ignore_value={self.ignore_value}, ignore_lease={self.ignore_lease})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (Put, tuple(self))


class _Delete(NamedTuple):
    key: bytes
    range_end: bytes
    prev_kv: bool


class Delete(_Delete):
    """Delete a key or a range of keys.

    Args:
        key: key, or start of the range.
        range_end: end of the range, not included.
        prefix: delete all keys beginning with `key`.
        from_key: delete all keys from `key` on.
        prev_kv: return the deleted keys.
    """

    __slots__ = ()

    def __new__(
        cls,
        key: Text,
        range_end: Text | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        prev_kv: bool = False,
    ) -> Delete:
        check_flags(prev_kv=prev_kv)
        return tuple.__new__(cls, (*range_of(key, range_end, prefix, from_key), prev_kv))

    @property
    def is_write(self) -> bool:
        return True

    def with_key_range(self, key: bytes, range_end: bytes) -> Delete:
        """Copy with another range, given as sent."""
        return _with_range(self, key, range_end)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (Delete, tuple(self))


class _Compare(NamedTuple):
    target: str
    operator: str
    key: bytes
    range_end: bytes
    operand: int | bytes


class Compare(_Compare):
    """One condition of a transaction, made by comparing `version(key)` and its like.

    Over a range the condition must hold for every key in it. A key that does not exist has version,
    revisions and lease 0, and no comparison of its value holds.

    Attributes:
        target: ``"version"``, ``"create_revision"``, ``"mod_revision"``, ``"value"`` or ``"lease"``.
        operator: ``"=="``, ``"!="``, ``">"`` or ``"<"``.
        operand: bytes for a value, else an int.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError(
            "a Compare is a condition that the server checks, it is neither true nor false here; "
            "put several in a list, do not join them with and, or, not"
        )

    def with_key_range(self, key: bytes, range_end: bytes) -> Compare:
        """Copy with another range, given as sent."""
        return _with_range(self, key, range_end)

    def __repr__(self) -> str:
        operand = brief(self.operand) if isinstance(self.operand, bytes) else self.operand
        end = f", range_end={brief(self.range_end)}" if self.range_end else ""
        return f"<{self.target}({brief(self.key)}{end}) {self.operator} {operand}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (Compare, tuple(self))


class Comparable:
    """A property of a key that ``==``, ``!=``, ``<`` and ``>`` make into a `Compare`."""

    __slots__ = ("_key", "_range_end", "_target")

    def __init__(self, target: str, key: bytes, range_end: bytes) -> None:
        self._target = target
        self._key = key
        self._range_end = range_end

    def _compare(self, sign: str, operand: object) -> Compare:
        checked: Any = operand
        if self._target == "value":
            checked = as_bytes("the operand of value()", checked)
        elif self._target == "lease":
            checked = as_lease_id(checked)
        else:
            checked = as_int(f"the operand of {self._target}()", checked, -INT64_MAX - 1)
        return tuple.__new__(Compare, (self._target, sign, self._key, self._range_end, checked))

    def __eq__(self, operand: object) -> Compare:  # type: ignore[override]  # not a bool
        return self._compare("==", operand)

    def __ne__(self, operand: object) -> Compare:  # type: ignore[override]  # not a bool
        return self._compare("!=", operand)

    def __lt__(self, operand: object) -> Compare:
        return self._compare("<", operand)

    def __gt__(self, operand: object) -> Compare:
        return self._compare(">", operand)

    __hash__ = None  # type: ignore[assignment]  # == does not compare

    def __bool__(self) -> bool:
        raise TypeError(f"{self._target}() must be compared with ==, !=, < or >")

    def __repr__(self) -> str:
        return f"<{self._target}({brief(self._key)}) to be compared>"


def _comparable(target: str, key: Text, range_end: Text | None, prefix: bool) -> Comparable:
    return Comparable(target, *range_of(key, range_end, prefix))


def version(key: Text, *, range_end: Text | None = None, prefix: bool = False) -> Comparable:
    """Compare the number of puts since the key was created; 0 when it does not exist."""
    return _comparable("version", key, range_end, prefix)


def create_revision(key: Text, *, range_end: Text | None = None, prefix: bool = False) -> Comparable:
    """Compare the revision that created the key; 0 when it does not exist."""
    return _comparable("create_revision", key, range_end, prefix)


def mod_revision(key: Text, *, range_end: Text | None = None, prefix: bool = False) -> Comparable:
    """Compare the revision of the last put; 0 when the key does not exist."""
    return _comparable("mod_revision", key, range_end, prefix)


def value(key: Text, *, range_end: Text | None = None, prefix: bool = False) -> Comparable:
    """Compare the value; no comparison holds when the key does not exist, ``!=`` included."""
    return _comparable("value", key, range_end, prefix)


def lease(key: Text, *, range_end: Text | None = None, prefix: bool = False) -> Comparable:
    """Compare the id of the key's lease; 0 when it has none."""
    return _comparable("lease", key, range_end, prefix)


class _Txn(NamedTuple):
    compare: tuple[Compare, ...]
    success: tuple[Op, ...]
    failure: tuple[Op, ...]
    is_write: bool
    depth: int


class Txn(_Txn):
    """Check conditions and run one of two lists of operations, in one step.

    All writes share one revision; an operation sees the effects of those before it.

    Args:
        compare: conditions; without any, the success branch runs.
        success: operations that run when all conditions hold; may be transactions themselves.
        failure: operations that run otherwise.

    Attributes:
        is_write: True when either branch has an operation that writes.
        depth: levels of transactions, 1 when no operation is a transaction.
    """

    __slots__ = ()

    def __new__(
        cls,
        compare: Iterable[Compare] = (),
        success: Iterable[Op] = (),
        failure: Iterable[Op] = (),
    ) -> Txn:
        conditions = _items("compare", compare, (Compare,))
        branches = tuple(_items(name, ops, OPS) for name, ops in (("success", success), ("failure", failure)))
        ops: tuple[Op, ...] = branches[0] + branches[1]
        depth = 1 + max((op.depth for op in ops if isinstance(op, Txn)), default=0)
        if depth > MAX_TXN_DEPTH:
            raise ValueError(f"transactions are nested over {MAX_TXN_DEPTH} levels deep")
        return tuple.__new__(cls, (conditions, *branches, any(op.is_write for op in ops), depth))

    def __repr__(self) -> str:
        return f"Txn(compare={self.compare!r}, success={self.success!r}, failure={self.failure!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (Txn, tuple(self))


Op = Union[Get, Put, Delete, Txn]
OPS = (Get, Put, Delete, Txn)

_R = TypeVar("_R", Get, Delete, Compare)


def _items(name: str, items: Iterable[Any], kinds: tuple[type, ...]) -> tuple[Any, ...]:
    if isinstance(items, (Compare, *OPS)):
        raise TypeError(f"{name} must be a list; put the one {type(items).__name__} in brackets")
    taken = tuple(items)
    for item in taken:
        if not isinstance(item, kinds):
            hint = "; compare it first" if isinstance(item, Comparable) else ""
            names = ", ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{name} takes {names}, not {type(item).__name__}{hint}")
    return taken


def _with_range(request: _R, key: bytes, range_end: bytes) -> _R:
    return request._replace(key=key, range_end=range_end)


def _restore(kind: type[Any], fields: tuple[Any, ...]) -> Any:
    return tuple.__new__(kind, fields)
