// discord.js as a small bot that the suite clicks on. Arguments: gateway | http. With http the requests are verified by
// discord-interactions. It prints "ready PORT" once it can be reached and ends with its standard input.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import {
  ActionRowBuilder, ApplicationCommandOptionType, ButtonBuilder, ButtonStyle, Client, EmbedBuilder, Events, GatewayIntentBits,
  MessageFlags, ModalBuilder, REST, Routes, TextInputBuilder, TextInputStyle,
} from "discord.js";
import { InteractionResponseType, InteractionType, verifyKey } from "discord-interactions";

const { DISCORD_API, DISCORD_TOKEN, DISCORD_KEY, APPLICATION, GUILD, CHANNEL, PERSON } = process.env;
const rest = new REST({ api: DISCORD_API, version: "10", retries: 2 }).setToken(DISCORD_TOKEN);

const row = () => new ActionRowBuilder().addComponents(
  new ButtonBuilder().setCustomId("approve:K7Q2M4XA").setLabel("Approve").setStyle(ButtonStyle.Success),
  new ButtonBuilder().setCustomId("deny:K7Q2M4XA").setLabel("Deny").setStyle(ButtonStyle.Danger),
);
const card = (title) => ({
  embeds: [new EmbedBuilder().setTitle(title).setDescription("```\ndelete from orders\n```").toJSON()],
  components: [row().toJSON()],
  allowed_mentions: { parse: [] },
});
const modal = new ModalBuilder().setCustomId("deny:K7Q2M4XA").setTitle("Deny").addComponents(
  new ActionRowBuilder().addComponents(
    new TextInputBuilder().setCustomId("reason").setLabel("Why").setStyle(TextInputStyle.Paragraph).setMaxLength(200)));
const commands = [{
  name: "countersign", description: "Approvals", type: 1,
  options: [{ name: "text", description: "What to do", type: ApplicationCommandOptionType.String, required: true }],
}];

async function refused(code, call) {
  await assert.rejects(call, (thrown) => thrown.code === code || assert.fail(`${thrown.code}: ${thrown.message}`));
}

async function api() {
  assert.equal((await rest.get(Routes.user())).id, APPLICATION);
  assert.equal((await rest.get(Routes.currentApplication())).verify_key, DISCORD_KEY);
  await rest.put(Routes.applicationCommands(APPLICATION), { body: [] });
  await rest.put(Routes.applicationGuildCommands(APPLICATION, GUILD), { body: commands });
  assert.equal((await rest.get(Routes.applicationGuildCommands(APPLICATION, GUILD)))[0].name, "countersign");
  assert.equal((await rest.get(Routes.guild(GUILD))).id, GUILD);
  assert.equal((await rest.get(Routes.guildMember(GUILD, PERSON))).user.id, PERSON);
  await refused(10007, () => rest.get(Routes.guildMember(GUILD, "404")));
  const direct = await rest.post(Routes.userChannels(), { body: { recipient_id: PERSON } });
  const body = { ...card("direct"), nonce: "K7Q2M4XA-1", enforce_nonce: true };
  const sent = await rest.post(Routes.channelMessages(direct.id), { body });
  assert.equal((await rest.post(Routes.channelMessages(direct.id), { body })).id, sent.id);
  const files = [{ name: "operation.sql", data: Buffer.from("select 1"), contentType: "text/plain" }];
  const edited = await rest.patch(Routes.channelMessage(direct.id, sent.id), { body: { content: "two", components: [] }, files });
  assert.equal(edited.attachments[0].filename, "operation.sql");
  assert.equal((await rest.get(Routes.channelMessage(direct.id, sent.id))).content, "two");
  const gone = await rest.post(Routes.channelMessages(direct.id), { body: { content: "gone" } });
  await rest.delete(Routes.channelMessage(direct.id, gone.id));
  await refused(10008, () => rest.get(Routes.channelMessage(direct.id, gone.id)));
  assert.equal((await rest.get(Routes.channelMessages(direct.id))).length, 1);
  const top = await rest.post(Routes.channelMessages(CHANNEL), { body: card("top") });
  const thread = await rest.post(Routes.threads(CHANNEL, top.id), { body: { name: "Outcome" } });
  await rest.post(Routes.channelMessages(thread.id), { body: { content: "in the thread" } });
  await refused(160004, () => rest.post(Routes.threads(CHANNEL, top.id), { body: { name: "Again" } }));
  await refused(10003, () => rest.post(Routes.channelMessages("404"), { body: { content: "x" } }));
  await refused(50006, () => rest.post(Routes.channelMessages(CHANNEL), { body: {} }));
  await refused(50035, () => rest.post(Routes.channelMessages(CHANNEL), { body: { content: "x".repeat(2001) } }));
}

