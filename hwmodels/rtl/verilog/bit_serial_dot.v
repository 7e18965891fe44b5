// Dot product with the weights' bits one a cycle, most significant first: acc <= 2 acc +- sum of the activations whose
// bit is set. `first` marks the top bit, which counts negative in two's complement.
module bit_serial_dot #(
    parameter LANES = 8,
    parameter BITS = 9,           // of an activation, sign included
    parameter WEIGHT_SIGNED = 1,
    parameter ACC_BITS = 24
) (
    input                           clk,
    input                           first,
    input      [LANES-1:0]          weight_bits,
    input      [LANES*BITS-1:0]     activations,
    output reg signed [ACC_BITS-1:0] acc
);
    localparam SUM_BITS = BITS + $clog2(LANES);
    wire [LANES*BITS-1:0] selected;
    wire signed [SUM_BITS-1:0] sum;
    genvar i;
    generate
        for (i = 0; i < LANES; i = i + 1) begin : lane
            assign selected[i*BITS +: BITS] = activations[i*BITS +: BITS] & {BITS{weight_bits[i]}};
        end
    endgenerate
    adder_tree #(.LANES(LANES), .WIDTH(BITS)) tree (.addends(selected), .sum(sum));
    wire signed [ACC_BITS-1:0] doubled = first ? 0 : acc <<< 1;
    always @(posedge clk) acc <= first && WEIGHT_SIGNED ? doubled - sum : doubled + sum;
endmodule
