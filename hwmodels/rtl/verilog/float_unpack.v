// The code of a float as sign, exponent and significand:
// (-1)^sign * significand * 2^(exponent - bias - MANTISSA). Subnormal numbers have exponent 1 and no hidden bit.
module float_unpack #(
    parameter EXPONENT = 4,
    parameter MANTISSA = 3,
    parameter SIGNED = 1,
    parameter SUBNORMALS = 1  // 0: the codes of exponent 0 are all zero
) (
    input      [SIGNED+EXPONENT+MANTISSA-1:0] code,
    output                                    sign,
    output     [EXPONENT-1:0]                 exponent,
    output reg [MANTISSA:0]                   significand
);
    wire [EXPONENT-1:0] field = code[EXPONENT+MANTISSA-1:MANTISSA];
    wire is_normal = |field;
    assign sign = SIGNED ? code[SIGNED+EXPONENT+MANTISSA-1] : 1'b0;
    assign exponent = is_normal ? field : {{EXPONENT{1'b0}}, 1'b1};
    always @* begin
        significand = code[MANTISSA:0];
        significand[MANTISSA] = is_normal;
        if (!SUBNORMALS && !is_normal) significand = 0;
    end
endmodule
