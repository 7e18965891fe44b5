"""What a search has to beat: every layer with the same option."""

from __future__ import annotations

from searches.problem import Problem, Selection


def uniform(problem: Problem) -> dict[str, Selection]:
    """For every label that all groups offer, the selection that takes it everywhere (budgets are not asked).

    Groups with a single option keep it: a fixed first or last layer does not rule a baseline out.
    """
    free = [group for group in problem.groups if len(group.options) > 1] or list(problem.groups)
    labels = [option.label for option in free[0].options]
    shared = [label for label in labels if all(any(o.label == label for o in g.options) for g in free)]
    baselines = {}
    for label in shared:
        places = [[option.label for option in group.options] for group in problem.groups]
        baselines[label] = problem.evaluate([names.index(label) if label in names else 0 for names in places])
    return baselines
