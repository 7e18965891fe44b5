"""Which layers decide together, and what each of them may choose.

Two layers decide together when they touch the same tensor: a producer and its consumers see one format of it,
and tied weights are stored once. `share="residual"` also joins the layers whose inputs must have one format
on integer hardware (the operands of residual adds and concatenations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING, Literal

from qsim.errors import UserError
from qsim.graph import quantizable, share_groups
from qsim.parse import parse
from qsim.spec import Spec

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Share = Literal["inputs", "residual"]


@dataclass(frozen=True)
class Choice:
    """One entry of the menu: a number system for the weights and one for the activations of a layer (None: float32).

    family: the name that results of this choice alone, in every layer, are shown under.
    """

    label: str
    weights: Spec | None
    activations: Spec | None
    family: str = "uniform"


@dataclass(frozen=True)
class Rule:
    """Layers whose name matches the pattern `layers` may only take `choice`."""

    layers: str
    choice: Choice


@dataclass(frozen=True)
class Candidates:
    """Layers that take one choice, and the choices they have."""

    name: str
    layers: tuple[Layer, ...]
    choices: tuple[Choice, ...]

    def tensors(self, choice: Choice) -> dict[str, Spec]:
        """The spec that `choice` gives to every tensor these layers read ({} where it leaves them in float32)."""
        specs: dict[str, Spec | None] = {}
        for layer in self.layers:
            specs[layer.input] = choice.activations
            specs[layer.weights] = choice.activations if layer.kind == "matmul" else choice.weights
        return {name: spec for name, spec in specs.items() if spec is not None}


def make_choice(label: str, entry: Mapping[str, str | None] | str) -> Choice:
    """A choice from a config entry: {weights: spec, activations: spec}, or one expression for both."""
    if isinstance(entry, str):
        entry = {"weights": entry, "activations": entry}
    unknown = set(entry) - {"weights", "activations"}
    if unknown:
        raise UserError(f"formats.menu.{label} has '{min(unknown)}'; an entry has weights and activations")
    specs = {
        key: None if entry.get(key) is None else parse(str(entry[key])) for key in ("weights", "activations")
    }
    return Choice(label, specs["weights"], specs["activations"])


def make_grid(families: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[Choice, ...]:
    """Every pair of a weight and an activation format in each family: {family: {weights: [...], activations: [...]}}.

    Labels are `<family> w<bits>a<bits>`, in which a width that a family has twice is named by its format.
    """
    choices = []
    for family, entry in families.items():
        if set(entry) != {"weights", "activations"}:
            raise UserError(f"formats.grid.{family} must hold the lists weights and activations")
        weights, activations = (_named_specs(entry[key]) for key in ("weights", "activations"))
        for (w, weight), (a, activation) in product(weights.items(), activations.items()):
            choices.append(Choice(f"{family} w{w}a{a}", weight, activation, family))
    return tuple(choices)


def _named_specs(texts: Sequence[str]) -> dict[str, Spec]:
    """Specs by width, or by the element where a width occurs twice."""
    specs = [parse(text) for text in texts]
    widths = [spec.bits for spec in specs]
    return {str(spec.bits) if widths.count(spec.bits) == 1 else spec.element.name: spec for spec in specs}


def make_rules(entries: Sequence[Mapping[str, str]], menu: Sequence[Choice]) -> tuple[Rule, ...]:
    """Rules from `formats.rules`: {layers: pattern, spec: a menu label or an expression}."""
    labels = {choice.label: choice for choice in menu}
    rules = []
    for entry in entries:
        if set(entry) != {"layers", "spec"}:
            raise UserError(
                f"formats.rules: {dict(entry)} must be {{layers: <pattern>, spec: <menu entry or expression>}}"
            )
        spec = entry["spec"]
        rules.append(
            Rule(entry["layers"], labels[spec] if spec in labels else make_choice(str(spec), str(spec)))
        )
    return tuple(rules)


def make_candidates(
    graph: Graph, menu: Sequence[Choice], rules: Sequence[Rule] = (), share: Share = "inputs"
) -> tuple[Candidates, ...]:
    """Groups of layers with their choices, in network order.

    Raises UserError when the network has no layer to quantize, a rule matches no layer, or rules contradict
    within a group.
    """
    layers = _quantizable_layers(graph)
    _check_rules(layers, rules)
    groups = []
    for members in _joined(graph, layers, share):
        forced = {rule.choice for rule in rules for layer in members if fnmatchcase(layer.name, rule.layers)}
        if len(forced) > 1:
            names = ", ".join(layer.name for layer in members)
            raise UserError(
                f"formats.rules give {' and '.join(sorted(c.label for c in forced))} "
                f"to layers that share a tensor: {names}"
            )
        choices = tuple(forced) or tuple(menu)
        name = members[0].name if len(members) == 1 else f"{members[0].name}+{len(members) - 1}"
        groups.append(Candidates(name, members, choices))
    return tuple(groups)


def _quantizable_layers(graph: Graph) -> tuple[Layer, ...]:
    allowed = set(quantizable(graph))
    layers = tuple(layer for layer in graph.layers if layer.input in allowed or layer.weights in allowed)
    if not layers:
        raise UserError(
            f"model '{graph.name}' has no layer that multiplies and accumulates, so there is nothing to quantize"
        )
    return layers


def _joined(graph: Graph, layers: Sequence[Layer], share: Share) -> list[tuple[Layer, ...]]:
    """Layers in groups (union-find over the tensors that they read)."""
    home: dict[str, str] = {}

    def find(name: str) -> str:
        while home.setdefault(name, name) != name:
            name = home[name]
        return name

    sharing = share_groups(graph)
    root_of = {name: min(group) for group in sharing for name in group} if share == "residual" else {}
    for layer in layers:
        for tensor in (layer.input, layer.weights):
            home[find(f"tensor {root_of.get(tensor, tensor)}")] = find(f"layer {layer.name}")
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(find(f"layer {layer.name}"), []).append(layer)
    return [tuple(members) for members in groups.values()]


def _check_rules(layers: Sequence[Layer], rules: Sequence[Rule]) -> None:
    names = [layer.name for layer in layers]
    for rule in rules:
        if not any(fnmatchcase(name, rule.layers) for name in names):
            close = get_close_matches(rule.layers, names, 3, 0.3) or names[:5]
            raise UserError(
                f"formats.rules: pattern '{rule.layers}' matches no layer; there are {', '.join(close)}"
            )
