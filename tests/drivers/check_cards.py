"""Holds what the bot draws to what Slack and Discord take: one JSON object a line on stdin ({"name"} and of "slack", "view",
"discord" and "discord_change" those that there are), one line of faults on stdout if any."""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

DISCORD = json.loads((Path(__file__).parent / "../corpus/chat/discord_messages.json").read_text())
REGISTRY = Registry().with_resource("discord", Resource.from_contents(DISCORD, default_specification=DRAFT202012))


def discord(name):
    return Draft202012Validator({"$ref": f"discord#/components/schemas/{name}"}, registry=REGISTRY)


def slack_faults(message):
    for given in message["blocks"]:
        block = Block.parse(given)
        if block is None or type(block) is Block:
            yield f"slack: an unknown block: {given}"
            continue
        try:
            block.validate_json()
            for element in getattr(block, "elements", None) or []:
                if hasattr(element, "validate_json"):
                    element.validate_json()
            if block.to_dict() != given:
                yield f"slack: it reads as {block.to_dict()}: {given}"
        except Exception as fault:
            yield f"slack: {fault}: {given}"


def view_faults(view):
    yield from slack_faults(view)
    try:
        View(**view).validate_json()
    except Exception as fault:
        yield f"slack: {fault}: {view}"


def discord_faults(message, name):
    for fault in discord(name).iter_errors(message):
        yield f"discord: {fault.json_path}: {fault.message}"


KINDS = {
    "slack": slack_faults,
    "view": view_faults,
    "discord": lambda message: discord_faults(message, "MessageCreateRequest"),
    "discord_change": lambda message: discord_faults(message, "MessageEditRequestPartial"),
}

count = 0
for line in sys.stdin:
    drawn = json.loads(line)
    kinds = [(kind, value) for kind, value in drawn.items() if kind != "name"]
    if not kinds:
        print(f"{drawn['name']}: nothing to check")
    for kind, value in kinds:
        for fault in KINDS[kind](value):
            print(f"{drawn['name']}: {fault}")
    count += 1
print(f"{count} drawn")
