// Product of two unpacked numbers, exact and not normalized.
module unpacked_product #(
    parameter A_EXPONENT = 4,
    parameter A_BITS = 4,
    parameter B_EXPONENT = 4,
    parameter B_BITS = 4,
    parameter EXPONENT = 5
) (
    input                     a_sign,
    input  [A_EXPONENT-1:0]   a_exponent,
    input  [A_BITS-1:0]       a_significand,
    input                     b_sign,
    input  [B_EXPONENT-1:0]   b_exponent,
    input  [B_BITS-1:0]       b_significand,
    output                    sign,
    output [EXPONENT-1:0]     exponent,
    output [A_BITS+B_BITS-1:0] significand
);
    assign sign = a_sign ^ b_sign;
    assign exponent = a_exponent + b_exponent;
    assign significand = a_significand * b_significand;
endmodule
