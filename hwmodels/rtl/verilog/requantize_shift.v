// code = saturate(floor(acc / 2^shift + 1/2) + zero_point): a multiplier that is a power of two.
module requantize_shift #(
    parameter ACC_BITS = 32,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 1
) (
    input signed [ACC_BITS-1:0] acc,
    input        [5:0]          shift,
    input        [OUT_BITS-1:0] zero_point,
    output       [OUT_BITS-1:0] code
);
    wire signed [ACC_BITS:0] doubled = {acc, 1'b0};
    wire signed [ACC_BITS:0] doubled_floor = doubled >>> shift;
    wire signed [ACC_BITS+1:0] rounded = (doubled_floor >>> 1) + $signed({1'b0, doubled_floor[0]});
    offset_saturate #(.IN_BITS(ACC_BITS + 2), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)) last (
        .value(rounded), .zero_point(zero_point), .code(code)
    );
endmodule
