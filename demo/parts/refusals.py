"""From our errors to what a visitor reads: one line, no traceback."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

import gradio as gr

from backbones.errors import InputError

_F = TypeVar("_F", bound=Callable[..., Any])


def refusal(message: str) -> gr.Error:
    """What Gradio shows; the message may hold a file's name, and Gradio takes messages for HTML."""
    return gr.Error(escape(message), title="That did not work", print_exception=False)


def explained(function: _F) -> _F:
    """The same function or generator, whose ``InputError`` reaches the visitor."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*arguments: Any, **named: Any) -> Any:
            try:
                yield from function(*arguments, **named)
            except InputError as error:
                raise refusal(str(error)) from None

        return generator  # type: ignore[return-value]

    @functools.wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except InputError as error:
            raise refusal(str(error)) from None

    return plain  # type: ignore[return-value]
