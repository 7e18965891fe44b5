// Sum of two numbers in the form float_normalize gives, exact up to a sticky last bit; rounding comes after.
// The result has one carry bit above the operands' top bit and three bits below their last.
module float_add #(
    parameter FIELD_BITS = 5,
    parameter WIDTH = 11,
    parameter ROUNDING = "nearest_even"  // decides the sign of an exact zero, IEEE 754-2019, 6.3
) (
    input                   a_sign,
    input  [FIELD_BITS-1:0] a_field,
    input  [WIDTH-1:0]      a_significand,
    input                   b_sign,
    input  [FIELD_BITS-1:0] b_field,
    input  [WIDTH-1:0]      b_significand,
    output                  sign,
    output [FIELD_BITS-1:0] field,
    output [WIDTH+3:0]      significand
);
    wire a_is_larger = {a_field, a_significand} >= {b_field, b_significand};
    wire large_sign = a_is_larger ? a_sign : b_sign;
    wire [WIDTH-1:0] larger = a_is_larger ? a_significand : b_significand;
    wire [WIDTH-1:0] smaller = a_is_larger ? b_significand : a_significand;
    wire [FIELD_BITS-1:0] small_field = a_is_larger ? b_field : a_field;
    assign field = a_is_larger ? a_field : b_field;

    wire [FIELD_BITS:0] distance = field - small_field;
    wire [2*WIDTH+5:0] shifted = {smaller, {WIDTH+6{1'b0}}} >> (distance > WIDTH + 3 ? WIDTH + 3 : distance);
    wire [WIDTH+2:0] aligned = {shifted[2*WIDTH+5:WIDTH+4], |shifted[WIDTH+3:0]};

    wire [WIDTH+3:0] upper = {1'b0, larger, 3'b000};
    assign significand = (a_sign ^ b_sign) ? upper - aligned : upper + aligned;
    wire zero_sign = ROUNDING == "floor" ? a_sign | b_sign : a_sign & b_sign;
    assign sign = |significand ? large_sign : zero_sign;
endmodule
