// Largest of LANES words.
module maximum #(
    parameter LANES = 4,
    parameter BITS = 8,
    parameter KIND = "two"  // see integer_operand
) (
    input      [LANES*BITS-1:0] words,
    output reg [BITS-1:0]       largest
);
    localparam [BITS-1:0] BIASED = KIND == "two" ? 1 << (BITS - 1) : 0;
    integer i;
    always @* begin
        largest = words[BITS-1:0];
        for (i = 1; i < LANES; i = i + 1)
            if ((words[i*BITS +: BITS] ^ BIASED) > (largest ^ BIASED)) largest = words[i*BITS +: BITS];
    end
endmodule
