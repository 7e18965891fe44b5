// code = saturate(integer(float(acc) * multiplier) + zero_point), all in one IEEE format, each step rounded once.
// Rule onnx: binary32, ties to even; float: binary64, ties to even; tflite_float: binary64, ties away from zero.
module requantize_float #(
    parameter ACC_BITS = 32,
    parameter EXPONENT = 8,
    parameter MANTISSA = 23,
    parameter BIAS = 127,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 1,
    parameter ROUNDING = "nearest_even"  // from float to integer
) (
    input signed [ACC_BITS-1:0]          acc,
    input        [EXPONENT+MANTISSA:0]   multiplier,
    input        [OUT_BITS-1:0]          zero_point,
    output       [OUT_BITS-1:0]          code
);
    localparam [EXPONENT+MANTISSA-1:0] INFINITY = {{EXPONENT{1'b1}}, {MANTISSA{1'b0}}};
    localparam [EXPONENT+MANTISSA-1:0] TOP = INFINITY - 1'b1;
    // Two bits more than the result, so that saturating before the zero point is added changes nothing.
    localparam WHOLE_BITS = OUT_BITS + 2;

    wire acc_sign;
    wire no_exponent;
    wire [ACC_BITS-1:0] acc_magnitude;
    integer_unpack #(.BITS(ACC_BITS)) unpack_acc (
        .value(acc), .sign(acc_sign), .exponent(no_exponent), .significand(acc_magnitude)
    );
    wire [EXPONENT+MANTISSA:0] acc_float;
    float_round #(
        .IN_BITS(ACC_BITS), .EXPONENT_BITS(2), .OFFSET(ACC_BITS - 1 + BIAS), .FIELD_BITS(EXPONENT + 3),
        .EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .TOP(TOP),
        .POSITIVE_OVERFLOW({1'b0, INFINITY}), .NEGATIVE_OVERFLOW({1'b1, INFINITY})
    ) to_float (.sign(acc_sign), .exponent(2'sd0), .significand(acc_magnitude), .code(acc_float));

    wire a_sign, b_sign, product_sign;
    wire [EXPONENT-1:0] a_exponent, b_exponent;
    wire [MANTISSA:0] a_significand, b_significand;
    wire [EXPONENT:0] product_exponent;
    wire [2*MANTISSA+1:0] product_significand;
    float_unpack #(.EXPONENT(EXPONENT), .MANTISSA(MANTISSA)) unpack_a (
        .code(acc_float), .sign(a_sign), .exponent(a_exponent), .significand(a_significand)
    );
    float_unpack #(.EXPONENT(EXPONENT), .MANTISSA(MANTISSA)) unpack_b (
        .code(multiplier), .sign(b_sign), .exponent(b_exponent), .significand(b_significand)
    );
    unpacked_product #(
        .A_EXPONENT(EXPONENT), .A_BITS(MANTISSA + 1), .B_EXPONENT(EXPONENT), .B_BITS(MANTISSA + 1), .EXPONENT(EXPONENT + 1)
    ) multiply (
        .a_sign(a_sign), .a_exponent(a_exponent), .a_significand(a_significand),
        .b_sign(b_sign), .b_exponent(b_exponent), .b_significand(b_significand),
        .sign(product_sign), .exponent(product_exponent), .significand(product_significand)
    );
    wire [EXPONENT+MANTISSA:0] product;
    float_round #(
        .IN_BITS(2 * MANTISSA + 2), .EXPONENT_BITS(EXPONENT + 2), .OFFSET(1 - BIAS), .FIELD_BITS(EXPONENT + 3),
        .EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .TOP(TOP),
        .POSITIVE_OVERFLOW({1'b0, INFINITY}), .NEGATIVE_OVERFLOW({1'b1, INFINITY})
    ) round_product (
        .sign(product_sign), .exponent($signed({1'b0, product_exponent})), .significand(product_significand), .code(product)
    );

    wire signed [WHOLE_BITS+MANTISSA+4:0] fixed;
    float_to_fixed #(
        .EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .INFINITY(INFINITY), .OFFSET(-BIAS - MANTISSA),
        .POSITION_BITS(EXPONENT + 2), .OUT_BITS(WHOLE_BITS)
    ) to_fixed (.code(product), .fixed(fixed));
    wire signed [WHOLE_BITS-1:0] whole;
    fixed_cast #(
        .IN_BITS(WHOLE_BITS + MANTISSA + 5), .DROP(2), .OUT_BITS(WHOLE_BITS),
        .LOW(-(1 <<< (WHOLE_BITS - 1))), .HIGH((1 <<< (WHOLE_BITS - 1)) - 1), .ROUNDING(ROUNDING)
    ) to_whole (.in(fixed), .out(whole));
    offset_saturate #(.IN_BITS(WHOLE_BITS), .OUT_BITS(OUT_BITS), .OUT_SIGNED(OUT_SIGNED)) last (
        .value(whole), .zero_point(zero_point), .code(code)
    );
endmodule
