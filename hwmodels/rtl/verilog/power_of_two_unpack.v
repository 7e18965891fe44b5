// The code {zero, sign, shift s} of +-2^-s as sign, exponent and significand, in units of the smallest power:
// (-1)^sign * significand * 2^(exponent - (2^SHIFT_BITS - 1)).
module power_of_two_unpack #(
    parameter SHIFT_BITS = 2
) (
    input  [SHIFT_BITS+1:0] code,
    output                  sign,
    output [SHIFT_BITS-1:0] exponent,
    output                  significand
);
    assign significand = ~code[SHIFT_BITS+1];
    assign sign = code[SHIFT_BITS] & significand;
    assign exponent = ~code[SHIFT_BITS-1:0];
endmodule
