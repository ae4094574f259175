"""Content that shields have let through, or still judge. Only the holder of the one seal can make it.

Every door asks for `Cleared` content. One takes `Held` content as well: an engine on this machine may begin to compute
on it, and gives nothing of what it computes before it is asked again, with the same content cleared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NoReturn, TypeVar, final

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


@final
class Seal:
    """The right to clear content. There is one; the shield pipeline claims it when it is imported."""

    __slots__ = ()


_SEAL: Final = Seal()
_claimed_by: str | None = None


def claim_seal(owner: str) -> Seal:
    """Hand out the seal, once.

    Raises:
        RuntimeError: if somebody has it already.
    """
    global _claimed_by
    if _claimed_by is not None:
        raise RuntimeError(f"the seal is held by {_claimed_by}; only it can clear content")
    _claimed_by = owner
    return _SEAL


@final
class Cleared(Generic[T_co]):
    """A value that the pipeline cleared. Immutable; cannot be built, copied or unpickled elsewhere.

    `map` re-expresses the same content in another form (a message as token ids, text as an event).
    """

    __slots__ = ("_value",)

    def __init__(self, value: T_co, *, seal: Seal) -> None:
        if seal is not _SEAL:
            raise TypeError("only the shield pipeline can clear content")
        object.__setattr__(self, "_value", value)

    @property
    def value(self) -> T_co:
        """The content itself."""
        value: T_co = self._value  # type: ignore[attr-defined]  # set through object.__setattr__
        return value

    def map(self, express: Callable[[T_co], U]) -> Cleared[U]:
        """Return the same content in another form."""
        return Cleared(express(self.value), seal=_SEAL)

    @staticmethod
    def all(parts: Iterable[Cleared[U]]) -> Cleared[tuple[U, ...]]:
        """Return several cleared values as one."""
        return Cleared(tuple(require_cleared(part) for part in parts), seal=_SEAL)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("Cleared content cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Cleared content cannot be pickled or copied; judge the content again")

    def __repr__(self) -> str:
        return f"Cleared({type(self.value).__name__})"


@final
class Held(Generic[T_co]):
    """A value that some shields have let through while others still judge it. Nobody can read it but one door.

    It never becomes cleared: what a verdict clears is made anew. `map` re-expresses it, as that of `Cleared` does.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T_co, *, seal: Seal) -> None:
        if seal is not _SEAL:
            raise TypeError("only the shield pipeline can hold content")
        object.__setattr__(self, "_value", value)

    def map(self, express: Callable[[T_co], U]) -> Held[U]:
        """Return the same content in another form, held as well."""
        value: T_co = self._value  # type: ignore[attr-defined]  # set through object.__setattr__
        return Held(express(value), seal=_SEAL)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("Held content cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Held content cannot be pickled or copied; judge the content again")

    def __repr__(self) -> str:
        return "Held(...)"


def require_held(content: Held[T]) -> T:
    """Return the value behind the argument of the one door that computes ahead of a verdict.

    Raises:
        TypeError: if the content is not held by the pipeline. The content is not named in the error.
    """
    if type(content) is not Held:
        raise TypeError(f"this door takes only held content, got {_kind(content)}")
    value: T = content._value  # type: ignore[attr-defined]  # set through object.__setattr__
    return value


def require_cleared(content: Cleared[T]) -> T:
    """Return the value behind a door's argument.

    Raises:
        TypeError: if the content was not cleared by the pipeline. The content is not named in the error.
    """
    if type(content) is not Cleared:
        raise TypeError(f"this door takes only cleared content, got {_kind(content)}")
    return content.value


def _kind(content: Any) -> str:
    return type(content).__name__
