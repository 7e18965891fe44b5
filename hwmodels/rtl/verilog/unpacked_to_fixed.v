// An unpacked number shifted to exact fixed point: +-significand * 2^(exponent - LOWEST).
module unpacked_to_fixed #(
    parameter EXPONENT = 5,
    parameter BITS = 8,
    parameter LOWEST = 2,  // smallest exponent that occurs
    parameter WIDTH = 37   // BITS + largest exponent - LOWEST + 1
) (
    input                    sign,
    input  [EXPONENT-1:0]    exponent,
    input  [BITS-1:0]        significand,
    output signed [WIDTH-1:0] fixed
);
    localparam [EXPONENT-1:0] BASE = LOWEST;
    wire [EXPONENT-1:0] shift = exponent - BASE;
    wire [WIDTH-1:0] magnitude = {{WIDTH-BITS{1'b0}}, significand} << shift;
    assign fixed = sign ? -magnitude : magnitude;
endmodule
