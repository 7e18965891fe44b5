// A signed integer as sign and magnitude: a float without exponent.
module integer_unpack #(
    parameter BITS = 9
) (
    input  signed [BITS-1:0] value,
    output                   sign,
    output                   exponent,
    output        [BITS-1:0] significand
);
    assign sign = value[BITS-1];
    assign exponent = 1'b0;
    assign significand = sign ? -value : value;
endmodule
