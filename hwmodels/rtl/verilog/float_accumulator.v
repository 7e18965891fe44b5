// acc <= round((first ? start : acc) + addend): a float register, one rounding a step.
// The addend comes in the register's form (float_normalize), with WIDTH >= MANTISSA + 1 significand bits.
module float_accumulator #(
    parameter EXPONENT = 8,
    parameter MANTISSA = 23,
    parameter SUBNORMALS = 1,
    parameter NEGATIVE_ZERO = 1,
    parameter [EXPONENT+MANTISSA-1:0] TOP = 0,
    parameter [EXPONENT+MANTISSA:0] POSITIVE_OVERFLOW = 0,
    parameter [EXPONENT+MANTISSA:0] NEGATIVE_OVERFLOW = 0,
    parameter ROUNDING = "nearest_even",
    parameter KEEPS_SPECIAL = 0,  // 1: overflow gave infinity or NaN, which no finite addend changes
    parameter FIELD_BITS = 9,
    parameter WIDTH = 24
) (
    input                              clk,
    input                              first,
    input      [EXPONENT+MANTISSA:0]   start,
    input                              addend_sign,
    input      [FIELD_BITS-1:0]        addend_field,
    input      [WIDTH-1:0]             addend_significand,
    output reg [EXPONENT+MANTISSA:0]   acc
);
    wire [EXPONENT+MANTISSA:0] before = first ? start : acc;
    wire before_sign;
    wire [EXPONENT-1:0] before_exponent;
    wire [MANTISSA:0] before_significand;
    float_unpack #(.EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .SUBNORMALS(SUBNORMALS)) unpack (
        .code(before), .sign(before_sign), .exponent(before_exponent), .significand(before_significand)
    );
    wire [FIELD_BITS-1:0] before_field = before_exponent;
    wire [WIDTH-1:0] before_wide = {before_significand, {WIDTH{1'b0}}} >> (MANTISSA + 1);

    wire sum_sign;
    wire [FIELD_BITS-1:0] sum_field;
    wire [WIDTH+3:0] sum_significand;
    float_add #(.FIELD_BITS(FIELD_BITS), .WIDTH(WIDTH), .ROUNDING(ROUNDING)) add (
        .a_sign(before_sign), .a_field(before_field), .a_significand(before_wide),
        .b_sign(addend_sign), .b_field(addend_field), .b_significand(addend_significand),
        .sign(sum_sign), .field(sum_field), .significand(sum_significand)
    );

    wire [EXPONENT+MANTISSA:0] next;
    float_round #(
        .IN_BITS(WIDTH + 4), .EXPONENT_BITS(FIELD_BITS + 1), .OFFSET(1),
        .FIELD_BITS((FIELD_BITS > $clog2(WIDTH + 4) ? FIELD_BITS : $clog2(WIDTH + 4)) + 3),
        .EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .SUBNORMALS(SUBNORMALS), .NEGATIVE_ZERO(NEGATIVE_ZERO),
        .TOP(TOP), .POSITIVE_OVERFLOW(POSITIVE_OVERFLOW), .NEGATIVE_OVERFLOW(NEGATIVE_OVERFLOW), .ROUNDING(ROUNDING)
    ) round (.sign(sum_sign), .exponent($signed({1'b0, sum_field})), .significand(sum_significand), .code(next));
    wire [EXPONENT+MANTISSA-1:0] magnitude = before[EXPONENT+MANTISSA-1:0];
    wire is_special = magnitude > TOP || (!NEGATIVE_ZERO && before_sign && magnitude == 0);
    always @(posedge clk) acc <= KEEPS_SPECIAL && is_special ? before : next;
endmodule
