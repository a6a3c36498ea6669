"""From somebody's state dict to the parameters of our network: a table of names, and nothing left over.

A `Layout` says, for each of our parameters, which array of theirs it is made of. `convert` walks over the network's own
parameters, so the network, built at its full size, is the exact manifest of what a file must hold.

Paths of ours are those of the module, joined by slashes: `layer1/0/conv1/kernel`. Patterns: `*` stands for one part of
a name between slashes or dots, `**` for any number of them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx

from jaxtalk.errors import JaxtalkError

Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 6  # names in a message
COUNTERS = "**.num_batches_tracked"  # of torch's batch normalisation; no network of ours has one


def as_is(array: np.ndarray) -> np.ndarray:
    return array


def kernel(array: np.ndarray) -> np.ndarray:
    """Torch's [out, in, *window] of a dense layer or a convolution of 1, 2 or 3 dimensions -> [*window, in, out]."""
    return array.transpose(*range(2, array.ndim), 1, 0)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One of our parameters (or many, by pattern) is `transform` of the arrays called `theirs`.

    The n-th star of `ours` is what the n-th star of each of `theirs` stands for.
    """

    ours: str
    theirs: tuple[str, ...]
    transform: Callable[..., np.ndarray] = as_is


def module(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of a dense, convolution, normalisation or embedding layer of torch."""
    weight = (f"{theirs}.weight",)
    return (
        Rule(f"{ours}/kernel", weight, kernel),
        Rule(f"{ours}/scale", weight),
        Rule(f"{ours}/embedding", weight),
        Rule(f"{ours}/bias", (f"{theirs}.bias",)),
        Rule(f"{ours}/mean", (f"{theirs}.running_mean",)),
        Rule(f"{ours}/var", (f"{theirs}.running_var",)),
    )


def modules(table: Mapping[str, str]) -> tuple[Rule, ...]:
    """`module` for each pair of the table."""
    return tuple(rule for ours, theirs in table.items() for rule in module(ours, theirs))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the files of one network are laid out.

    Args:
      name: of the network, as in the register.
      network: builds it at the size of the published file. Called abstractly, for the shapes.
      rules: the first that fits one of our paths is taken.
      version: raised whenever our parameters change: files converted before are then converted again.
      ignored: patterns of their names that have no place in our network (heads that nobody uses).
      entry: of files that hold several state dicts, ours; a file without it is taken for the state dict itself.
      prefix: taken off names that begin with it, such as 'module.'.
      renames: pattern -> pattern, for files of another release; the first that fits is taken.
    """

    name: str
    network: Callable[[nnx.Rngs], nnx.Module]
    rules: tuple[Rule, ...]
    version: int = 1
    ignored: tuple[str, ...] = ()
    entry: str | None = None
    prefix: str = ""
    renames: Mapping[str, str] = dataclasses.field(default_factory=dict)


def shapes_of(network: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Shapes by path of the parameters and statistics of a network, which may be abstract; random keys are left out."""
    state = nnx.to_flat_state(nnx.state(network, nnx.Not(nnx.RngState)))
    return {"/".join(map(str, path)): tuple(variable.shape) for path, variable in state}


def full_shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Shapes by path of the published network; nothing is computed."""
    return shapes_of(nnx.eval_shape(lambda: layout.network(nnx.Rngs(0))))


def convert(
    network: nnx.Module | Shapes, state_dict: Mapping[str, np.ndarray], layout: Layout, source: str
) -> dict[str, np.ndarray]:
    """The parameters of `network` out of a state dict, float32 where they were floats.

    Args:
      network: the module, abstract or not, or the shapes of its parameters by path.
      state_dict: their arrays by name.
      layout: the table of names.
      source: what the messages call the file.

    Raises:
      JaxtalkError: keys that are missing, left over, of another shape, or not finite; all of one kind are counted and
        the first ones named.
    """
    shapes = shapes_of(network) if isinstance(network, nnx.Module) else network
    theirs = _renamed(state_dict, layout)
    wanted = {path: _sources(path, layout) for path in shapes}
    used = {key for keys, _ in wanted.values() for key in keys}
    missing = sorted(used - set(theirs))
    unused = sorted(key for key in set(theirs) - used if not _fits((COUNTERS, *layout.ignored), key))
    parameters, misshapen, wild = {}, [], []
    for path, (keys, transform) in wanted.items():
        if not set(keys) <= set(theirs):
            continue
        arrays = [theirs[key] for key in keys]
        value = _transformed(transform, arrays)
        if value is None or value.shape != tuple(shapes[path]):
            sizes = " and ".join(str(array.shape) for array in arrays)
            misshapen.append(f"{keys[0]} {sizes} for {path} {tuple(shapes[path])}")
        elif not np.isfinite(value).all():
            wild.append(keys[0])
        else:
            parameters[path] = value
    kinds = {"missing": missing, "not of this network": unused, "of another shape": misshapen, "not finite": wild}
    problems = [f"{len(names)} {kind}: {_first(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise JaxtalkError(f"{source}: not a whole file of {layout.name}; keys {'; '.join(problems)}")
    return parameters


def _transformed(transform: Callable[..., np.ndarray], arrays: list[np.ndarray]) -> np.ndarray | None:
    """The new array; None where the transform cannot work on arrays of such shapes."""
    floats = [array if array.dtype.kind in "iub" else np.asarray(array, np.float32) for array in arrays]
    try:
        return np.ascontiguousarray(transform(*floats)) if arrays[0].ndim else transform(*floats)
    except (ValueError, IndexError):
        return None


def _renamed(state_dict: Mapping[str, np.ndarray], layout: Layout) -> dict[str, np.ndarray]:
    renamed = {}
    for key, array in state_dict.items():
        key = key.removeprefix(layout.prefix)
        for pattern, other in layout.renames.items():
            if match := _compiled(pattern).fullmatch(key):
                key = _filled(other, match)
                break
        renamed[key] = array
    return renamed


def _sources(path: str, layout: Layout) -> tuple[tuple[str, ...], Callable[..., np.ndarray]]:
    """Their names for one of our parameters, and what to do with the arrays."""
    for rule in layout.rules:
        if match := _compiled(rule.ours).fullmatch(path):
            return tuple(_filled(key, match) for key in rule.theirs), rule.transform
    raise ValueError(f"layout {layout.name}: no rule for {path}")


def _fits(patterns: tuple[str, ...], key: str) -> bool:
    return any(_compiled(pattern).fullmatch(key) for pattern in patterns)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": "(.+)", "*": r"([^/.]+)"}.get(part, re.escape(part)) for part in parts))


def _filled(pattern: str, match: re.Match[str]) -> str:
    """The pattern with its stars replaced by what the match's stand for; slashes become dots."""
    values = iter(match.groups())
    return re.sub(r"\*\*|\*", lambda _: next(values).replace("/", "."), pattern)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
