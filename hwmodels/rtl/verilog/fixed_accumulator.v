// acc <= cast((first ? start : acc) + addend) in two's complement.
// ALIGN_ADDEND / ALIGN_ACC: left shifts that give addend and accumulator the same step; the latter is undone by the cast.
module fixed_accumulator #(
    parameter ADDEND_BITS = 16,
    parameter ACC_BITS = 32,
    parameter ALIGN_ADDEND = 0,
    parameter ALIGN_ACC = 0,
    parameter ACC_SIGNED = 1,
    parameter signed [ACC_BITS:0] LOW = 0,
    parameter signed [ACC_BITS:0] HIGH = 0,
    parameter ROUNDING = "nearest_even",
    parameter OVERFLOW = "wrap"
) (
    input                           clk,
    input                           first,
    input      [ACC_BITS-1:0]       start,
    input signed [ADDEND_BITS-1:0]  addend,
    output reg [ACC_BITS-1:0]       acc
);
    localparam ALIGNED_ADDEND = ADDEND_BITS + ALIGN_ADDEND;
    localparam ALIGNED_ACC = ACC_BITS + 1 + ALIGN_ACC;
    localparam WIDE = (ALIGNED_ADDEND > ALIGNED_ACC ? ALIGNED_ADDEND : ALIGNED_ACC) + 1;
    wire [ACC_BITS-1:0] before = first ? start : acc;
    wire signed [WIDE-1:0] augend = $signed({ACC_SIGNED ? before[ACC_BITS-1] : 1'b0, before});
    wire signed [WIDE-1:0] extended = addend;
    wire signed [WIDE-1:0] sum = (augend <<< ALIGN_ACC) + (extended <<< ALIGN_ADDEND);
    wire [ACC_BITS-1:0] next;
    fixed_cast #(
        .IN_BITS(WIDE), .DROP(ALIGN_ACC), .OUT_BITS(ACC_BITS), .LOW(LOW), .HIGH(HIGH),
        .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW)
    ) cast (.in(sum), .out(next));
    always @(posedge clk) acc <= next;
endmodule
