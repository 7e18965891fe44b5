// How many of COUNT thresholds an input reaches (x >= t), in any order of the thresholds.
module threshold #(
    parameter BITS = 8,
    parameter KIND = "two",   // of input and thresholds, see integer_operand
    parameter COUNT = 3,
    parameter OUT_BITS = 2
) (
    input      [BITS-1:0]       x,
    input      [COUNT*BITS-1:0] thresholds,
    output reg [OUT_BITS-1:0]   level
);
    localparam [BITS-1:0] BIASED = KIND == "two" ? 1 << (BITS - 1) : 0;  // a flipped sign bit orders signed codes
    integer i;
    always @* begin
        level = 0;
        for (i = 0; i < COUNT; i = i + 1)
            level = level + ((x ^ BIASED) >= (thresholds[i*BITS +: BITS] ^ BIASED));
    end
endmodule
