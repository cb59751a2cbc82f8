// Slack's own framework for bots, as a small bot that the suite clicks on. Arguments: socket | http.
// It prints "ready PORT" once it can be reached and ends with its standard input.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { App } = createRequire(import.meta.url)("@slack/bolt");
const { SLACK_API_URL, SLACK_APP, SLACK_BOT, SLACK_SECRET, CHANNEL, PERSON, PERSON_EMAIL } = process.env;
const isSocket = process.argv[2] === "socket";

const app = new App({
  token: SLACK_BOT,
  signingSecret: SLACK_SECRET,
  ...(isSocket ? { appToken: SLACK_APP, socketMode: true } : {}),
  clientOptions: { slackApiUrl: `${SLACK_API_URL}/`, retryConfig: { retries: 0 } },
});

const button = (id, text, style) => ({ type: "button", action_id: id, style, value: "K7Q2M4XA", text: { type: "plain_text", text } });
const card = [
  { type: "header", text: { type: "plain_text", text: "Approval wanted" } },
  { type: "section", text: { type: "mrkdwn", text: "`delete from orders`" } },
  { type: "actions", elements: [button("approve", "Approve", "primary"), button("deny", "Deny", "danger")] },
];
const modal = (reference) => ({
  type: "modal",
  callback_id: "deny",
  private_metadata: reference,
  title: { type: "plain_text", text: "Deny" },
  submit: { type: "plain_text", text: "Deny" },
  blocks: [{ type: "input", block_id: "reason", label: { type: "plain_text", text: "Why" },
    element: { type: "plain_text_input", action_id: "text", max_length: 200 } }],
});

async function refused(error, call) {
  await assert.rejects(call, (thrown) => thrown.data.error === error);
}

async function api() {
  const { client } = app;
  const self = await client.auth.test();
  assert.equal((await client.bots.info({ bot: self.bot_id })).bot.user_id, self.user_id);
  assert.equal((await client.team.info()).team.id, self.team_id);
  const { user } = await client.users.lookupByEmail({ email: PERSON_EMAIL });
  assert.equal(user.id, PERSON);
  assert.equal((await client.users.info({ user: PERSON })).user.profile.email, PERSON_EMAIL);
  await refused("users_not_found", () => client.users.lookupByEmail({ email: "nobody@example.com" }));
  const { channel } = await client.conversations.open({ users: PERSON });
  const metadata = { event_type: "countersign", event_payload: { approval: "K7Q2M4XA" } };
  const sent = await client.chat.postMessage({ channel: channel.id, text: "one", blocks: card, metadata });
  assert.equal((await client.chat.update({ channel: channel.id, ts: sent.ts, text: "two", blocks: [] })).text, "two");
  await client.chat.postMessage({ channel: channel.id, text: "below", thread_ts: sent.ts });
  const { messages } = await client.conversations.replies({ channel: channel.id, ts: sent.ts });
  assert.deepEqual(messages.map((message) => message.text), ["two", "below"]);
  const history = await client.conversations.history({ channel: channel.id, include_all_metadata: true });
  assert.deepEqual(history.messages[0].metadata, metadata);
  assert.ok(await client.chat.delete({ channel: channel.id, ts: sent.ts }));
  await refused("message_not_found", () => client.chat.delete({ channel: channel.id, ts: sent.ts }));
  await refused("channel_not_found", () => client.chat.postMessage({ channel: "C404", text: "x" }));
  const long = [{ type: "header", text: { type: "plain_text", text: "x".repeat(151) } }];
  await refused("invalid_blocks", () => client.chat.postMessage({ channel: CHANNEL, text: "x", blocks: long }));
  await client.chat.postEphemeral({ channel: CHANNEL, user: PERSON, text: "only you" });
  await client.filesUploadV2({ channel_id: channel.id, filename: "operation.sql", content: "select 1" });
}

app.command("/countersign", async ({ command, ack, client }) => {
  if (command.text === "late" && !late) {
    late = true;
    return;
  }
  await ack("posting");
  const metadata = { event_type: "countersign", event_payload: { approval: "K7Q2M4XA" } };
  await client.chat.postMessage({ channel: command.channel_id, text: command.text, blocks: card, metadata });
});
let late = false;

app.action("approve", async ({ body, ack, client, respond }) => {
  await ack();
  const text = `approved by ${body.user.id}`;
  await client.chat.update({ channel: body.channel.id, ts: body.message.ts, text, blocks: [] });
  await respond({ text: "thanks", response_type: "ephemeral", replace_original: false });
});

app.action("deny", async ({ body, ack, client }) => {
  await ack();
  await client.views.open({ trigger_id: body.trigger_id, view: modal(`${body.channel.id} ${body.message.ts}`) });
});

app.view("deny", async ({ ack, view, client }) => {
  const reason = view.state.values.reason.text.value;
  if (reason === "no") {
    await ack({ response_action: "errors", errors: { reason: "more words, please" } });
    return;
  }
  await ack();
  const [channel, ts] = view.private_metadata.split(" ");
  await client.chat.postMessage({ channel, thread_ts: ts, text: `denied: ${reason}` });
});

app.event("app_mention", async ({ event, client }) => {
  await client.chat.postMessage({ channel: event.channel, text: `hello ${event.user}` });
});

await api();
const server = await app.start(isSocket ? undefined : { port: 0, host: "127.0.0.1" });
console.log(`ready ${isSocket ? 0 : server.address().port}`);
process.stdin.on("end", () => process.exit(0)).resume();
