// A two's complement number with DROP fraction bits too many, rounded and brought into the range of the result.
// LOW and HIGH bound the result ("saturate"); out-of-range numbers may also "wrap", become zero ("saturate_zero"), or
// wrap as ap_fixed's AP_WRAP_SM does ("wrap_sign_magnitude": the first bit above the code, before rounding, is the sign).
module fixed_cast #(
    parameter IN_BITS = 16,
    parameter DROP = 0,
    parameter OUT_BITS = 8,
    parameter signed [OUT_BITS:0] LOW = -128,
    parameter signed [OUT_BITS:0] HIGH = 127,
    parameter ROUNDING = "nearest_even",
    parameter OVERFLOW = "saturate"
) (
    input  signed [IN_BITS-1:0]  in,
    output        [OUT_BITS-1:0] out
);
    localparam WIDE = (IN_BITS > OUT_BITS ? IN_BITS : OUT_BITS) + 2;
    wire signed [WIDE-1:0] extended = in;
    wire signed [WIDE-1:0] floored = extended >>> DROP;
    wire increment;
    generate
        if (DROP == 0) begin : exact
            assign increment = 1'b0;
        end else begin : inexact
            wire [DROP-1:0] rest = extended[DROP-1:0];
            rounding #(.MODE(ROUNDING)) decision (
                .negative(in[IN_BITS-1]), .odd(floored[0]),
                .guard(rest[DROP-1]), .sticky(|(rest & ~({{DROP-1{1'b0}}, 1'b1} << (DROP - 1)))),
                .increment(increment)
            );
        end
    endgenerate
    wire signed [WIDE-1:0] rounded = floored + $signed({1'b0, increment});

    wire too_low = rounded < LOW;
    wire too_high = rounded > HIGH;
    generate
        if (OVERFLOW == "wrap") begin : wraps
            assign out = rounded[OUT_BITS-1:0];
        end else if (OVERFLOW == "wrap_sign_magnitude") begin : wraps_sign_magnitude
            wire flip = (too_low | too_high) & (floored[OUT_BITS] ^ rounded[OUT_BITS-1]);
            assign out = rounded[OUT_BITS-1:0] ^ {OUT_BITS{flip}};
        end else if (OVERFLOW == "saturate_zero") begin : zeroes
            assign out = (too_low | too_high) ? {OUT_BITS{1'b0}} : rounded[OUT_BITS-1:0];
        end else begin : saturates
            assign out = too_low ? LOW[OUT_BITS-1:0] : too_high ? HIGH[OUT_BITS-1:0] : rounded[OUT_BITS-1:0];
        end
    endgenerate
endmodule
