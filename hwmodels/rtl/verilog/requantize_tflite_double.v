// gemmlowp's two roundings: high half of 2 * acc * multiplier, ties up, then a right shift, ties away from zero.
// multiplier has 31 bits; the real factor is multiplier / 2^shift. Below 31, shift first moves the accumulator left.
module requantize_tflite_double #(
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 1
) (
    input signed [31:0]         acc,
    input        [30:0]         multiplier,
    input        [5:0]          shift,
    input        [OUT_BITS-1:0] zero_point,
    output       [OUT_BITS-1:0] code
);
    wire [5:0] left = shift < 31 ? 6'd31 - shift : 6'd0;
    wire [5:0] right = shift > 31 ? shift - 6'd31 : 6'd0;
    wire signed [31:0] scaled = acc << left;
    wire signed [63:0] product = scaled * $signed({1'b0, multiplier});
    wire signed [63:0] half_up = product + 64'sh4000_0000;
    wire signed [32:0] high = half_up >>> 31;
    wire signed [32:0] saturated = high > 33'sh0_7fff_ffff ? 33'sh0_7fff_ffff : high;

    wire signed [33:0] half = right == 0 ? 34'sd0 : 34'sd1 <<< (right - 6'd1);
    wire signed [33:0] away = saturated[32] && right != 0 ? -34'sd1 : 34'sd0;
    wire signed [33:0] rounded = (saturated + half + away) >>> right;
    offset_saturate #(.IN_BITS(34), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)) last (
        .value(rounded), .zero_point(zero_point), .code(code)
    );
endmodule
