"""The grammar: one canonical string a system, exact errors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.formats import FLOAT16, Fixed, Float, Integer
from qsim.parse import NAMED_SYSTEMS
from qsim.spec import POWER_OF_TWO_RULES, Cast, Granularity, Scale, Spec
from tests.casting.strategies import casts, elements

granularities = st.one_of(
    st.builds(Granularity, st.sampled_from(["tensor", "channel", "token"])),
    st.builds(Granularity, st.just("block"), st.tuples(st.integers(1, 256))),
    st.builds(Granularity, st.just("block"), st.tuples(st.integers(1, 99), st.integers(1, 99))),
)
rules = st.sampled_from(["", "amax", *POWER_OF_TWO_RULES])


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    element, cast = draw(casts)
    if draw(st.booleans()):
        return Spec(element, cast)
    inner: tuple[Granularity | None, Scale | None] = (None, None)
    for _ in range(draw(st.integers(0, 2))):
        inner = draw(granularities), Scale(draw(elements), draw(st.sampled_from(["", "amax"])), *inner)
    rule = draw(rules) if inner[1] is None else ""
    return Spec(element, cast, draw(granularities), Scale(draw(elements), rule, *inner))


@settings(max_examples=150, deadline=None)
@given(specs())
def test_a_spec_reads_back_from_its_string_and_hashes_alike(spec: Spec) -> None:
    again = qsim.parse(str(spec))
    assert again == spec and hash(again) == hash(spec) and str(again) == str(spec)


@settings(max_examples=100, deadline=None)
@given(specs(), specs())
def test_different_specs_have_different_slugs(one: Spec, other: Spec) -> None:
    assert (one == other) == (one.slug == other.slug) == (str(one) == str(other))
    assert set(one.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789._+-")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("int4@group128:float16", "int4@block128:float16"),
        ("fixed16.6/nearest_even/saturate", "fixed16.6"),
        ("fixed16.6/floor/wrap", "fixed16.6/floor/wrap"),
        ("e5m10", "float16"),
        ("e8m7/saturate", "bfloat16"),
        ("e4m3-inf", "e4m3fn"),
        ("e4m3fnuz+bias8", "e4m3fnuz"),
        ("e4m3fnuz+bias11", "e4m3b11fnuz"),
        ("e2m1-inf-nan", "e2m1fn"),
        ("e2m1-nan-inf", "e2m1fn"),
        ("e4m3-sign-subnormals-nan+bias9-inf", "e4m3+bias9-inf-nan-subnormals-sign"),
        ("float8_e4m3fn", "e4m3fn"),
        ("float8_e8m0fnu", "e8m0"),
        ("p3109_k8p3se", "binary8p3se"),
        ("bipolar1", "binary"),
        ("power4_.50", "power4_0.5"),
        ("int8@block16:e8m0/floor", "int8@block16:e8m0"),
        ("int8@tensor:float32/amax", "int8@tensor:float32"),
        ("uint8+zp@tensor:float32/minmax", "uint8+zp@tensor:float32"),
        *NAMED_SYSTEMS.items(),
    ],
)
def test_aliases_defaults_and_orders_collapse(text: str, canonical: str) -> None:
    assert qsim.parse(text) == qsim.parse(canonical)
    assert str(qsim.parse(text)) == str(qsim.parse(canonical))
    if "mx" not in text and "nvfp4" not in text:
        assert str(qsim.parse(text)) == canonical


def test_the_facts_behind_an_expression() -> None:
    spec = qsim.parse("e2m1fn/stochastic8@block16:e4m3fn@tensor:float32")
    assert spec.element == Float(2, 1, 1, "none") and spec.cast.rounding.random_bits == 8
    assert spec.granularity == Granularity("block", (16,)) and spec.scale is not None
    assert spec.scale.element == Float(4, 3, 7, "nan") and spec.scale.granularity == Granularity("tensor")
    assert qsim.parse("fixed6.-1").element == Fixed(6, -1) and qsim.parse("uint3").element == Integer(
        3, False
    )
    assert qsim.parse("float16") == Spec(FLOAT16, Cast())
    assert qsim.parse("int8@token:float32").is_dynamic and not qsim.parse("int8").is_dynamic


@pytest.mark.parametrize(
    ("text", "character", "expected"),
    [
        ("", 1, "an element"),
        ("flaot16", 1, "an element"),
        ("int8@", 6, "a granularity"),
        ("int8@tensr:float32", 6, "a granularity"),
        ("int8@block:float32", 6, "a granularity"),
        ("int8@block32", 13, "':' and the format"),
        ("int8@tensor:", 13, "an element"),
        ("int8@tensor:flot32", 13, "an element"),
        ("int8/foo", 6, "a rounding"),
        ("int8/floor/foo", 12, "an overflow"),
        ("int8/saturate/floor", 15, "'@' or the end"),
        ("int8/stochastic99", 6, "a rounding"),
        ("int8@tensor:float32/rne", 21, "a scale rule"),
        ("int8@tensor:float32/amax/floor", 25, "'@' or the end"),
        ("e4m3fn-inf", 7, "each property once"),
        ("e4m3-foo", 5, "a modifier"),
        ("e4m3-nan", 9, "-inf together with -nan"),
        ("int99", 1, "1 to 53 bits"),
        ("e12m3", 1, "1 to 11 exponent bits"),
        ("e5m0", 1, "add -inf-nan"),
        ("posit40.2", 1, "3 to 16 bits"),
        ("int8 ", 5, "'/', '@' or the end"),
        ("mxfp4/floor", 1, "cannot be modified"),
        ("int\N{ARABIC-INDIC DIGIT EIGHT}", 4, "int<N>"),
        ("fixed8", 7, "fixed<W>.<I>"),
        ("fixed8,4", 7, "fixed<W>.<I>"),
        ("e4m3fm", 5, "e<E>m<M>"),
        ("e4", 3, "e<E>m<M>"),
        ("posit8", 7, "posit<N>.<ES>"),
        ("binary8p3", 10, "binary<K>p<P>"),
        ("power8_-1", 8, "power<N>_<a>"),
        ("table_", 7, "table_<name>"),
        ("nvfp5", 1, "did you mean nvfp4?"),
        ("bfloat", 1, "did you mean bfloat16?"),
        ("FP8", 1, "lower case"),
        ("int8/floor/ieee", 12, "neither infinity nor NaN"),
        ("int8@tensor:int8+zp", 13, "a scale cannot have a zero point"),
        ("int8+zp", 8, "'@', a granularity and a scale"),
        ("int8+zp@tensor:float32/amax", 24, "minmax only"),
        ("int8@tensor:float32/minmax", 21, "needs a zero point"),
        ("int" + "9" * 5000, 401, "no spec is that long"),
        ("power8_0.00001", 1, "the power must be"),
    ],
)
def test_an_error_names_the_character_and_what_was_expected(text: str, character: int, expected: str) -> None:
    with pytest.raises(qsim.SpecError) as caught:
        qsim.parse(text)
    message = str(caught.value)
    assert f"at character {character}" in message and expected in message and "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "e2m1fn/ieee",
        "e4m3fn/wrap",
        "uint8/wrap_sign_magnitude",
        "uint8+zp",
        "int8+zp@tensor:float32/amax",
        "int8@tensor:float32/minmax",
        "e4m3fn@tensor:float32/amax_half",
        "int8@block32:e8m0/floor@tensor:float32",
        "int8@tensor:uint8+zp",
    ],
)
def test_what_does_not_go_together_is_refused(text: str) -> None:
    with pytest.raises(qsim.SpecError):
        qsim.parse(text)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text("intu48e3m@:/+-._flokbcdtzp", max_size=40)))
def test_any_text_is_a_spec_or_one_clear_error(text: str) -> None:
    try:
        spec = qsim.parse(text)
    except qsim.SpecError as error:
        assert text in str(error) or str(error)
    else:
        assert qsim.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "shape", "bits"),
    [
        ("int8", (4, 4), 0.0),
        ("int8@tensor:float32", (4, 8), 1.0),
        ("int4@channel:float16", (4, 64), 16 / 4 * 4 / 64),
        ("mxfp4", (2, 64), 8 / 32),
        ("mxfp4", (1, 33), 16 / 33),
        ("uint4+zp@block32:float16", (2, 64), 20 / 32),
        ("e2m1fn@block16:e4m3fn@tensor:float32", (2, 32), 8 / 16 + 32 / 64),
        ("e4m3fn@block128x128:float32", (256, 130), 4 * 32 / (256 * 130)),
    ],
)
def test_bits_of_scales_per_element(text: str, shape: tuple[int, ...], bits: float) -> None:
    assert qsim.parse(text).scale_bits_per_element(
        shape, axis=-1 if "channel" not in text else 0
    ) == pytest.approx(bits if "channel" not in text else 16 / 64)


def test_a_spec_is_its_own_parse_and_other_things_are_refused() -> None:
    spec = qsim.parse("mxfp4")
    assert qsim.parse(spec) is spec
    for other in (None, 8, ["int8"]):
        with pytest.raises(qsim.SpecError, match="a spec is a string"):
            qsim.parse(other)
