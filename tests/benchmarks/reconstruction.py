"""What gradient-based tuning adds to the GPTQ solution on the networks of ../shared/zoo.

    python -m tests.benchmarks.reconstruction --networks dscnn --formats w2a8 --after brecq+qat --seeds 0,1,2

Prints top-1 and agreement with float32 of the start and of each result, and the processor seconds. Asserts nothing.
"""

from __future__ import annotations

import argparse
import time

import torch

import qsim
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.reconstruction import make_plan_steps
from tests.benchmarks.ptq import FORMATS, METHODS, open_network, specs_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", default="dscnn")
    parser.add_argument("--formats", default="w2a8", help=f"of {', '.join(FORMATS)}; +fl8: first, last 8 bit")
    parser.add_argument("--after", default="brecq,qat", help="steps on plans; a+b: one after the other")
    parser.add_argument("--start", default="gptq_refit", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--samples", type=int, default=None, help="evaluation samples (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for network in arguments.networks.split(","):
        graph, data = open_network(network, arguments.samples)
        inputs = dict(data.evaluation)
        reference = qsim.emulate(graph, None, inputs).output.argmax(1)

        def show(text: str, plan: qsim.BitPlan, seconds: float) -> None:
            answer = qsim.emulate(graph, plan, inputs, arithmetic="fast").output.argmax(1)  # noqa: B023
            top1, agree = (answer == data.labels).mean(), (answer == reference).mean()  # noqa: B023
            print(f"{text:50} {100 * top1:7.2f} {100 * agree:7.2f} {seconds:7.1f}", flush=True)

        how = Calibration(activations="output", steps=METHODS[arguments.start])
        builder = PlanBuilder.calibrate(graph, data.calibration, how)
        for name in arguments.formats.split(","):
            begin = time.process_time()
            start = builder.build(specs_of(graph, *FORMATS[name.partition("+")[0]], name.partition("+")[2]))
            show(f"{network} {name} {arguments.start}", start, time.process_time() - begin)
            for chain in arguments.after.split(","):
                for seed in map(int, arguments.seeds.split(",")):
                    begin, plan = time.process_time(), start
                    for step in make_plan_steps(chain.split("+")):
                        plan = step(graph, plan, data.calibration, seed=seed, track=None)
                    show(f"{network} {name} {chain} seed {seed}", plan, time.process_time() - begin)


if __name__ == "__main__":
    main()
