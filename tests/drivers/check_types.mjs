// Holds what the bot draws for Slack to Slack's own types: one JSON object a line on stdin ({"name"}, with a message as
// "slack" or a modal as "view"), one line of faults on stdout if any, and at the end how many were drawn.
//
// Each stands as a literal in a program that the compiler checks, so that what the types do not know is a fault too.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const prelude = `import type { KnownBlock, ModalView } from '@slack/types';
interface Message { text: string; blocks: KnownBlock[] }
type View = Omit<ModalView, 'blocks'> & { blocks: KnownBlock[] };
`;
const kinds = { slack: 'Message', view: 'View' };

const names = [];
let source = prelude;
for (const line of readFileSync(0, 'utf8').split('\n').filter((line) => line)) {
  const drawn = JSON.parse(line);
  for (const [kind, type] of Object.entries(kinds)) {
    if (drawn[kind] === undefined) continue;
    source += `export const drawn${names.length}: ${type} = ${JSON.stringify(drawn[kind])};\n`;
    names.push(drawn.name);
  }
}

// Beside this script, so that the types are found in its node_modules.
const path = fileURLToPath(new URL('drawn.mts', import.meta.url));
const options = {
  strict: true, exactOptionalPropertyTypes: true, noEmit: true, types: [],
  module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022,
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.fileExists = (name) => name === path || fileExists(name);
host.readFile = (name) => (name === path ? source : readFile(name));
host.getSourceFile = (name, ...more) =>
  name === path ? ts.createSourceFile(name, source, options.target, true) : getSourceFile(name, ...more);

const before = prelude.split('\n').length - 1;
for (const fault of ts.getPreEmitDiagnostics(ts.createProgram([path], options, host))) {
  const text = ts.flattenDiagnosticMessageText(fault.messageText, ' ');
  const line = fault.file?.fileName === path ? fault.file.getLineAndCharacterOfPosition(fault.start).line - before : -1;
  console.log(`${names[line] ?? fault.file?.fileName ?? 'the compiler'}: ${text.slice(0, 2000)}`);
}
console.log(`${names.length} drawn`);
