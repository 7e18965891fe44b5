// Sum of LANES signed words in a balanced tree that widens by one bit a level.
module adder_tree #(
    parameter LANES = 4,
    parameter WIDTH = 8
) (
    input         [LANES*WIDTH-1:0]         addends,
    output signed [WIDTH+$clog2(LANES)-1:0] sum
);
    localparam LOW = LANES / 2;
    localparam HIGH = LANES - LOW;
    generate
        if (LANES == 1) begin : leaf
            assign sum = addends;
        end else begin : node
            wire signed [WIDTH+$clog2(LOW)-1:0] low;
            wire signed [WIDTH+$clog2(HIGH)-1:0] high;
            adder_tree #(.LANES(LOW), .WIDTH(WIDTH)) left (.addends(addends[LOW*WIDTH-1:0]), .sum(low));
            adder_tree #(.LANES(HIGH), .WIDTH(WIDTH)) right (.addends(addends[LANES*WIDTH-1:LOW*WIDTH]), .sum(high));
            assign sum = low + high;
        end
    endgenerate
endmodule
