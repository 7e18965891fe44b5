"""Reading a number-system expression: qsim.parse("e4m3fn@tensor:float32") -> Spec.

    spec    := element [cast] [ "@" granularity ":" scale ]
    scale   := element [ "/" scale-rule ] [ "@" granularity ":" scale ]
    cast    := "/" rounding | "/" overflow | "/" rounding "/" overflow

A recursive-descent parser over the text; an error names the character it stands at and what was expected
there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache

from qsim.errors import SpecError
from qsim.formats import (
    BFLOAT16,
    E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    TF32,
    AdditivePowerOfTwo,
    Bipolar,
    Element,
    Fixed,
    Float,
    Integer,
    Log2,
    NormalFloat4,
    Posit,
    PowerFunction,
    PowerOfTwo,
    Table,
    Ternary,
    p3109,
)
from qsim.formats.floating import default_bias, suffix_specials
from qsim.formats.logarithmic import canonical_power
from qsim.spec import OVERFLOWS, ROUNDINGS, SCALE_RULES, Cast, Granularity, Rounding, Scale, Spec

# Named systems: nothing but abbreviations of expressions (OCP Microscaling 1.0; NVFP4 as NVIDIA defines it).
NAMED_SYSTEMS: Mapping[str, str] = {
    "mxfp8_e4m3": "e4m3fn@block32:e8m0/floor",
    "mxfp8_e5m2": "e5m2@block32:e8m0/floor",
    "mxfp8": "e4m3fn@block32:e8m0/floor",
    "mxfp6_e2m3": "e2m3fn@block32:e8m0/floor",
    "mxfp6_e3m2": "e3m2fn@block32:e8m0/floor",
    "mxfp4": "e2m1fn@block32:e8m0/floor",
    "mxint8": "fixed8.2/saturate_symmetric@block32:e8m0/floor",
    "nvfp4": "e2m1fn@block16:e4m3fn@tensor:float32",
    "nvfp4_normal": "e2m1fn@block16:e4m3fn-subnormals@tensor:float32",
}

_NAMED_ELEMENTS: Mapping[str, Element] = {
    "float16": FLOAT16,
    "bfloat16": BFLOAT16,
    "tf32": TF32,
    "float32": FLOAT32,
    "float64": FLOAT64,
    "e8m0": E8M0,
    "e8m0fnu": E8M0,
    "binary": Bipolar(1),
    "ternary": Ternary(),
    "nf4": NormalFloat4(),
}

_ELEMENT_TEXT = (
    "int<N>, uint<N>, bipolar<N>, binary, ternary, fixed<W>.<I>, ufixed<W>.<I>, e<E>m<M>, float16, bfloat16, tf32, "
    "float32, float64, e8m0, binary<K>p<P><s|u><e|f>, pot<K>, apot<K>x<T>, log2_<N>, power<N>_<a>, posit<N>.<ES>, nf4, "
    "table_<name>"
)


# Families of names with numbers in them: how one is written, and its parts, to find where a wrong one goes wrong.
_FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("int<N> or uint<N>, as in int8", ("u?int", r"\d+")),
    ("fixed<W>.<I> or ufixed<W>.<I>, as in fixed16.6", ("u?fixed", r"\d+", r"\.", r"-?\d+")),
    (
        "e<E>m<M>, with fn or fnuz after it or not, as in e4m3fn",
        ("e(?=\\d)", r"\d+", "m", r"\d+", "(?:fnuz|fn)?"),
    ),
    ("bipolar<N>, as in bipolar4", ("bipolar", r"\d+")),
    ("binary<K>p<P><s|u><e|f>, as in binary8p3se", ("binary", r"\d+", "p", r"\d+", "[su]", "[ef]")),
    ("apot<K>x<T>, as in apot2x2", ("apot", r"\d+", "x", r"\d+")),
    ("pot<K>, as in pot4", ("pot", r"\d+")),
    ("log2_<N>, as in log2_4", ("log2_", r"\d+")),
    ("power<N>_<a>, as in power8_0.5", ("power", r"\d+", "_", r"[\d.]+")),
    ("posit<N>.<ES>, as in posit8.2", ("posit", r"\d+", r"\.", r"\d+")),
    ("table_<name>, a name of letters, digits and _", ("table_", "[A-Za-z0-9_]+")),
)

MAX_LENGTH = 400


def _is_signed(match: re.Match[str]) -> bool:
    return match["u"] is None


# Element names with numbers in them: a pattern, and what the match means.
_ELEMENT_PATTERNS: tuple[tuple[str, Callable[[re.Match[str]], Element]], ...] = (
    (
        r"(?P<u>u)?int(?P<n>\d+)(?P<zp>\+zp)?",
        lambda m: Integer(int(m["n"]), _is_signed(m), m["zp"] is not None),
    ),
    (r"bipolar(?P<n>\d+)", lambda m: Bipolar(int(m["n"]))),
    (r"(?P<u>u)?fixed(?P<w>\d+)\.(?P<i>-?\d+)", lambda m: Fixed(int(m["w"]), int(m["i"]), _is_signed(m))),
    (
        r"(?:binary|p3109_k)(?P<k>\d+)p(?P<p>\d+)(?P<sign>[su])(?P<domain>[ef])",
        lambda m: p3109(int(m["k"]), int(m["p"]), m["sign"] == "s", m["domain"] == "e"),
    ),
    (r"apot(?P<k>\d+)x(?P<t>\d+)", lambda m: AdditivePowerOfTwo(int(m["k"]), int(m["t"]))),
    (r"pot(?P<k>\d+)", lambda m: PowerOfTwo(int(m["k"]))),
    (r"log2_(?P<n>\d+)", lambda m: Log2(int(m["n"]))),
    (
        r"power(?P<n>\d+)_(?P<a>\d+\.?\d*|\.\d+)",
        lambda m: PowerFunction(int(m["n"]), canonical_power(m["a"])),
    ),
    (r"posit(?P<n>\d+)\.(?P<es>\d+)", lambda m: Posit(int(m["n"]), int(m["es"]))),
    (r"table_(?P<name>[A-Za-z0-9_]+)", lambda m: Table(m["name"])),
)
_FLOAT_PATTERN = re.compile(
    r"(?:float\d+_)?e(?P<e>\d+)m(?P<m>\d+)(?:b(?P<b>\d+))?(?P<suffix>fnuz|fn)?(?![a-z0-9])",
    re.ASCII,
)
_FLOAT_MODIFIER = re.compile(r"\+bias(?P<bias>-?\d+)|-inf|-nan|-subnormals|-sign", re.ASCII)


class _Reader:
    """The text and where we are in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.rule_position = 0  # of the scale, or of its rule

    def error(self, expected: str, position: int | None = None) -> SpecError:
        at = self.position if position is None else position
        found = f"'{self.text[at]}'" if at < len(self.text) else "the end"
        return SpecError(f"spec '{self.text}': at character {at + 1} ({found}): expected {expected}")

    def match(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """The match of `pattern` here, stepping over it."""
        found = re.compile(pattern, 0 if isinstance(pattern, re.Pattern) else re.ASCII).match(
            self.text, self.position
        )
        if found is not None:
            self.position = found.end()
        return found

    def take(self, text: str) -> bool:
        return self.match(re.escape(text)) is not None

    def word(self) -> str:
        """The name here, not stepping over it."""
        found = re.compile(r"[A-Za-z0-9_.]*").match(self.text, self.position)
        return found.group() if found is not None else ""

    def at_boundary(self) -> bool:
        return self.position == len(self.text) or self.text[self.position] in "/@:"


def parse(text: str | Spec) -> Spec:
    """The Spec of an expression such as "int8@channel:float32" or a named system such as "mxfp4".

    Raises SpecError naming the character and what was expected there. parse(str(spec)) == spec for every spec
    (a `table_<name>` comes back without its values: see Spec.bind).
    """
    if isinstance(text, Spec):
        return text
    if not isinstance(text, str):
        raise SpecError(f"a spec is a string such as 'int8@tensor:float32', not {text!r}")
    if len(text) > MAX_LENGTH:
        raise SpecError(f"spec '{text[:40]}...': at character {MAX_LENGTH + 1}: no spec is that long")
    return _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Spec:
    if text in NAMED_SYSTEMS:
        text = NAMED_SYSTEMS[text]
    reader = _Reader(text)
    element = _element(reader)
    cast = _cast(reader, element)
    granularity, scale = _scaling(reader, "'/', '@' or the end")
    if reader.position < len(text):
        raise reader.error("the end")
    if element.has_zero_point and scale is None:
        raise reader.error(f"'@', a granularity and a scale: {element} has a zero point")
    try:
        return Spec(element, cast, granularity, scale)
    except SpecError as error:
        raise SpecError(f"spec '{text}': at character {reader.rule_position + 1}: {error}") from None


def _element(reader: _Reader) -> Element:
    start = reader.position
    try:
        element = _named_element(reader) or _patterned_element(reader) or _float(reader)
    except SpecError as error:
        if str(error).startswith("spec "):
            raise
        raise SpecError(f"spec '{reader.text}': at character {start + 1}: {error}") from None
    if element is None:
        raise _unknown_element(reader)
    if not reader.at_boundary():
        raise reader.error(f"'/', '@' or the end after '{reader.text[start : reader.position]}'")
    return element


def _unknown_element(reader: _Reader) -> SpecError:
    """Where the name here leaves the form of its family; else all there is, and the name it comes closest to."""
    start, word = reader.position, reader.word()
    for form, parts in _FORMS:
        matched = 0
        while matched < len(parts) and reader.match(re.compile(parts[matched], re.ASCII)):
            matched += 1
        if matched:
            return reader.error(form)
        reader.position = start
    if word in NAMED_SYSTEMS:
        return reader.error(f"an element: {_ELEMENT_TEXT} (a named system cannot be modified)", start)
    close = get_close_matches(word, [*_NAMED_ELEMENTS, *NAMED_SYSTEMS], 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    if word != word.lower():
        hint = " (names are lower case)"
    return reader.error(f"an element: {_ELEMENT_TEXT}{hint}", start)


def _named_element(reader: _Reader) -> Element | None:
    found = reader.match(
        rf"(?:float\d+_)?({'|'.join(sorted(_NAMED_ELEMENTS, key=len, reverse=True))})(?=[/@:+-]|$)"
    )
    return None if found is None else _NAMED_ELEMENTS[found[1]]


def _patterned_element(reader: _Reader) -> Element | None:
    for pattern, build in _ELEMENT_PATTERNS:
        found = reader.match(pattern)
        if found is not None:
            return build(found)
    return None


def _float(reader: _Reader) -> Float | None:
    found = reader.match(_FLOAT_PATTERN)
    if found is None:
        return None
    exponent, mantissa, suffix = int(found["e"]), int(found["m"]), found["suffix"] or ""
    modifiers: dict[str, int] = {}
    while not reader.at_boundary():
        start = reader.position
        modifier = reader.match(_FLOAT_MODIFIER)
        if modifier is None:
            raise reader.error("a modifier: +bias<B>, -inf, -nan, -subnormals or -sign")
        name = "bias" if modifier["bias"] else modifier.group()
        if name in modifiers or (name == "bias" and found["b"]) or (suffix and name in ("-inf", "-nan")):
            raise reader.error(f"each property once: '{modifier.group()}' repeats or contradicts", start)
        modifiers[name] = int(modifier["bias"] or 0)
    if "-nan" in modifiers and "-inf" not in modifiers:
        raise reader.error("-inf together with -nan: a format without NaN has no infinity either")
    if not suffix and "-inf" in modifiers:
        specials = "none" if "-nan" in modifiers else "nan"
    else:
        specials = suffix_specials(exponent, mantissa, suffix)
    bias = modifiers.get("bias", int(found["b"]) if found["b"] else default_bias(max(exponent, 1), specials))
    return Float(exponent, mantissa, bias, specials, "-subnormals" not in modifiers, "-sign" not in modifiers)


def _cast(reader: _Reader, element: Element) -> Cast:
    rounding, overflow, overflow_position = None, None, 0
    while reader.take("/"):
        word, start = reader.word(), reader.position
        if rounding is None and overflow is None and (kind := _rounding(word)) is not None:
            rounding = kind
        elif overflow is None and word in OVERFLOWS:
            overflow, overflow_position = word, start
        elif overflow is not None:
            raise reader.error("'@' or the end: a cast is /rounding, /overflow or /rounding/overflow", start)
        else:
            roundings = "" if rounding else f"a rounding ({', '.join(ROUNDINGS)}, stochastic<k>) or "
            raise reader.error(f"{roundings}an overflow ({', '.join(OVERFLOWS)})", start)
        reader.position += len(word)
    cast = Cast(rounding or Rounding(), overflow or "saturate")
    try:
        cast.check(element)
    except SpecError as error:
        raise SpecError(f"spec '{reader.text}': at character {overflow_position + 1}: {error}") from None
    return cast


def _rounding(word: str) -> Rounding | None:
    if word in ROUNDINGS:
        return Rounding(word)
    found = re.fullmatch(r"stochastic(\d+)((?:_even|_odd|_centered)?)", word)
    if found is None or not 1 <= int(found[1]) <= 32:
        return None
    return Rounding(f"stochastic{found[2]}", int(found[1]))


def _scaling(reader: _Reader, expected: str) -> tuple[Granularity | None, Scale | None]:
    if not reader.take("@"):
        if reader.position < len(reader.text):
            raise reader.error(expected)
        return None, None
    granularity = _granularity(reader)
    if not reader.take(":"):
        raise reader.error("':' and the format of the scale, as in @tensor:float32")
    rule, start = "", reader.position
    element = _element(reader)
    if reader.take("/"):
        rule, start = reader.word(), reader.position
        if rule not in SCALE_RULES:
            raise reader.error(f"a scale rule: {', '.join(SCALE_RULES)} (a scale takes no cast)", start)
        reader.position += len(rule)
    inner_granularity, inner = _scaling(reader, "'@' or the end")
    reader.rule_position = start
    try:
        return granularity, Scale(element, rule, inner_granularity, inner)
    except SpecError as error:
        raise SpecError(f"spec '{reader.text}': at character {start + 1}: {error}") from None


def _granularity(reader: _Reader) -> Granularity:
    for kind in ("tensor", "channel", "token"):
        if reader.word() == kind:
            reader.position += len(kind)
            return Granularity(kind)
    start = reader.position
    found = reader.match(r"(?:block|group)([1-9]\d*)(?:x([1-9]\d*))?(?![A-Za-z0-9_.])")
    if found is None:
        raise reader.error("a granularity: tensor, channel, token, block<N>, block<N>x<M> or group<N>", start)
    return Granularity("block", tuple(int(size) for size in found.groups() if size))
