// From one float format to another, special codes included.
// IN_TOP, IN_INFINITY (0: none): magnitude codes; IN_NAN_IS_NEGATIVE_ZERO: the only NaN has the code of -0.
// POSITIVE_INFINITY, NEGATIVE_INFINITY, NAN: result codes of these inputs.
module float_convert #(
    parameter IN_EXPONENT = 5,
    parameter IN_MANTISSA = 10,
    parameter IN_SIGNED = 1,
    parameter IN_SUBNORMALS = 1,
    parameter [IN_EXPONENT+IN_MANTISSA-1:0] IN_TOP = 0,
    parameter [IN_EXPONENT+IN_MANTISSA-1:0] IN_INFINITY = 0,
    parameter IN_NAN_IS_NEGATIVE_ZERO = 0,
    parameter OFFSET = 0,
    parameter FIELD_BITS = 8,
    parameter EXPONENT = 4,
    parameter MANTISSA = 3,
    parameter SIGNED = 1,
    parameter SUBNORMALS = 1,
    parameter NEGATIVE_ZERO = 1,
    parameter [EXPONENT+MANTISSA-1:0] TOP = 0,
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] POSITIVE_OVERFLOW = 0,
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] NEGATIVE_OVERFLOW = 0,
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] POSITIVE_INFINITY = 0,
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] NEGATIVE_INFINITY = 0,
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] NAN = 0,
    parameter ROUNDING = "nearest_even"
) (
    input  [IN_SIGNED+IN_EXPONENT+IN_MANTISSA-1:0] in,
    output [SIGNED+EXPONENT+MANTISSA-1:0]          out
);
    wire sign;
    wire [IN_EXPONENT-1:0] exponent;
    wire [IN_MANTISSA:0] significand;
    float_unpack #(
        .EXPONENT(IN_EXPONENT), .MANTISSA(IN_MANTISSA), .SIGNED(IN_SIGNED), .SUBNORMALS(IN_SUBNORMALS)
    ) unpack (.code(in), .sign(sign), .exponent(exponent), .significand(significand));

    wire [SIGNED+EXPONENT+MANTISSA-1:0] finite;
    float_round #(
        .IN_BITS(IN_MANTISSA + 1), .EXPONENT_BITS(IN_EXPONENT + 1), .OFFSET(OFFSET), .FIELD_BITS(FIELD_BITS),
        .EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .SIGNED(SIGNED), .SUBNORMALS(SUBNORMALS),
        .NEGATIVE_ZERO(NEGATIVE_ZERO), .TOP(TOP), .POSITIVE_OVERFLOW(POSITIVE_OVERFLOW),
        .NEGATIVE_OVERFLOW(NEGATIVE_OVERFLOW), .ROUNDING(ROUNDING)
    ) round (.sign(sign), .exponent($signed({1'b0, exponent})), .significand(significand), .code(finite));

    wire [IN_EXPONENT+IN_MANTISSA-1:0] magnitude = in[IN_EXPONENT+IN_MANTISSA-1:0];
    wire is_infinite = |IN_INFINITY && magnitude == IN_INFINITY;
    wire is_nan = IN_NAN_IS_NEGATIVE_ZERO ? sign && magnitude == 0 : magnitude > IN_TOP && !is_infinite;
    assign out = is_nan ? NAN : is_infinite ? (sign ? NEGATIVE_INFINITY : POSITIVE_INFINITY) : finite;
endmodule
