"""Holds requests to Discord's own description: one JSON object a line on stdin ({"method", "body"}), one line of faults on
stdout if any, and at the end how many had a body that is described."""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DESCRIPTION = json.loads((Path(__file__).parent / "../corpus/chat/discord_messages.json").read_text())
REGISTRY = Registry().with_resource("discord", Resource.from_contents(DESCRIPTION, default_specification=DRAFT202012))


def one(name):
    return {"$ref": f"discord#/components/schemas/{name}"}


def several(*names):
    return {"anyOf": [one(name) for name in names]}


COMMANDS = {"type": ["array", "null"], "items": one("ApplicationCommandUpdateRequest"), "maxItems": 130}
BODIES = {
    "PUT /applications/{application}/commands": COMMANDS,
    "PUT /applications/{application}/guilds/{guild}/commands": COMMANDS,
    "POST /channels/{channel}/messages": one("MessageCreateRequest"),
    "PATCH /channels/{channel}/messages/{message}": one("MessageEditRequestPartial"),
    "POST /channels/{channel}/messages/{message}/threads": one("CreateTextThreadWithMessageRequest"),
    "POST /users/@me/channels": one("CreatePrivateChannelRequest"),
    "POST /interactions/{interaction}/{token}/callback": several(
        "ApplicationCommandAutocompleteCallbackRequest",
        "CreateMessageInteractionCallbackRequest",
        "ModalInteractionCallbackRequest",
        "PongInteractionCallbackRequest",
        "UpdateMessageInteractionCallbackRequest",
    ),
    "POST /webhooks/{application}/{token}": one("IncomingWebhookRequestPartial"),
    "PATCH /webhooks/{application}/{token}/messages/{message}": one("IncomingWebhookUpdateRequestPartial"),
}

count = 0
for line in sys.stdin:
    request = json.loads(line)
    method, body = request["method"], request["body"]
    if method not in BODIES:
        if not method.startswith(("GET ", "DELETE ")):
            print(f"{method}: not described")
        continue
    for fault in Draft202012Validator(BODIES[method], registry=REGISTRY).iter_errors(body):
        print(f"{method}: {fault.json_path}: {fault.message[:300]}")
    count += 1
print(f"{count} requests")
