// Whether a number cut off between two neighbours moves on to the upper one.
// guard: the first bit cut off; sticky: whether any later one is set; odd: last bit of what is kept.
// SIGN_MAGNITUDE = 1: what is kept is a magnitude, cut toward zero; 0: two's complement, cut toward minus infinity.
module rounding #(
    parameter MODE = "nearest_even",
    parameter SIGN_MAGNITUDE = 0
) (
    input      negative,
    input      odd,
    input      guard,
    input      sticky,
    output reg increment
);
    wire inexact = guard | sticky;
    wire upward = SIGN_MAGNITUDE ? ~negative : 1'b1;  // the upper neighbour is the one toward plus infinity
    wire outward = SIGN_MAGNITUDE ? 1'b1 : ~negative;  // the upper neighbour is the one away from zero

    always @*
        case (MODE)
            "nearest_even":   increment = guard & (sticky | odd);
            "nearest_odd":    increment = guard & (sticky | ~odd);
            "nearest_away":   increment = guard & (sticky | outward);
            "nearest_zero":   increment = guard & (sticky | ~outward);
            "nearest_up":     increment = guard & (sticky | upward);
            "nearest_down":   increment = guard & (sticky | ~upward);
            "floor":          increment = inexact & ~upward;
            "ceil":           increment = inexact & upward;
            "toward_zero":    increment = inexact & ~outward;
            "away_from_zero": increment = inexact & outward;
            "to_odd":         increment = inexact & ~odd;
            default:          increment = 1'bx;
        endcase
endmodule
