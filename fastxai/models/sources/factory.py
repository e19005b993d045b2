"""`package.module:factory`: a function of the user's that makes the model."""

from __future__ import annotations

from torch import nn

from fastxai.errors import ArgumentError, CannotRun
from fastxai.models.model import Model
from fastxai.models.sources import FORMS, Options
from fastxai.models.weights import load_weights, read_weights
from fastxai.plugins import import_object, in_one_line, is_object
from fastxai.types import Preprocess


def load(spec: str, options: Options) -> Model:
    """Import the module, call the factory without arguments; it gives a `Model` or (module, Preprocess).

    The current folder is importable, as with `python -m`. Device, precision and compile of `load_model` take effect;
    those of a `Model` that the factory made stay where they were left "auto".
    """
    if not is_object(spec):
        raise ArgumentError(f"model must be {FORMS}, got {spec!r}")
    if options.random:
        raise ArgumentError("weights must be a file or None with package.module:factory, got 'random'")
    found = import_object(spec, "model", FORMS, "a function")
    if not callable(found):
        raise ArgumentError(f"model must name a function, got {spec!r}, which is a {type(found).__name__}")
    try:
        made = found()
    except Exception as error:
        raise CannotRun(f"{spec} failed: {in_one_line(error)}") from error
    if isinstance(made, Model):
        model = _adjusted(made, options)
    elif isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        module, preprocess = made
        if not isinstance(preprocess, Preprocess):
            raise ArgumentError(f"{spec} must return a Model or (module, Preprocess), got {type(preprocess).__name__}")
        model = options.model(module, preprocess, spec)
    else:
        raise ArgumentError(f"{spec} must return a Model or (module, Preprocess), got {type(made).__name__}")
    if options.file is not None:
        load_weights(model.module, read_weights(options.file), options.file)
    return model


def _adjusted(made: Model, options: Options) -> Model:
    return Model(
        made.module,
        made.preprocess,
        made.classes,
        made.output,
        name=made.name,
        device=made.device if options.device == "auto" else options.device,
        precision=made.precision if options.precision == "auto" else options.precision,
        compile=made.compile if options.compile == "auto" else options.compile,
        fold=made.fold and options.fold,
        class_keys=made.class_keys,
    )
