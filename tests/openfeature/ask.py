"""Asks flags through the OpenFeature SDK, as an application would.

In: {"url": …, "questions": [{"flag", "default", "context"}, …]}. Out: what the SDK answered, in order.
The default's type says which of the SDK's methods is called.
"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

asked = json.load(sys.stdin)
api.set_provider(OFREPProvider(asked["url"]))
client = api.get_client()
methods = {bool: client.get_boolean_details, str: client.get_string_details}

answers = []
for question in asked["questions"]:
    context = dict(question["context"])
    context = EvaluationContext(context.pop("targetingKey", None), context)
    details = methods[type(question["default"])](question["flag"], question["default"], context)
    answers.append(
        {
            "value": details.value,
            "variant": details.variant,
            "reason": details.reason,
            "error": details.error_code,
            "revision": details.flag_metadata.get("revision"),
        }
    )
json.dump(answers, sys.stdout)
