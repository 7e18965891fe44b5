// A float in two's complement steps of a fixed-point format of OUT_BITS, with two bits below the step: half a step, and
// whether anything lies below. OFFSET is the step count, as a power of two, of the significand's last bit at exponent 0.
// What exceeds the format by far is cut to 2^(OUT_BITS + 1) times its last bits, which still overflows as it should.
module float_to_fixed #(
    parameter EXPONENT = 8,
    parameter MANTISSA = 23,
    parameter SIGNED = 1,
    parameter SUBNORMALS = 1,
    parameter [EXPONENT+MANTISSA-1:0] INFINITY = 0,  // its magnitude code, 0 where there is none
    parameter OFFSET = -150,
    parameter POSITION_BITS = 10,                    // signed bits of OFFSET + exponent
    parameter OUT_BITS = 8
) (
    input  [SIGNED+EXPONENT+MANTISSA-1:0]        code,
    output signed [OUT_BITS+MANTISSA+4:0]        fixed
);
    localparam WIDE = OUT_BITS + MANTISSA + 4;
    localparam RIGHT = MANTISSA + 3;
    localparam signed [POSITION_BITS-1:0] BASE = OFFSET;
    wire sign;
    wire [EXPONENT-1:0] exponent;
    wire [MANTISSA:0] significand;
    float_unpack #(.EXPONENT(EXPONENT), .MANTISSA(MANTISSA), .SIGNED(SIGNED), .SUBNORMALS(SUBNORMALS)) unpack (
        .code(code), .sign(sign), .exponent(exponent), .significand(significand)
    );
    wire is_infinite = |INFINITY && code[EXPONENT+MANTISSA-1:0] == INFINITY;
    wire signed [POSITION_BITS-1:0] position = $signed({1'b0, exponent}) + BASE;
    wire too_far = is_infinite || position > OUT_BITS + 1;
    wire too_small = position < -RIGHT;
    wire [31:0] shift = too_far ? RIGHT + OUT_BITS + 1 : too_small ? 0 : position + RIGHT;

    // The significand starts RIGHT places below where two fraction bits are kept; `shift` moves it up.
    wire [WIDE+RIGHT-1:0] shifted = {{WIDE+RIGHT-MANTISSA-3{1'b0}}, significand, 2'b00} << shift;
    wire [WIDE-1:0] magnitude = {shifted[WIDE+RIGHT-1:RIGHT+1], |shifted[RIGHT:0]};
    assign fixed = sign ? -$signed({1'b0, magnitude}) : $signed({1'b0, magnitude});
endmodule
