// Dot product of two vectors of +1 and -1 (bit 1 and 0): twice the number of equal bits, less LANES.
module xnor_popcount #(
    parameter LANES = 8
) (
    input         [LANES-1:0]         a,
    input         [LANES-1:0]         b,
    output signed [$clog2(LANES)+1:0] sum
);
    wire [2*LANES-1:0] equal;  // each bit with a zero sign bit
    wire signed [$clog2(LANES)+1:0] count;
    genvar i;
    generate
        for (i = 0; i < LANES; i = i + 1) begin : lane
            assign equal[2*i +: 2] = {1'b0, a[i] ~^ b[i]};
        end
    endgenerate
    adder_tree #(.LANES(LANES), .WIDTH(2)) tree (.addends(equal), .sum(count));
    assign sum = (count <<< 1) - LANES;
endmodule
