// Processing element of a weight-stationary systolic array: the weight stays, activations pass to the next column and
// partial sums to the next row, a cycle later.
module weight_stationary_pe #(
    parameter WEIGHT_BITS = 9,      // operands with a sign bit of their own
    parameter ACTIVATION_BITS = 9,
    parameter PARTIAL_BITS = 32
) (
    input                                    clk,
    input                                    load,
    input      signed [WEIGHT_BITS-1:0]      weight_in,
    input      signed [ACTIVATION_BITS-1:0]  activation_in,
    input      signed [PARTIAL_BITS-1:0]     partial_in,
    output reg signed [ACTIVATION_BITS-1:0]  activation_out,
    output reg signed [PARTIAL_BITS-1:0]     partial_out
);
    reg signed [WEIGHT_BITS-1:0] weight;
    always @(posedge clk) begin
        if (load) weight <= weight_in;
        activation_out <= activation_in;
        partial_out <= partial_in + weight * activation_in;
    end
endmodule
