"""Let a class that takes another's place in a configuration bring its own defaults.

Where a later file or option names another class, jsonargparse keeps the earlier one's arguments if the new
class takes them too. It cannot tell what was written from what the earlier class filled in by itself: a
StyleGAN2 laid over the standing DCGAN came out with DCGAN's 100 latents instead of its own 512. Arguments
that equal the earlier class's default are therefore forgotten first; what was written stays.
"""

import inspect
from typing import Any

import jsonargparse._typehints as typehints
from jsonargparse import Namespace
from jsonargparse._util import import_object

_keep_what_fits = typehints.discard_init_args_on_class_path_change


def forget_defaults(parser: Any, earlier: Any, later: Any) -> None:
    """Drop from ``earlier`` what its class filled in, if ``later`` names another class.

    Args:
        parser: Of the argument.
        earlier: ``class_path`` and ``init_args`` so far; changed in place.
        later: What is laid over it.
    """
    arguments = earlier.get("init_args") if isinstance(earlier, Namespace) else None
    if isinstance(arguments, Namespace) and earlier["class_path"] != later["class_path"]:
        for name, parameter in inspect.signature(import_object(earlier["class_path"])).parameters.items():
            if name in arguments and _same(arguments[name], parameter.default):
                arguments.pop(name)
    _keep_what_fits(parser, earlier, later)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and isinstance(value, str | int | float | None) and value == default


typehints.discard_init_args_on_class_path_change = forget_defaults
