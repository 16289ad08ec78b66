// node main.mjs DIRECTORY REPORT: as e2b_js/main.mjs, for the code interpreter's package.

import { readdir, writeFile } from 'node:fs/promises';

import { E2BTest, OTHERWISE } from '../e2b_js/e2b.mjs';
import { load, Watch } from '../e2b_js/package.mjs';
import { needless, runAll } from '../js/harness.mjs';

const [directory, report] = process.argv.slice(2);

const sdk = await load(directory, '@e2b/code-interpreter', true);
const watch = new Watch(sdk);

const here = new URL('tests/', import.meta.url);
for (const file of (await readdir(here)).sort()) await import(new URL(file, here));

class CodeTest extends E2BTest {
  // One for all tests that leave each other's things alone.
  get shared() {
    return (place.sandbox ??= sdk.exported.Sandbox.create({ timeoutMs: 300_000, envs: { COLOUR: 'blue' } }));
  }

  // What runCode gave, and its parts, are watched from here on.
  seen(execution) {
    for (const each of [execution, ...execution.results]) watch.meet(each.constructor);
    return execution;
  }

  async own(options = {}) {
    return this.ending(await sdk.exported.Sandbox.create({ timeoutMs: 120_000, ...options }));
  }
}

const place = { sdk, facts: process.env, otherwise: OTHERWISE };
const results = await runAll(place, CodeTest);
await (await place.sandbox)?.kill();
const { version, rows } = sdk;
await writeFile(report, JSON.stringify({ version, rows, results, needless: needless(results, place) }));
process.exit(0); // the client leaves sockets open
