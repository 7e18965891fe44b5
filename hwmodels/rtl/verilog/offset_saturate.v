// code = saturate(value + zero_point), the last step of every requantizer.
module offset_saturate #(
    parameter IN_BITS = 32,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 1
) (
    input signed [IN_BITS-1:0]  value,
    input        [OUT_BITS-1:0] zero_point,
    output       [OUT_BITS-1:0] code
);
    localparam WIDE = (IN_BITS > OUT_BITS ? IN_BITS : OUT_BITS) + 2;
    localparam signed [OUT_BITS:0] LOW = OUT_SIGNED ? -(1 <<< (OUT_BITS - 1)) : 0;
    localparam signed [OUT_BITS:0] HIGH = OUT_SIGNED ? (1 <<< (OUT_BITS - 1)) - 1 : (1 <<< OUT_BITS) - 1;
    wire signed [OUT_BITS:0] offset = {OUT_SIGNED ? zero_point[OUT_BITS-1] : 1'b0, zero_point};
    wire signed [WIDE-1:0] sum = value + offset;
    assign code = sum < LOW ? LOW[OUT_BITS-1:0] : sum > HIGH ? HIGH[OUT_BITS-1:0] : sum[OUT_BITS-1:0];
endmodule
