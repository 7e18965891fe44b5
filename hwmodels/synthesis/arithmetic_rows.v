// Sums and products as FPGA vendors map them, for Yosys' techmap: a sum is one carry chain; a product is a balanced
// tree of rows (one operand gated by a bit of the other), the low part a power of two of rows. Plain Yosys builds
// carry-save trees of look-up tables instead, which take about a quarter more of them (flow xcup_rows against xcup_std
// of ../shared/golden/hw).
(* techmap_celltype = "$add $sub" *)
module sum_as_one_chain #(
    parameter A_SIGNED = 0,
    parameter B_SIGNED = 0,
    parameter A_WIDTH = 1,
    parameter B_WIDTH = 1,
    parameter Y_WIDTH = 1
) (
    input  [A_WIDTH-1:0] A,
    input  [B_WIDTH-1:0] B,
    output [Y_WIDTH-1:0] Y
);
    parameter _TECHMAP_CELLTYPE_ = "";
    localparam SUBTRACT = _TECHMAP_CELLTYPE_ == "$sub";
    wire [Y_WIDTH-1:0] propagate, carry;
    \$alu #(
        .A_SIGNED(A_SIGNED), .B_SIGNED(B_SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)
    ) chain (.A(A), .B(B), .BI(SUBTRACT ? 1'b1 : 1'b0), .CI(SUBTRACT ? 1'b1 : 1'b0), .Y(Y), .X(propagate), .CO(carry));
endmodule

(* techmap_celltype = "$mul" *)
module product_longer_operand_first #(
    parameter A_SIGNED = 0,
    parameter B_SIGNED = 0,
    parameter A_WIDTH = 1,
    parameter B_WIDTH = 1,
    parameter Y_WIDTH = 1
) (
    input  [A_WIDTH-1:0] A,
    input  [B_WIDTH-1:0] B,
    output [Y_WIDTH-1:0] Y
);
    localparam FULL = A_WIDTH + B_WIDTH;
    localparam IS_SIGNED = A_SIGNED && B_SIGNED;
    wire [FULL-1:0] product;
    generate
        if (A_WIDTH >= B_WIDTH) begin : straight
            \$__row_tree #(
                .LONG_SIGNED(A_SIGNED), .SHORT_SIGNED(B_SIGNED), .LONG(A_WIDTH), .SHORT(B_WIDTH)
            ) tree (.long(A), .short(B), .product(product));
        end else begin : swapped
            \$__row_tree #(
                .LONG_SIGNED(B_SIGNED), .SHORT_SIGNED(A_SIGNED), .LONG(B_WIDTH), .SHORT(A_WIDTH)
            ) tree (.long(B), .short(A), .product(product));
        end
        if (Y_WIDTH <= FULL) begin : cut
            assign Y = product[Y_WIDTH-1:0];
        end else begin : extend
            assign Y = {{(Y_WIDTH-FULL){IS_SIGNED ? product[FULL-1] : 1'b0}}, product};
        end
    endgenerate
endmodule

(* techmap_celltype = "$__row_tree" *)
module row_tree #(
    parameter LONG_SIGNED = 0,
    parameter SHORT_SIGNED = 0,
    parameter LONG = 1,
    parameter SHORT = 1
) (
    input  [LONG-1:0]       long,
    input  [SHORT-1:0]      short,
    output [LONG+SHORT-1:0] product
);
    // Rows of the low part; the top bit of a signed operand counts negative and is always in the high part.
    localparam LOW = SHORT > 16 ? 16 : SHORT > 8 ? 8 : SHORT > 4 ? 4 : SHORT > 2 ? 2 : 1;
    localparam HIGH = SHORT - LOW;
    localparam ABOVE = LONG + HIGH;  // bits of the product that the high part reaches
    generate
        if (SHORT == 1) begin : row
            wire [LONG-1:0] gated = long & {LONG{short}};
            if (SHORT_SIGNED) begin : negative
                \$sub #(
                    .A_SIGNED(LONG_SIGNED), .B_SIGNED(LONG_SIGNED), .A_WIDTH(1), .B_WIDTH(LONG), .Y_WIDTH(LONG + 1)
                ) negate (.A(1'b0), .B(gated), .Y(product));
            end else begin : positive
                assign product = {LONG_SIGNED ? gated[LONG-1] : 1'b0, gated};
            end
        end else begin : tree
            wire [LONG+LOW-1:0] low;
            wire [LONG-1:0] low_above = low[LONG+LOW-1:LOW];
            wire [ABOVE-1:0] above;
            \$__row_tree #(
                .LONG_SIGNED(LONG_SIGNED), .SHORT_SIGNED(0), .LONG(LONG), .SHORT(LOW)
            ) low_rows (.long(long), .short(short[LOW-1:0]), .product(low));
            assign product = {above, low[LOW-1:0]};
            if (HIGH == 1 && SHORT_SIGNED) begin : subtract_last
                \$sub #(
                    .A_SIGNED(LONG_SIGNED), .B_SIGNED(LONG_SIGNED), .A_WIDTH(LONG), .B_WIDTH(LONG), .Y_WIDTH(ABOVE)
                ) join_ (.A(low_above), .B(long & {LONG{short[LOW]}}), .Y(above));
            end else if (HIGH == 1) begin : add_last
                \$add #(
                    .A_SIGNED(LONG_SIGNED), .B_SIGNED(LONG_SIGNED), .A_WIDTH(LONG), .B_WIDTH(LONG), .Y_WIDTH(ABOVE)
                ) join_ (.A(low_above), .B(long & {LONG{short[LOW]}}), .Y(above));
            end else begin : join_parts
                wire [ABOVE-1:0] high;
                wire [ABOVE-1:0] extended = {{HIGH{LONG_SIGNED ? low_above[LONG-1] : 1'b0}}, low_above};
                \$__row_tree #(
                    .LONG_SIGNED(LONG_SIGNED), .SHORT_SIGNED(SHORT_SIGNED), .LONG(LONG), .SHORT(HIGH)
                ) high_rows (.long(long), .short(short[SHORT-1:LOW]), .product(high));
                \$add #(
                    .A_SIGNED(0), .B_SIGNED(0), .A_WIDTH(ABOVE), .B_WIDTH(ABOVE), .Y_WIDTH(ABOVE)
                ) join_ (.A(extended), .B(high), .Y(above));
            end
        end
    endgenerate
endmodule
