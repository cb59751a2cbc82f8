// Plays an asciicast in asciinema's own player (its core, without a page around it) to the end, and prints what a
// viewer gets to see. Fails when the player does not take the file.
import { readFileSync, readdirSync } from "node:fs";

const dist = new URL("node_modules/asciinema-player/dist/", import.meta.url);
const core = readdirSync(dist).find((name) => /^core-.*\.js$/.test(name));
const { C: Core } = await import(new URL(core, dist));

const silent = { debug() {}, info() {}, log() {}, warn() {}, error() {} };
const player = new Core({ data: readFileSync(process.argv[2], "utf8") }, { logger: silent, speed: 1 });
let shown = "";
player.addEventListener("output", (texts) => (shown += [texts].flat().join("")));
player.addEventListener("error", (error) => {
  throw new Error(JSON.stringify(error));
});
player.terminalReady();
await player.init();
await player.seek("100%");
const duration = await player.getDuration();
process.stdout.write(`${JSON.stringify({ duration, shown })}\n`);
process.exit(0);
