// A word shifted left until its top bit is one, and by how much; a zero word stays zero.
module normalize #(
    parameter WIDTH = 8,
    parameter COUNT_BITS = 3  // $clog2(WIDTH), at least 1
) (
    input      [WIDTH-1:0]      word,
    output reg [WIDTH-1:0]      shifted,
    output reg [COUNT_BITS-1:0] count
);
    integer stage;
    always @* begin
        shifted = word;
        count = 0;
        for (stage = $clog2(WIDTH) - 1; stage >= 0; stage = stage - 1)
            if (shifted >> (WIDTH - (1 << stage)) == 0) begin  // the top 2^stage bits are zero
                shifted = shifted << (1 << stage);
                count[stage] = 1'b1;
            end
    end
endmodule
