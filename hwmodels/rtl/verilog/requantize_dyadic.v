// code = saturate(round(acc * multiplier / 2^shift) + zero_point), in integers; shift is 0 to 62.
// TIES "up": floor(x + 1/2), the rules dyadic and tflite_single; "even": dyadic_even.
module requantize_dyadic #(
    parameter ACC_BITS = 32,
    parameter MULTIPLIER_BITS = 16,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 1,
    parameter TIES = "up"
) (
    input signed [ACC_BITS-1:0]        acc,
    input        [MULTIPLIER_BITS-1:0] multiplier,
    input        [5:0]                 shift,
    input        [OUT_BITS-1:0]        zero_point,
    output       [OUT_BITS-1:0]        code
);
    localparam WIDE = ACC_BITS + MULTIPLIER_BITS + 2;
    wire signed [ACC_BITS+MULTIPLIER_BITS:0] product = acc * $signed({1'b0, multiplier});
    wire signed [WIDE-1:0] extended = product;
    wire signed [WIDE-1:0] doubled_floor = (extended <<< 1) >>> shift;  // its last bit counts half a step
    wire is_odd = doubled_floor[1];
    wire [WIDE-1:0] below_half = ~({WIDE{1'b1}} << shift) >> 1;         // shift - 1 ones
    wire below = |(extended & below_half);
    wire up = doubled_floor[0] & (TIES == "up" || below || is_odd);
    wire signed [WIDE-1:0] rounded = (doubled_floor >>> 1) + $signed({1'b0, up});
    offset_saturate #(.IN_BITS(WIDE), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)) last (
        .value(rounded), .zero_point(zero_point), .code(code)
    );
endmodule
