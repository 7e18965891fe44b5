// An unpacked number in the form of a float format: leading one on top, or field 1 where the number is subnormal.
// The number is significand * 2^exponent in some unit; OFFSET is the exponent field of the significand's top bit at
// exponent 0. What does not fit in OUT_BITS sets the last bit ("sticky").
module float_normalize #(
    parameter IN_BITS = 8,
    parameter EXPONENT_BITS = 6,  // signed
    parameter OFFSET = 0,
    parameter OUT_BITS = 8,
    parameter FIELD_BITS = 8      // signed bits for every field that can occur, before it is raised to 1
) (
    input  signed [EXPONENT_BITS-1:0] exponent,
    input         [IN_BITS-1:0]       significand,
    output        [FIELD_BITS-1:0]    field,
    output        [OUT_BITS-1:0]      normalized
);
    localparam COUNT_BITS = IN_BITS > 1 ? $clog2(IN_BITS) : 1;
    localparam WIDE = (IN_BITS > OUT_BITS ? IN_BITS : OUT_BITS) + OUT_BITS;
    localparam signed [FIELD_BITS-1:0] TOP_FIELD = OFFSET;
    localparam signed [FIELD_BITS-1:0] ONE = 1;

    wire [IN_BITS-1:0] shifted;
    wire [COUNT_BITS-1:0] zeros;
    normalize #(.WIDTH(IN_BITS), .COUNT_BITS(COUNT_BITS)) leading (.word(significand), .shifted(shifted), .count(zeros));

    wire signed [FIELD_BITS-1:0] top = exponent + TOP_FIELD - $signed({1'b0, zeros});
    wire is_subnormal = top < ONE || !shifted[IN_BITS-1];
    wire [FIELD_BITS-1:0] below = ONE - top;
    wire [31:0] distance = top >= ONE ? 0 : below > OUT_BITS ? OUT_BITS : below;

    wire [WIDE-1:0] aligned = {shifted, {WIDE-IN_BITS{1'b0}}} >> distance;
    assign field = is_subnormal ? ONE : top;
    assign normalized = {aligned[WIDE-1:WIDE-OUT_BITS+1], |aligned[WIDE-OUT_BITS:0]};
endmodule