const say = (title, flags) => ({ ...card(title), flags });

function gateway() {
  const client = new Client({ intents: [GatewayIntentBits.Guilds], rest: { api: DISCORD_API } });
  client.on(Events.InteractionCreate, async (interaction) => {
    if (interaction.isChatInputCommand()) {
      const text = interaction.options.getString("text");
      await interaction.deferReply(text === "quiet" ? { flags: MessageFlags.Ephemeral } : {});
      await interaction.editReply(say(text));
      if (text === "quiet") await interaction.followUp({ content: "and more", flags: MessageFlags.Ephemeral });
    } else if (interaction.isButton() && interaction.customId.startsWith("approve")) {
      await interaction.update({ ...card(`approved by ${interaction.user.id}`), components: [] });
    } else if (interaction.isButton()) {
      await interaction.showModal(modal);
    } else if (interaction.isModalSubmit()) {
      await interaction.reply({ content: `denied: ${interaction.fields.getTextInputValue("reason")}` });
    }
  });
  client.on(Events.Error, (error) => console.error(error));
  return new Promise((resolve) => {
    client.once(Events.ClientReady, () => {
      assert.equal(client.guilds.cache.get(GUILD).channels.cache.get(CHANNEL).name, "approvals");
      resolve(0);
    });
    client.login(DISCORD_TOKEN);
  });
}

function answer(interaction) {
  const { type, data } = interaction;
  if (type === InteractionType.PING) return { type: InteractionResponseType.PONG };
  if (type === InteractionType.APPLICATION_COMMAND) {
    const text = data.options[0].value;
    if (text === "quiet") later(interaction, text);
    return text === "quiet"
      ? { type: InteractionResponseType.DEFERRED_CHANNEL_MESSAGE_WITH_SOURCE, data: { flags: 64 } }
      : { type: InteractionResponseType.CHANNEL_MESSAGE_WITH_SOURCE, data: card(text) };
  }
  if (type === InteractionType.MODAL_SUBMIT) {
    const reason = data.components[0].components[0].value;
    return { type: InteractionResponseType.CHANNEL_MESSAGE_WITH_SOURCE, data: { content: `denied: ${reason}` } };
  }
  if (data.custom_id.startsWith("deny")) return { type: InteractionResponseType.MODAL, data: modal.toJSON() };
  const approved = { ...card(`approved by ${interaction.member.user.id}`), components: [] };
  return { type: InteractionResponseType.UPDATE_MESSAGE, data: approved };
}

async function later({ token }, text) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  await rest.patch(Routes.webhookMessage(APPLICATION, token, "@original"), { body: card(text), auth: false });
  await rest.post(Routes.webhook(APPLICATION, token), { body: { content: "and more", flags: 64 }, auth: false });
}

function http() {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const raw = Buffer.concat(chunks);
    const [signature, stamp] = ["x-signature-ed25519", "x-signature-timestamp"].map((name) => request.headers[name]);
    const isFresh = Math.abs(Date.now() / 1000 - Number(stamp)) < 300;
    if (!isFresh || !(await verifyKey(raw, signature, stamp, DISCORD_KEY))) {
      response.writeHead(401).end();
      return;
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer(JSON.parse(raw))));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

await api();
const port = await (process.argv[2] === "gateway" ? gateway() : http());
console.log(`ready ${port}`);
process.stdin.on("end", () => process.exit(0)).resume();
