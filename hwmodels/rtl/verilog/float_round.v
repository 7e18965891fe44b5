// An unpacked number rounded once to a float format (see float_normalize for exponent and OFFSET).
module float_round #(
    parameter IN_BITS = 8,
    parameter EXPONENT_BITS = 6,
    parameter OFFSET = 0,
    parameter FIELD_BITS = 8,
    parameter EXPONENT = 4,
    parameter MANTISSA = 3,
    parameter SIGNED = 1,
    parameter SUBNORMALS = 1,     // 0: nothing lies between zero and the smallest normal number
    parameter NEGATIVE_ZERO = 1,
    parameter [EXPONENT+MANTISSA-1:0] TOP = 127,                         // magnitude of the largest finite number
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] POSITIVE_OVERFLOW = 127,    // code of what lies beyond it
    parameter [SIGNED+EXPONENT+MANTISSA-1:0] NEGATIVE_OVERFLOW = 255,
    parameter ROUNDING = "nearest_even"
) (
    input                                 sign,
    input  signed [EXPONENT_BITS-1:0]     exponent,
    input  [IN_BITS-1:0]                  significand,
    output [SIGNED+EXPONENT+MANTISSA-1:0] code
);
    localparam WIDE = FIELD_BITS + MANTISSA + 1;
    wire [FIELD_BITS-1:0] field;
    wire [MANTISSA+2:0] normalized;
    float_normalize #(
        .IN_BITS(IN_BITS), .EXPONENT_BITS(EXPONENT_BITS), .OFFSET(OFFSET),
        .OUT_BITS(MANTISSA + 3), .FIELD_BITS(FIELD_BITS)
    ) normal (.exponent(exponent), .significand(significand), .field(field), .normalized(normalized));

    // The hidden bit carries into the exponent field, which is one less below it.
    wire [WIDE-1:0] field_less_one = field - {{FIELD_BITS-1{1'b0}}, 1'b1};
    wire [WIDE-1:0] kept = normalized[MANTISSA+2:2];
    wire [WIDE-1:0] truncated = (field_less_one << MANTISSA) + kept;
    wire flush = !SUBNORMALS && !normalized[MANTISSA+2];
    wire increment;
    rounding #(.MODE(ROUNDING), .SIGN_MAGNITUDE(1)) decision (
        .negative(sign),
        .odd(flush ? 1'b0 : truncated[0]),
        .guard(flush ? normalized[MANTISSA+1] : normalized[1]),
        .sticky(flush ? |normalized[MANTISSA:0] : normalized[0]),
        .increment(increment)
    );
    wire [WIDE-1:0] step = increment;
    wire [WIDE-1:0] rounded = flush ? step << MANTISSA : truncated + step;

    wire outside = rounded > TOP || (!SIGNED && sign && |rounded);
    wire keeps_sign = sign & (NEGATIVE_ZERO || |rounded);
    wire [EXPONENT+MANTISSA:0] inside = {keeps_sign, rounded[EXPONENT+MANTISSA-1:0]};
    assign code = outside ? (sign ? NEGATIVE_OVERFLOW : POSITIVE_OVERFLOW) : inside[SIGNED+EXPONENT+MANTISSA-1:0];
endmodule
