"""The base of all classes here: immutable dataclasses that JAX sees as pytrees, as quick as Python's.

Equinox makes a pytree of every method that is looked up, so that methods can be handed to JAX transformations (40
microseconds), and looks for mistakes in every instance (25 to 100). A gradient looks up fifty methods and makes twenty
instances, and some take less than a millisecond otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx


class _Meta(type(eqx.Module)):  # type: ignore[misc]
    """Makes instances of mere records, whose fields need no conversion and no check, without Equinox's search for mistakes."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        fields = _record(cls)
        if fields is None or len(args) > len(fields):
            return super().__call__(*args, **kwargs)
        given = dict(zip(fields, args, strict=False)) | kwargs
        if len(given) < len(args) + len(kwargs) or not given.keys() <= fields.keys():
            return super().__call__(*args, **kwargs)  # which says what is wrong
        if len(given) < len(fields):
            if any(default is None and name not in given for name, default in fields.items()):
                return super().__call__(*args, **kwargs)
            given |= {name: default() for name, default in fields.items() if name not in given and default is not None}
        instance: Any = object.__new__(cls)
        instance.__dict__.update(given)
        return instance


@functools.cache
def _record(kind: type) -> dict[str, Callable[[], Any] | None] | None:
    """Fields with what makes their defaults; None of classes with an `__init__` of their own, conversions or checks."""
    fields = dataclasses.fields(kind)
    written = kind.__init__.__code__.co_filename != "<string>"  # type: ignore[misc]
    checked = any(hasattr(kind, name) for name in ("__check_init__", "__post_init__"))
    converted = any("converter" in f.metadata or not f.init for f in fields)
    if kind.__name__.startswith("Abstract") or written or checked or converted:
        return None
    return {f.name: _default(f) for f in fields}


def _default(field: Any) -> Callable[[], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory  # type: ignore[no-any-return]
    return None if field.default is dataclasses.MISSING else lambda: field.default


class AbstractModule(eqx.Module, metaclass=_Meta):
    """An `equinox.Module` whose bound methods are those of Python, and whose instances cost little."""

    __getattribute__ = object.__getattribute__
