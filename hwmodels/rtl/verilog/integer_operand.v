// The integer that a code stands for, with a sign bit of its own.
// KIND "two": two's complement; "unsigned"; "bipolar": code c is the odd number 2 c - (2^BITS - 1).
module integer_operand #(
    parameter BITS = 8,
    parameter KIND = "two"
) (
    input         [BITS-1:0] code,
    output signed [BITS:0]   value
);
    assign value = KIND == "bipolar"  ? $signed(({code, 1'b1}) ^ ({1'b1, {BITS{1'b0}}}))
                 : KIND == "unsigned" ? $signed({1'b0, code})
                 : $signed({code[BITS-1], code});
endmodule
