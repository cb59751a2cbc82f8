"""Slack's own framework for bots in Python, as a small bot that the suite clicks on. Arguments: socket | http.

It prints "ready PORT" once it can be reached and ends with its standard input."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_bolt import App, BoltRequest
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

CHANNEL, PERSON, EMAIL = (os.environ[name] for name in ["CHANNEL", "PERSON", "PERSON_EMAIL"])
client = WebClient(os.environ["SLACK_BOT"], base_url=os.environ["SLACK_API_URL"] + "/")
app = App(client=client, signing_secret=os.environ["SLACK_SECRET"])
late = []


def button(name, text, style):
    return {"type": "button", "action_id": name, "style": style, "value": "K7Q2M4XA",
            "text": {"type": "plain_text", "text": text}}


CARD = [
    {"type": "header", "text": {"type": "plain_text", "text": "Approval wanted"}},
    {"type": "section", "text": {"type": "mrkdwn", "text": "`delete from orders`"}},
    {"type": "actions", "elements": [button("approve", "Approve", "primary"), button("deny", "Deny", "danger")]},
]
METADATA = {"event_type": "countersign", "event_payload": {"approval": "K7Q2M4XA"}}


def modal(reference):
    plain = lambda text: {"type": "plain_text", "text": text}
    element = {"type": "plain_text_input", "action_id": "text", "max_length": 200}
    return {"type": "modal", "callback_id": "deny", "private_metadata": reference, "title": plain("Deny"),
            "submit": plain("Deny"),
            "blocks": [{"type": "input", "block_id": "reason", "label": plain("Why"), "element": element}]}


def refused(error, call):
    try:
        call()
    except SlackApiError as thrown:
        assert thrown.response["error"] == error, thrown
    else:
        raise AssertionError(f"not refused: {error}")


def api():
    me = client.auth_test()
    assert client.bots_info(bot=me["bot_id"])["bot"]["user_id"] == me["user_id"]
    assert client.team_info()["team"]["id"] == me["team_id"]
    assert client.users_lookupByEmail(email=EMAIL)["user"]["id"] == PERSON
    assert client.users_info(user=PERSON)["user"]["profile"]["email"] == EMAIL
    refused("users_not_found", lambda: client.users_lookupByEmail(email="nobody@example.com"))
    direct = client.conversations_open(users=[PERSON])["channel"]["id"]
    ts = client.chat_postMessage(channel=direct, text="one", blocks=CARD, metadata=METADATA)["ts"]
    assert client.chat_update(channel=direct, ts=ts, text="two", blocks=[])["text"] == "two"
    client.chat_postMessage(channel=direct, text="below", thread_ts=ts)
    thread = client.conversations_replies(channel=direct, ts=ts)["messages"]
    assert [message["text"] for message in thread] == ["two", "below"]
    listed = client.conversations_history(channel=direct, include_all_metadata=True)["messages"]
    assert listed[0]["metadata"] == METADATA, listed
    client.chat_delete(channel=direct, ts=ts)
    refused("message_not_found", lambda: client.chat_delete(channel=direct, ts=ts))
    refused("channel_not_found", lambda: client.chat_postMessage(channel="C404", text="x"))
    long = [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]
    refused("invalid_blocks", lambda: client.chat_postMessage(channel=CHANNEL, text="x", blocks=long))
    client.chat_postEphemeral(channel=CHANNEL, user=PERSON, text="only you")
    client.files_upload_v2(channel=direct, filename="operation.sql", content="select 1")


@app.command("/countersign")
def command(ack, command, client):
    if command["text"] == "late" and not late:
        late.append(True)
        return
    ack("posting")
    client.chat_postMessage(channel=command["channel_id"], text=command["text"], blocks=CARD, metadata=METADATA)


@app.action("approve")
def approve(ack, body, client, respond):
    ack()
    channel, ts = body["channel"]["id"], body["message"]["ts"]
    client.chat_update(channel=channel, ts=ts, text=f"approved by {body['user']['id']}", blocks=[])
    respond(text="thanks", response_type="ephemeral", replace_original=False)


@app.action("deny")
def deny(ack, body, client):
    ack()
    reference = f"{body['channel']['id']} {body['message']['ts']}"
    client.views_open(trigger_id=body["trigger_id"], view=modal(reference))


@app.view("deny")
def denied(ack, view, client):
    reason = view["state"]["values"]["reason"]["text"]["value"]
    if reason == "no":
        ack(response_action="errors", errors={"reason": "more words, please"})
        return
    ack()
    channel, ts = view["private_metadata"].split(" ")
    client.chat_postMessage(channel=channel, thread_ts=ts, text=f"denied: {reason}")


@app.event("app_mention")
def mention(event, client):
    client.chat_postMessage(channel=event["channel"], text=f"hello {event['user']}")


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        answer = app.dispatch(BoltRequest(body=body, headers=dict(self.headers.items())))
        self.send_response(answer.status)
        for name, values in answer.headers.items():
            for value in values:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())

    def log_message(self, *_):
        pass


api()
if sys.argv[1] == "socket":
    SocketModeHandler(app, os.environ["SLACK_APP"]).connect()
    print("ready 0", flush=True)
else:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready {server.server_port}", flush=True)
sys.stdin.read()
os._exit(0)
