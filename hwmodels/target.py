"""A target: what layers cost on one piece of hardware, and how they add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwmodels.columns import flattened
from hwmodels.cost import AGGREGATE, BY_NAME, rule_of
from hwmodels.kinds import KINDS
from hwmodels.workload import make_workload

if TYPE_CHECKING:
    import pandas as pd

    from qsim.graph import Layer
    from qsim.spec import Spec

Specs = Sequence["Spec | None"]


@dataclass(frozen=True)
class Target:
    """One piece of hardware.

    name: of its YAML. kind: fpga_streaming, fpga_array, asic_array or mcu. design: the kind's own frozen dataclass of
    facts. objectives: the columns a user of this target looks at first.
    """

    name: str
    kind: str
    design: Any

    @property
    def objectives(self) -> tuple[str, ...]:
        return KINDS[self.kind].objectives

    def layer_costs(
        self,
        layers: Sequence[Layer],
        weights: Specs,
        inputs: Specs,
        outputs: Specs,
        accumulators: Specs,
    ) -> pd.DataFrame:
        """One row per (layer, specs), in the order given; columns and units as in hwmodels.cost.

        A spec of None is unquantized float32; an accumulator of None is exact where that is practical
        (hwmodels.datapath.accumulator). Estimates come with <name>_low90 and <name>_high90. Raises UserError for
        sequences of different lengths or a layer without products.
        """
        import pandas as pd

        if not any(map(len, (layers, weights, inputs, outputs, accumulators))):
            return pd.DataFrame(columns=list(BY_NAME), dtype=np.float64)
        workload = make_workload(layers, weights, inputs, outputs, accumulators)
        costs = flattened(KINDS[self.kind].layer_costs(workload.pairs, self.design))
        table = np.stack(list(costs.values()))[:, workload.index]
        return pd.DataFrame(table.T, columns=list(costs))

    def total(self, costs: pd.DataFrame) -> pd.Series:
        """Costs of a whole network from the rows of its layers.

        Columns add up, or take their maximum or minimum, as hwmodels.AGGREGATE says. Derived: a streaming design
        works on all layers at once, so its rate is that of the slowest layer and its latency every layer's fill plus
        what the slowest still needs after its own; elsewhere layers run one after the other. power_w is energy_j
        times throughput_hz plus static power where the target has a figure for it. Unknown columns are left out.
        """
        import pandas as pd

        totals: dict[str, float] = {}
        for name in costs.columns:
            base = str(name).removesuffix("_low90").removesuffix("_high90")
            if base in AGGREGATE and rule_of(str(name)) != "derived":
                totals[str(name)] = float(getattr(costs[name], rule_of(str(name)))()) if len(costs) else 0.0
        if len(costs):
            totals |= KINDS[self.kind].derive(costs, totals, self.design)
        order = [n for n in costs.columns if n in totals] + [n for n in totals if n not in costs.columns]
        return pd.Series({name: totals[name] for name in order}, dtype=np.float64)
