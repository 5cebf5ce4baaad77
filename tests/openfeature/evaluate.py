"""Evaluates flagd definitions with flagd's own engine, as an SDK does that evaluates itself.

In: {"now": seconds since 1970, "cases": [{"definition", "questions": [{"flag", "default", "context"}, …]}, …]}.
Out: the values, in order, of all cases.
"""

import json
import sys
import time

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

asked = json.load(sys.stdin)
time.time = lambda: asked["now"]
values = []
for case in asked["cases"]:
    core = FlagdCore()
    core.set_flags(case["definition"])
    for question in case["questions"]:
        methods = {bool: core.resolve_boolean_value, str: core.resolve_string_value}
        context = dict(question["context"])
        context = EvaluationContext(context.pop("targetingKey", None), context)
        details = methods[type(question["default"])](question["flag"], question["default"], context)
        values.append(details.value)
json.dump(values, sys.stdout)
