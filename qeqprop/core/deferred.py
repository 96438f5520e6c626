"""Results that are worked out when somebody first looks at them: a training never does."""

from collections.abc import Callable
from typing import Any

import jax


class Deferred:
    """What `make()` gives, once.

    It pickles, and goes through JAX's trees, as what it gives.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make: Callable[[], Any] | None = make
        self._made: Any = None

    def value(self) -> Any:
        """The result; what it was made of is forgotten then."""
        if self._make is not None:
            self._made, self._make = self._make(), None
        return self._made

    def __reduce__(self) -> Any:
        return _itself, (self.value(),)


def _itself(value: Any) -> Any:
    return value


jax.tree_util.register_pytree_node(Deferred, lambda late: ((late.value(),), None), lambda _, parts: parts[0])


class Evaluated:
    """Descriptor of a field that may be given as a `Deferred`, and is always read as its value.

    Example:
        >>> class Box:
        ...     content = Evaluated("content")
        >>> box = Box()
        >>> box.content = Deferred(lambda: print("at work") or 7)
        >>> box.content + box.content
        at work
        14
    """

    def __init__(self, name: str):
        self._name = name

    def __get__(self, instance: Any, kind: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            found = instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(f"{type(instance).__name__} has no {self._name!r} yet.") from None
        if isinstance(found, Deferred):
            found = instance.__dict__[self._name] = found.value()
        return found

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value
