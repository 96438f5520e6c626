"""The base of all classes here: immutable dataclasses that JAX sees as pytrees, with methods as cheap as Python's."""

import equinox as eqx


class AbstractModule(eqx.Module):
    """An `equinox.Module` whose bound methods are those of Python.

    Equinox makes a pytree of every method that is looked up, so that methods can be handed to JAX transformations; that
    takes some 40 microseconds each time, and a gradient looks up fifty. Nothing here hands a method to JAX.
    """

    __getattribute__ = object.__getattribute__
