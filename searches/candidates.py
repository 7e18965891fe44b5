"""Which layers decide together, and what each of them may choose.

Two layers decide together when they read the same tensor (q, k and v; gate and up), and tied weights are stored
once. `share="residual"` also joins the layers whose inputs must have one format on integer hardware (the operands
of residual adds and concatenations); the user may join any others by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING, Literal

from qsim.arithmetic.mac import Mac
from qsim.errors import UserError
from qsim.graph import quantizable, share_groups
from qsim.parse import parse
from qsim.plan import LayerPlan
from qsim.spec import Spec

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer

Share = Literal["inputs", "residual"]
FIELDS = ("weights", "activations", "output", "accumulator")


@dataclass(frozen=True)
class Choice:
    """One entry of the menu: number systems of a layer's weights and input (None: float32), of what it writes,
    and of its accumulator (None: exact).

    output: a tensor has one format, so what another layer multiplies keeps that layer's `activations`; this one is
    for the rest (operands of residual adds, logits), which stay in float32 where it is None.
    family: the name that results of this choice alone, in every layer, are shown under.
    """

    label: str
    weights: Spec | None
    activations: Spec | None
    family: str = "uniform"
    output: Spec | None = None
    accumulator: Spec | None = None


@dataclass(frozen=True)
class Rule:
    """Layers whose name matches the pattern `layers` may only take `choice`."""

    layers: str
    choice: Choice


@dataclass(frozen=True)
class Candidates:
    """Layers that take one choice, and the choices they have; `outputs` are what they write and no layer multiplies."""

    name: str
    layers: tuple[Layer, ...]
    choices: tuple[Choice, ...]
    outputs: tuple[str, ...] = ()

    def tensors(self, choice: Choice) -> dict[str, Spec]:
        """The spec that `choice` gives to every tensor these layers read or write ({} where they stay float32)."""
        specs: dict[str, Spec | None] = dict.fromkeys(self.outputs, choice.output)
        for layer in self.layers:
            specs[layer.input] = choice.activations
            specs[layer.weights] = choice.activations if layer.kind == "matmul" else choice.weights
        return {name: spec for name, spec in specs.items() if spec is not None}

    def arithmetic(self, choice: Choice) -> dict[str, LayerPlan]:
        """The multiply-accumulate unit of each layer, where the choice names its accumulator."""
        if choice.accumulator is None:
            return {}
        return {layer.name: LayerPlan(mac=Mac(accumulator=str(choice.accumulator))) for layer in self.layers}


def make_choice(label: str, entry: Mapping[str, str | None] | str) -> Choice:
    """A choice from a config entry: {weights, activations, output, accumulator}, or one expression for two of them."""
    if isinstance(entry, str):
        entry = {"weights": entry, "activations": entry}
    unknown = set(entry) - set(FIELDS)
    if unknown:
        raise UserError(f"formats.menu.{label} has '{min(unknown)}'; an entry has {', '.join(FIELDS)}")
    specs = {key: None if entry.get(key) is None else parse(str(entry[key])) for key in FIELDS}
    accumulator = specs["accumulator"]
    if accumulator is not None and accumulator.scale is not None:
        raise UserError(
            f"formats.menu.{label}: accumulator {accumulator} has a scale; give an element with a cast, such as int32"
        )
    return Choice(
        label, specs["weights"], specs["activations"], output=specs["output"], accumulator=accumulator
    )


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
    graph: Graph,
    menu: Sequence[Choice],
    rules: Sequence[Rule] = (),
    share: Share = "inputs",
    together: Sequence[Sequence[str]] = (),
) -> tuple[Candidates, ...]:
    """Groups of layers with their choices, in network order.

    together: lists of name patterns; the layers that match any pattern of one list decide together.
    Raises UserError when the network has no layer to quantize, a pattern matches no layer, or rules contradict
    within a group.
    """
    layers = _quantizable_layers(graph)
    for rule in rules:
        _matching(layers, rule.layers, "formats.rules")
    named = [
        {layer.name for pattern in patterns for layer in _matching(layers, pattern, "formats.groups")}
        for patterns in _pattern_lists(together)
    ]
    multiplied = {tensor for layer in layers for tensor in (layer.input, layer.weights)}
    groups = []
    for members in _joined(graph, layers, share, named):
        forced = {rule.choice for rule in rules for layer in members if fnmatchcase(layer.name, rule.layers)}
        if len(forced) > 1:
            names = ", ".join(layer.name for layer in members)
            raise UserError(
                f"formats.rules give {' and '.join(sorted(c.label for c in forced))} "
                f"to layers that share a tensor: {names}"
            )
        choices = tuple(forced) or tuple(menu)
        name = members[0].name if len(members) == 1 else f"{members[0].name}+{len(members) - 1}"
        written = tuple(layer.output for layer in members if layer.output not in multiplied)
        groups.append(Candidates(name, members, choices, written))
    return tuple(groups)


def _quantizable_layers(graph: Graph) -> tuple[Layer, ...]:
    allowed = set(quantizable(graph))
    layers = tuple(
        layer
        for layer in graph.layers
        if not layer.added and (layer.input in allowed or layer.weights in allowed)
    )
    if not layers:
        raise UserError(
            f"model '{graph.name}' has no layer that multiplies and accumulates, so there is nothing to quantize"
        )
    return layers


def _joined(
    graph: Graph, layers: Sequence[Layer], share: Share, named: Sequence[set[str]]
) -> list[tuple[Layer, ...]]:
    """Layers in groups (union-find over the tensors that they read, and the user's sets of names)."""
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
        for number, names in enumerate(named):
            if layer.name in names:
                home[find(f"named {number}")] = find(f"layer {layer.name}")
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(find(f"layer {layer.name}"), []).append(layer)
    return [tuple(members) for members in groups.values()]


def _pattern_lists(together: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    for patterns in together:
        if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
            raise UserError(
                f"formats.groups: {patterns!r} must be a list of layer patterns, such as [[conv1, conv2], ['block*']]"
            )
        yield patterns


def _matching(layers: Sequence[Layer], pattern: str, option: str) -> list[Layer]:
    """The layers whose name matches; a UserError naming `option` where there are none."""
    found = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
    if not found:
        names = [layer.name for layer in layers]
        close = get_close_matches(pattern, names, 3, 0.3) or names[:5]
        raise UserError(f"{option}: pattern '{pattern}' matches no layer; there are {', '.join(close)}")
    return found
