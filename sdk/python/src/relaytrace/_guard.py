"""How a guarded function's call becomes an action, and an approved action a call."""

import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any

from ._wire import Json

OWN = frozenset({"self", "cls"})
EDITABLE = ("approve", "reject", "edit")
"""What a guarded function can take: it is called with the approved arguments, so an edit is safe."""


def refuse_generators(function: Callable[..., Any]) -> None:
    """A generator runs as it is iterated: its guard would report an outcome before anything has run."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a generator: guard a function that runs it to its end")


class Signature:
    """The parameters of a function that belong to its action, and those that do not."""

    def __init__(self, function: Callable[..., Any], exclude: Collection[str]):
        self._signature = inspect.signature(function)
        unknown = set(exclude) - self._signature.parameters.keys()
        if unknown:
            raise TypeError(f"guard(exclude=…): {function.__qualname__} has no parameter {', '.join(sorted(unknown))}")
        self._excluded = OWN | set(exclude)

    def action(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Json, dict[str, Any]]:
        """The arguments of the action with their defaults, and what is passed on as it is."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments: Json = {}
        others: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if name in self._excluded:
                others[name] = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(value)
            elif kind is not inspect.Parameter.VAR_POSITIONAL or value:
                arguments[name] = value
        return arguments, others

    def call(self, arguments: Json, others: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """How to call the function with approved arguments. An argument that it does not have is a `TypeError`."""
        left = {**arguments, **others}
        args: list[Any] = []
        kinds = inspect.Parameter
        positional: list[object] = [kinds.POSITIONAL_ONLY]
        if any(parameter.kind is kinds.VAR_POSITIONAL and left.get(name) for name, parameter in self._parameters):
            positional.append(kinds.POSITIONAL_OR_KEYWORD)
        for name, parameter in self._parameters:
            if parameter.kind is kinds.VAR_POSITIONAL:
                args.extend(left.pop(name, ()))
            elif parameter.kind in positional and name in left:
                args.append(left.pop(name))
        return args, left

    @property
    def _parameters(self) -> Iterable[tuple[str, inspect.Parameter]]:
        return self._signature.parameters.items()


def options_for(options: dict[str, Any], arguments: Json) -> dict[str, Any]:
    """The options of this call: a function among them is called with the arguments."""
    made = {name: value(**arguments) if callable(value) else value for name, value in options.items()}
    made.setdefault("answers", EDITABLE)
    return made
